"""What a suggestion may write, and what a field's value says: pure functions of settings, suggestion and ticket.

Knows no HTTP and no clock.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from bot.plugin_api import Classification
from plugins.helpdesk.settings import PolicySettings, WriteMode
from plugins.helpdesk.values import HelpdeskTicket


def build_slug(name: str) -> str:
    """Return a name as a helpdesk's option may hold it: lower case, letters, digits and underscores."""
    return re.sub(r"[^\w]+", "_", name.strip().lower()).strip("_")


class FieldMap:
    """Labels as values of the label field, both ways. `encode` gives the value of a label that `values` does not name.

    A value is read as a label where it is that label's value, or the label's name or slug.
    """

    def __init__(self, labels: Iterable[str], values: Mapping[str, str], *, encode: Callable[[str], str] = str) -> None:
        self._values = {label: values.get(label) or encode(label) for label in labels}
        self._labels = {self._fold(value): label for label, value in self._values.items()}
        for label in self._values:
            for spelling in (label, build_slug(label)):
                self._labels.setdefault(self._fold(spelling), label)

    @staticmethod
    def _fold(value: str) -> str:
        return value.strip().casefold()

    def get_value(self, label: str) -> str:
        """Return the value that stands for a label."""
        return self._values[label]

    def get_label(self, value: str) -> str | None:
        """Return the label a value stands for, or None."""
        return self._labels.get(self._fold(value)) if value.strip() else None


@dataclass(frozen=True)
class Decision:
    """What is to be written. `mode` is what it came down to; `is_label_written` says whether the label's field is among the fields."""

    mode: WriteMode
    fields: Mapping[str, str]
    is_label_written: bool


def decide(
    card: Classification, ticket: HelpdeskTicket, *, settings: PolicySettings, label_field: str, field_map: FieldMap, ours: str
) -> Decision:
    """Say what a suggestion writes into this ticket. `ours` is the label value that we wrote earlier, which we may replace.

    What a person or a form has chosen is never written over.
    """
    label = card.label
    if label is None or card.is_blind:
        return Decision(WriteMode.SUGGEST_ONLY, {}, is_label_written=False)
    mode = settings.label_modes.get(label, settings.mode)
    if mode is WriteMode.AUTO and card.confidence < settings.label_thresholds.get(label, settings.auto_threshold):
        mode = WriteMode.SUGGEST_ONLY
    fields: dict[str, str] = {}
    if settings.confidence_field:
        fields[settings.confidence_field] = f"{card.confidence:.2f}"
    is_label_written = False
    if mode is not WriteMode.SUGGEST_ONLY and label_field:
        now = ticket.fields.get(label_field, "")
        is_label_written = not now or now == ours
        if is_label_written:
            fields[label_field] = field_map.get_value(label)
    if mode is WriteMode.AUTO:
        fields.update(_route(card, ticket, settings))
    return Decision(mode, fields, is_label_written)


def _route(card: Classification, ticket: HelpdeskTicket, settings: PolicySettings) -> dict[str, str]:
    fields: dict[str, str] = {}
    queue = settings.queue_values.get(card.fields.get("queue", ""), "")
    if settings.queue_field and queue and not ticket.fields.get(settings.queue_field):
        fields[settings.queue_field] = queue
    priority = card.fields.get("priority", "")
    priority = settings.priority_values.get(priority, priority)
    if settings.priority_field and priority and not ticket.fields.get(settings.priority_field):
        fields[settings.priority_field] = priority
    return fields


def narrow_labels(scopes: Mapping[str, str], allowed: Mapping[str, Mapping[str, Iterable[str]]]) -> tuple[str, ...]:
    """Return the labels a ticket of these scopes may get; empty means all.

    `allowed` maps a kind of scope ("brand", "form") to its labels per value. Where two scopes share no label, the last one decides.
    """
    chosen: tuple[str, ...] = ()
    for kind, per_value in allowed.items():
        names = tuple(per_value.get(scopes.get(kind, ""), ()))
        if names:
            chosen = tuple(name for name in names if not chosen or name in chosen) or names
    return chosen
