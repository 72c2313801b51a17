"""What runs beside the webhooks: looking for changes that none told of, and learning from past tickets at the first start.

Both keep their place in the store and go on after an outage or a restart. Knows no helpdesk.
"""

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta

from bot.plugin_api import PastTicket, RetryLaterError
from plugins.helpdesk.client import Clock, HelpdeskError
from plugins.helpdesk.desk import Desk
from plugins.helpdesk.values import Author, Change, HelpdeskTicket, TicketState

logger = logging.getLogger(__name__)
CURSOR = "cursor"
BACKFILL = "backfill"
BATCH = 50
FAULT_PAUSE_S = 60.0


class Poller:
    """Asks the helpdesk what changed and notices each change, however long ago the last look was."""

    def __init__(self, desk: Desk, clock: Clock, *, interval_s: float, name: str) -> None:
        self._desk, self._clock, self._interval_s, self._name = desk, clock, interval_s, name

    async def run(self) -> None:
        """Look again and again until cancelled."""
        while True:
            pause_s = self._interval_s
            try:
                await self.look()
            except RetryLaterError as error:
                pause_s = max(pause_s, error.after_s)
            except Exception as error:  # whatever it is, the next look may go well; its text may quote a ticket
                logger.warning("%s: looking for changes failed: %s", self._name, type(error).__name__)
                pause_s = max(pause_s, FAULT_PAUSE_S)
            await self._clock.sleep(pause_s)

    async def look(self) -> int:
        """Notice what changed since the last look; return how many changes were new."""
        found = await self._desk.store.get(CURSOR) or {}
        cursor, n_new = str(found.get("at", "")), 0
        while True:
            page = await self._desk.client.list_changed(cursor)
            for ref in page.tickets:
                n_new += await self._desk.notice(ref.ticket_id, key=f"poll:{ref.ticket_id}:{ref.version}")
            is_stuck = page.cursor == cursor
            cursor = page.cursor
            await self._desk.store.put(CURSOR, {"at": cursor})  # after the changes are stored, never before
            if page.is_last or is_stuck:
                return n_new


class Backfill:
    """Hands past solved tickets to the bot as examples, once per installation."""

    def __init__(self, desk: Desk, clock: Clock, *, name: str, days: int, limit: int) -> None:
        self._desk, self._clock, self._name = desk, clock, name
        self._days, self._limit = days, limit

    async def run(self) -> None:
        """Go on where it was left, until done."""
        while True:
            try:
                if await self.step():
                    return
            except RetryLaterError as error:
                await self._clock.sleep(error.after_s)
            except Exception as error:  # the bot must run even if history cannot be read
                logger.warning("%s: learning from past tickets failed: %s", self._name, type(error).__name__)
                await self._clock.sleep(FAULT_PAUSE_S)

    async def step(self) -> bool:
        """Take one page of past tickets in; return whether that was all."""
        state = dict(await self._desk.store.get(BACKFILL) or {"cursor": "", "n": 0, "is_done": False})
        state.setdefault("until", self._clock.now().isoformat())
        label_field = await self._desk.get_label_field()
        if state["is_done"] or not self._days or not label_field:
            return True
        until = datetime.fromisoformat(state["until"])
        page = await self._desk.client.list_solved(state["cursor"], since=until - timedelta(days=self._days))
        past: list[PastTicket] = []
        for ref in page.tickets[: max(0, self._limit - state["n"])]:
            ticket = await self._read(ref.ticket_id, label_field, until)
            if ticket is not None:
                past.append(ticket)
        for start in range(0, len(past), BATCH):
            batch = past[start : start + BATCH]
            await self._desk.bot.manager.import_past(batch, plugin=self._name, actor=self._name)
        state["n"] += len(past)
        is_stuck = page.cursor == state["cursor"]
        state["cursor"] = page.cursor
        state["is_done"] = page.is_last or is_stuck or state["n"] >= self._limit
        await self._desk.store.put(BACKFILL, state)
        if state["is_done"]:
            logger.info("%s: learned from %d past tickets", self._name, state["n"])
        return bool(state["is_done"])

    async def _read(self, ticket_id: str, label_field: str, until: datetime) -> PastTicket | None:
        """Return a past ticket with the label a person left in it, or None where it teaches nothing."""
        try:
            ticket = await self._desk.client.fetch_ticket(ticket_id)
            label = self._desk.build_field_map().get_label(ticket.fields.get(label_field, ""))
            if label is None or not _is_past(ticket, until):
                return None
            if not is_chosen(await self._desk.client.fetch_history(ticket_id), label_field):
                return None
        except HelpdeskError:
            return None  # gone, or out of our sight: the others are worth having
        return PastTicket(
            external_id=self._desk.get_source(ticket_id).external_id,
            subject=ticket.subject,
            turns=ticket.turns,
            label=label,
            created_at=ticket.created_at,
            group=ticket.customer,
        )


def _is_past(ticket: HelpdeskTicket, until: datetime) -> bool:
    is_final = ticket.state in {TicketState.SOLVED, TicketState.CLOSED} and not ticket.is_ignored
    return is_final and bool(ticket.turns) and (ticket.updated_at is None or ticket.updated_at <= until)


def is_chosen(history: Sequence[Change], label_field: str) -> bool:
    """Whether the value that stands in a field was chosen by somebody, not by a rule, a bulk job or ourselves."""
    setters = [change.author for change in history if label_field in change.fields]
    return not setters or setters[-1] in {Author.PERSON, Author.CUSTOMER}
