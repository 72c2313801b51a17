"""The generic helpdesk as a `HelpdeskClient`: what it told us is remembered, and what we write is posted to its callback.

Remembers numbers, labels and states; texts stay in the events that brought them, which are encrypted and gone once handled.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from bot.plugin_api import Store
from plugins.helpdesk.client import Clock, GoneError
from plugins.helpdesk.memory import KEEP_S
from plugins.helpdesk.values import Author, Change, HelpdeskTicket, Macro, Page, TicketState, Update
from plugins.webhook.callback import Callback
from plugins.webhook.reading import LABEL

KEPT_CHANGES = 200
_INTERNAL = frozenset({"seen_at", "marker", "is_decision"})


class PushedClient:
    """Implements `plugins.helpdesk.client.HelpdeskClient` for a helpdesk that only pushes."""

    def __init__(self, store: Store, callback: Callback, clock: Clock) -> None:
        self._store, self._callback, self._clock = store, callback, clock
        self._lock = asyncio.Lock()

    async def note(self, message: Mapping[str, Any], *, change_id: str) -> bool:
        """Remember what a message says about a ticket's label, state and macro, once per `change_id`; say whether it is the newest."""
        ticket_id, at = str(message["ticket_id"]), _read_time(message["at"], self._clock.now())
        async with self._lock:
            kept = await self._load(ticket_id) or {
                "state": TicketState.OPEN.value,
                "label": "",
                "at": at.isoformat(),
                "changes": [],
            }
            is_newest = at >= datetime.fromisoformat(kept["at"])
            if any(change["change_id"] == change_id for change in kept["changes"]):
                return is_newest
            change: dict[str, Any] = {"change_id": change_id, "author": message["author"], "actor": message["actor"]}
            change |= {"at": at.isoformat(), "macro": message["macro"]}
            if is_newest:  # what came late tells how the ticket was, not how it is
                kept["at"] = at.isoformat()
                if message["label"] is not None and message["label"] != kept["label"]:
                    change["fields"], kept["label"] = {LABEL: message["label"]}, message["label"]
                if message["state"] is not None and message["state"] != kept["state"]:
                    change["state"] = kept["state"] = message["state"]
            kept["changes"] = [*kept["changes"], change][-KEPT_CHANGES:]
            await self._save(ticket_id, kept)
            return is_newest

    async def fetch_ticket(self, ticket_id: str) -> HelpdeskTicket:
        """Return what is known of a ticket, without its texts."""
        kept = await self._load(ticket_id)
        if kept is None:
            raise GoneError(f"nothing is known of ticket {ticket_id}")
        return HelpdeskTicket(ticket_id, TicketState(kept["state"]), fields={LABEL: kept["label"]})

    async def fetch_bare_ticket(self, ticket_id: str) -> HelpdeskTicket:
        """The same: texts are never kept."""
        return await self.fetch_ticket(ticket_id)

    async def fetch_history(self, ticket_id: str) -> Sequence[Change]:
        """See `HelpdeskClient.fetch_history`."""
        kept = await self._load(ticket_id)
        return [_read_change(change) for change in kept["changes"]] if kept is not None else []

    async def write(self, update: Update, ticket: HelpdeskTicket) -> None:
        """Post a suggestion or a decision to the callback. The helpdesk drops repetitions by the idempotency key."""
        content = {name: value for name, value in asdict(update).items() if name not in _INTERNAL}
        kind = "decision" if update.is_decision else "suggestion"
        await self._callback.post({"type": kind, **content, "state": ticket.state.value}, key=update.marker)
        async with self._lock:
            kept = await self._load(update.ticket_id)
            if kept is None:
                return
            change: dict[str, Any] = {
                "change_id": update.marker,
                "author": Author.OURSELVES.value,
                "actor": "",
                "marker": update.marker,
            }
            change["at"] = self._clock.now().isoformat()
            if LABEL in update.fields:
                change["fields"], kept["label"] = {LABEL: update.fields[LABEL]}, update.fields[LABEL]
            kept["changes"] = [*kept["changes"], change][-KEPT_CHANGES:]
            await self._save(update.ticket_id, kept)

    async def list_changed(self, cursor: str) -> Page:
        """There is nothing to ask: the helpdesk pushes."""
        return Page((), cursor, is_last=True)

    async def list_solved(self, cursor: str, *, since: datetime) -> Page:  # noqa: ARG002 - the contract's
        """There is nothing to ask: past tickets come in through `understudy import`."""
        return Page((), cursor, is_last=True)

    async def list_macros(self) -> Sequence[Macro]:
        """Macros are known from the label set alone."""
        return []

    async def find_label_field(self) -> str:
        """Return the one field there is."""
        return LABEL

    async def close(self) -> None:
        """Close connections."""
        await self._callback.close()

    async def _load(self, ticket_id: str) -> dict[str, Any] | None:
        found = await self._store.get(f"pushed/{ticket_id}")
        return None if found is None else dict(found)

    async def _save(self, ticket_id: str, kept: Mapping[str, Any]) -> None:
        await self._store.put(f"pushed/{ticket_id}", kept, expires_in_s=KEEP_S)


def _read_time(text: str, now: datetime) -> datetime:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return now
    return at if at.tzinfo else at.replace(tzinfo=now.tzinfo)


def _read_change(change: Mapping[str, Any]) -> Change:
    state = change.get("state")
    return Change(
        change_id=change["change_id"],
        at=datetime.fromisoformat(change["at"]),
        author=Author(change["author"]),
        actor=change["actor"],
        fields=change.get("fields", {}),
        macro=change.get("macro", ""),
        state=None if state is None else TicketState(state),
        marker=change.get("marker", ""),
    )
