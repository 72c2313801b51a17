"""Reads feedback from a ticket's history: what a person changed after the suggestion, and what they left alone when they solved it.

Pure; knows neither HTTP nor storage. What rules, bulk jobs, customers and we ourselves changed is no feedback.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from bot.plugin_api import FeedbackKind
from plugins.helpdesk.values import Author, Change, TicketState


class SignalKind(StrEnum):
    """What a person did that tells the label."""

    FIELD = "field"  # chose a value of the label field
    MACRO = "macro"  # applied a label's macro
    SOLVED = "solved"  # solved the ticket with our value in it


@dataclass(frozen=True)
class Suggestion:
    """What was suggested. `value` is what we wrote into the label field, empty where we wrote none; `marker` names the write."""

    label: str
    value: str
    marker: str
    suggested_at: datetime
    is_blind: bool = False


@dataclass(frozen=True)
class Signal:
    """A decision read from the history. `label` is the label it stands for; `change_id` makes it count once."""

    kind: SignalKind
    label: str
    change_id: str
    actor: str
    at: datetime

    def get_feedback_kind(self, suggestion: Suggestion) -> FeedbackKind:
        """Whether it accepts the suggestion. A blind choice is a choice: the core compares it."""
        is_same = self.label == suggestion.label and not suggestion.is_blind
        return FeedbackKind.ACCEPT if is_same else FeedbackKind.OVERRIDE


_FINAL = frozenset({TicketState.SOLVED, TicketState.CLOSED})


def read_signals(
    suggestion: Suggestion,
    changes: Sequence[Change],
    *,
    label_field: str,
    get_label: Callable[[str], str | None],
    get_macro_labels: Callable[[str], Iterable[str]],
) -> tuple[Signal, ...]:
    """Return what people decided after the suggestion, in order.

    `get_macro_labels` names the labels whose macro that is. A value that is no label, and a macro of several labels that the suggestion is
    not among, say nothing.
    """
    signals: list[Signal] = []
    value, setter = "", Author.OURSELVES
    is_after, is_final = False, False
    for change in changes:
        is_after = is_after or change.marker == suggestion.marker or change.at > suggestion.suggested_at
        has_value = bool(label_field) and label_field in change.fields
        if has_value:
            value, setter = change.fields[label_field], change.author
        is_solving = change.state in _FINAL and not is_final
        if change.state is not None:
            is_final = change.state in _FINAL
        if not is_after or change.author is not Author.PERSON:
            continue
        signal = _read_choice(suggestion, change, value if has_value else "", get_label, get_macro_labels)
        if signal is None and is_solving and not has_value:
            signal = _read_solved(suggestion, change, value, setter, get_label)
        if signal is not None:
            signals.append(signal)
    return tuple(signals)


def _read_choice(
    suggestion: Suggestion,
    change: Change,
    value: str,
    get_label: Callable[[str], str | None],
    get_macro_labels: Callable[[str], Iterable[str]],
) -> Signal | None:
    chosen = get_label(value) if value else None
    if chosen is not None:
        return Signal(SignalKind.FIELD, chosen, change.change_id, change.actor, change.at)
    if not change.macro:
        return None
    labels = tuple(get_macro_labels(change.macro))
    if suggestion.label in labels:
        return Signal(SignalKind.MACRO, suggestion.label, change.change_id, change.actor, change.at)
    return Signal(SignalKind.MACRO, labels[0], change.change_id, change.actor, change.at) if len(labels) == 1 else None


def _read_solved(
    suggestion: Suggestion, change: Change, value: str, setter: Author, get_label: Callable[[str], str | None]
) -> Signal | None:
    """Solved with our value untouched is a weak accept; with another value that a person had set before us, it is their choice."""
    label = get_label(value) if value else None
    if label is None or (suggestion.is_blind and setter is not Author.PERSON):
        return None
    is_ours = setter is Author.OURSELVES and bool(suggestion.value) and value == suggestion.value
    if is_ours or setter is Author.PERSON:
        return Signal(SignalKind.SOLVED, label, change.change_id, change.actor, change.at)
    return None
