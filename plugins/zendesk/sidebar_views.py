"""What the sidebar app is shown: a ticket's card, decision and summary as JSON, and what a decision puts into the ticket's fields.

Pure. A blind ticket's suggestion is not in it until somebody has chosen. Texts are unmasked: for those who may see the ticket.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from bot.plugin_api import Classification, FeedbackKind, LabelSet, Summary, TicketDetail, TicketStatus

SHOWN_ALTERNATIVES = 3
TITLE_CHARS = 60
POLL_S = 2
WITHHELD = "Personal data in this ticket could not be masked safely, so it was neither stored nor shown to the model."
_PLAIN_FIELDS = frozenset({"priority", "type"})
View = dict[str, Any]


def build_waiting(labels: LabelSet) -> View:
    """The ticket is being looked at: ask again soon."""
    return {"state": "waiting", "poll_after_s": POLL_S, "labels": _build_labels(labels)}


def build_view(
    detail: TicketDetail, labels: LabelSet, *, is_paused: bool, agent_id: str, macro: str, undo_actor: str
) -> View | None:
    """Return what the app shows of a ticket, or None where the ticket is still being looked at.

    `macro` is the macro chosen for the suggestion, `undo_actor` whose decision can be taken back here.
    """
    card = detail.classification
    among = card.labels if card is not None else ()
    view: View = {"labels": _build_labels(labels, among), "summary": build_summary(detail.summary, detail.summary_decision)}
    if detail.decision is not None:
        return view | _build_decided(detail, labels, agent_id=agent_id, undo_actor=undo_actor)
    if card is None or card.label is None:
        if detail.item.status is TicketStatus.WITHHELD:
            return view | {"state": "none", "notice": (card.notice if card is not None else None) or WITHHELD}
        if is_paused:
            return view | {"state": "paused", "notice": card.notice if card is not None else None}
        return view | {"state": "none", "notice": card.notice} if card is not None and card.notice else None
    if card.is_blind:
        return view | {"state": "blind", "inference_id": card.inference_id}
    shown = build_card(card, labels)
    return view | {
        "state": "open",
        "inference_id": card.inference_id,
        "card": shown,
        "macro": build_macro(macro or card.macro or ""),
        "notice": card.notice,
    }


def build_card(card: Classification, labels: LabelSet) -> View:
    """Return a suggestion."""
    found = labels.get(card.label or "")
    others = [score for score in card.candidates if score.label != card.label][:SHOWN_ALTERNATIVES]
    return {
        "label": card.label,
        "description": found.description if found is not None else "",
        "confidence": round(card.confidence, 4),
        "fields": [{"name": name, "value": value} for name, value in card.fields.items() if value],
        "reason": card.reason,
        "alternatives": [{"label": score.label, "confidence": round(score.probability, 4)} for score in others],
        "model": card.adapter_digest[:12],
    }


def build_summary(summary: Summary | None, decision: FeedbackKind | None) -> View | None:
    """Return a summary, or None where there is none."""
    if summary is None or (not summary.text and not summary.notice):
        return None
    return {
        "inference_id": summary.inference_id,
        "text": summary.text,
        "is_excerpt": summary.is_excerpt,
        "decision": decision.value if decision is not None else None,
        "notice": summary.notice,
    }


def build_macro(name: str) -> View | None:
    """Return a macro by its title, or by the beginning of its text where that is all there is."""
    line = " ".join(name.split())
    return {"title": line if len(line) <= TITLE_CHARS else f"{line[: TITLE_CHARS - 1].rstrip()}…"} if line else None


def build_writes(
    label: str, labels: LabelSet, *, label_field: str, label_value: str, priority_field: str, priority_values: Mapping[str, str]
) -> Sequence[View]:
    """Return what choosing a label puts into the ticket's form: its paths in Zendesk's apps framework and their values.

    The label's field is set; the priority only where it is empty.
    """
    writes: list[View] = []
    path = build_path(label_field)
    if path and label_value:
        writes.append({"path": path, "value": label_value, "only_if_empty": False})
    found = labels.get(label)
    priority = found.priority or "" if found is not None else ""
    priority = priority_values.get(priority, priority)
    path = build_path(priority_field)
    if path and priority:
        writes.append({"path": path, "value": priority, "only_if_empty": True})
    return writes


def build_path(field: str) -> str:
    """Return a field's path in Zendesk's apps framework; empty where it has none that can be set."""
    if field.isdecimal():
        return f"ticket.customField:custom_field_{field}"
    return f"ticket.{field}" if field in _PLAIN_FIELDS else ""


def _build_decided(detail: TicketDetail, labels: LabelSet, *, agent_id: str, undo_actor: str) -> View:
    card, actor = detail.classification, detail.item.decided_by or ""
    decided_by = actor.removeprefix("zendesk:") if actor.startswith("zendesk:") else ""
    label = labels.get(detail.decided_label or "")
    return {
        "state": "decided",
        "inference_id": card.inference_id if card is not None else None,
        "card": build_card(card, labels) if card is not None and card.label is not None else None,
        "macro": build_macro(label.macro or "") if label is not None else None,
        "decision": {
            "kind": detail.decision.value if detail.decision is not None else None,
            "label": detail.decided_label,
            "was_blind": card is not None and card.is_blind,
            "actor": actor,
            "agent_id": decided_by if decided_by.isdecimal() else None,
            "is_own": decided_by == agent_id,
            "can_undo": bool(actor) and actor == undo_actor,
        },
    }


def _build_labels(labels: LabelSet, among: Sequence[str] = ()) -> list[View]:
    """Return what a support agent may choose from: what the ticket's brand and form allow, where that is narrowed."""
    found = [label for label in labels.labels if label.name in among] or labels.labels
    return [{"name": label.name, "description": label.description} for label in found]
