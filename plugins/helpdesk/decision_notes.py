"""What a decision that was clicked elsewhere writes into the ticket: the label's field, and a note. Pure; knows neither HTTP nor storage."""

from collections.abc import Mapping

from bot.plugin_api import Decision, FeedbackKind, TaskKind


def choose_fields(fields: Mapping[str, str], *, label_field: str, value: str, ours: str) -> tuple[Mapping[str, str], bool]:
    """Return what a decision writes into the label's field, and whether it gives way to what stands there.

    `value` stands for the decided label (empty: none), `ours` is what we wrote. A choice made in the helpdesk is never written over.
    """
    now = fields.get(label_field, "") if label_field else ""
    if not label_field or not value or now == value:
        return {}, False
    return ({label_field: value}, False) if now in ("", ours) else ({}, True)


def render_decision(decision: Decision, *, marker: str, is_written: bool, is_left: bool) -> str:
    """Return the note, for those who may see the ticket; empty where nothing in the ticket changes and nothing new is said."""
    lines = []
    if decision.task is TaskKind.SUMMARY:
        if decision.kind is FeedbackKind.EDIT and decision.value:
            lines = [f"{decision.actor} wrote the summary anew in Understudy:", decision.value]
    elif decision.kind is FeedbackKind.HANDOFF:
        lines = [f"{decision.actor} handed this ticket off in Understudy: a person has to look at it."]
    elif decision.label and (is_written or is_left or decision.kind is not FeedbackKind.ACCEPT):
        shown = f" (suggested: {decision.suggested})" if decision.suggested and decision.suggested != decision.label else ""
        lines = [f"{decision.actor} chose {decision.label}{shown} in Understudy."]
    if is_left:
        lines.append("The field stays as it was chosen here.")
    if not lines:
        return ""
    if decision.reason:
        lines.append(f"Why: {decision.reason}")
    return "\n".join([*lines, "", f"[{marker}]"])
