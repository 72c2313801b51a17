"""What the plugin remembers of its cards: where they stand, which answer they show, who decided what.

Holds ids and times alone, never a text. Knows nothing of Slack's API.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from bot.plugin_api import FeedbackKind, Store
from plugins.slack.cards import Decision
from plugins.slack.payloads import Place

KEEP_S = 90 * 86400.0
JsonObject = Mapping[str, Any]


@dataclass(frozen=True)
class Record:
    """One card. `shown_at` are seconds since 1970; `decision` is the one that counts now; `ts` is empty where it is not known for sure."""

    inference_id: int
    shown_at: float
    is_expanded: bool = False
    decision: Decision | None = None
    ts: str = ""


class Records:
    """What is known of messages of ours, by name: "ticket/..." and "summary/..." are cards, others have a time stamp alone.

    A card has one value, so that showing it costs one write: events of all threads wait for each other there.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    async def get(self, prefix: str, place: Place) -> Record | None:
        """Return what is known of a card."""
        return _unpack(await self._store.get(f"{prefix}/{place.external_id}"))

    async def get_ts(self, name: str) -> tuple[str | None, Record | None]:
        """Return where a message stands ("" where an earlier try may have posted it, None where none has) and its record."""
        value = await self._store.get(name)
        return (None, None) if value is None else (str(value.get("ts", "")), _unpack(value))

    async def keep(self, name: str, ts: str, record: Record | None = None) -> None:
        """Store where a message stands, and what it shows."""
        value = {"ts": ts} if record is None else {**_pack(record), "ts": ts}
        await self._store.put(name, value, expires_in_s=KEEP_S)

    async def change(self, prefix: str, place: Place, record: Record, **changes: Any) -> Record:
        """Store a card with some of its values replaced."""
        changed = replace(record, **changes)
        await self.keep(f"{prefix}/{place.external_id}", changed.ts, changed)
        return changed

    async def forget(self, prefix: str, place: Place) -> None:
        """Forget a card, so that the next suggestion makes a new one."""
        await self._store.delete(f"{prefix}/{place.external_id}")


def _pack(record: Record) -> dict[str, Any]:
    known = record.decision
    decision = None if known is None else {**asdict(known), "kind": known.kind.value}
    return {
        "inference_id": record.inference_id,
        "shown_at": record.shown_at,
        "is_expanded": record.is_expanded,
        "decision": decision,
    }


def _unpack(value: JsonObject | None) -> Record | None:
    if value is None or "inference_id" not in value:
        return None
    decision = value["decision"]
    return Record(
        inference_id=int(value["inference_id"]),
        shown_at=float(value["shown_at"]),
        is_expanded=bool(value["is_expanded"]),
        decision=None if decision is None else Decision(**{**decision, "kind": FeedbackKind(decision["kind"])}),
        ts=str(value.get("ts", "")),
    )
