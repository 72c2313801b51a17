"""Writes suggestions and decisions into tickets, each once: an update carries a marker, and after a doubtful end the history is searched for it.

Knows no helpdesk; what is written is decided in `plugins.helpdesk.policy` and `plugins.helpdesk.decided`.
"""

import logging
from collections.abc import Mapping
from typing import Any, Protocol

from bot.plugin_api import Bot, BusyError, Event, EventQueue, NotFoundError, RetryLaterError, SourceRef, Summary, TicketDetail
from plugins.helpdesk.client import GoneError, HelpdeskClient, StaleError
from plugins.helpdesk.decision_notes import choose_fields, render_decision
from plugins.helpdesk.memory import TicketMemory, Written
from plugins.helpdesk.notes import build_marker, render_note
from plugins.helpdesk.policy import Decision, FieldMap, decide
from plugins.helpdesk.settings import PolicySettings
from plugins.helpdesk.values import HelpdeskTicket, TicketState, Update

STALE_PAUSE_S = 1.0
DECISION = "decision"
_WRITABLE = frozenset({TicketState.OPEN, TicketState.SOLVED})
NOTE_ALONE_FROM = 4
"""From this try on fields are left out: an option that the helpdesk does not have must not cost the note as well."""
logger = logging.getLogger(__name__)


class Owner(Protocol):
    """What the outbox needs of the desk."""

    @property
    def bot(self) -> Bot:
        """The bot."""
        ...

    @property
    def client(self) -> HelpdeskClient:
        """The helpdesk's client."""
        ...

    @property
    def settings(self) -> PolicySettings:
        """The settings."""
        ...

    def get_source(self, ticket_id: str) -> SourceRef:
        """Return how the bot knows a ticket."""
        ...

    async def get_label_field(self) -> str:
        """Return the field that holds the label."""
        ...

    def build_field_map(self) -> FieldMap:
        """Return labels and values."""
        ...


class Outbox:
    """Updates that wait to be written, durable like all events. Only numbers are stored: texts are rendered when they are sent."""

    def __init__(self, desk: Owner, queue: EventQueue, memory: TicketMemory) -> None:
        self._desk, self._memory = desk, memory
        self.queue = queue

    async def start(self, *, workers: int) -> None:
        """Write from now on."""
        await self.queue.start(self.handle, workers=workers)

    async def stop(self) -> None:
        """Let what runs end."""
        await self.queue.stop()

    async def put(self, key: str, payload: Mapping[str, Any], *, group: str) -> bool:
        """Store an update; False where one of that key is known."""
        return await self.queue.put(key, "write", payload, group=group)

    async def put_decision(self, ticket_id: str, feedback_id: int) -> bool:
        """Store that a decision is to be written; False where it is known."""
        payload = {"ticket_id": ticket_id, "feedback_id": feedback_id}
        return await self.queue.put(f"decision:{feedback_id}", DECISION, payload, group=ticket_id)

    async def handle(self, event: Event) -> None:
        """Write one suggestion or decision, unless it has been overtaken: by another decision, by a solved ticket, or by an earlier try."""
        try:
            await (self._write_decision(event) if event.kind == DECISION else self._write_suggestion(event))
        except (GoneError, NotFoundError):
            return  # nobody will look at it any more
        except StaleError:
            raise RetryLaterError("the ticket changed while it was written", after_s=STALE_PAUSE_S) from None

    async def _write_suggestion(self, event: Event) -> None:
        ticket_id, marker = str(event.payload["ticket_id"]), str(event.payload["marker"])
        detail = await self._desk.bot.inbox.find_ticket(self._desk.get_source(ticket_id))
        ticket = await self._desk.client.fetch_bare_ticket(ticket_id)
        if detail.decision is not None or ticket.state is not TicketState.OPEN:
            return
        may_fill = event.attempt < NOTE_ALONE_FROM
        await self._write(ticket_id, ticket, detail, marker=marker, macro=str(event.payload["macro"]), may_fill=may_fill)

    async def _write_decision(self, event: Event) -> None:
        ticket_id, feedback_id = str(event.payload["ticket_id"]), int(event.payload["feedback_id"])
        plugin = self._desk.get_source(ticket_id).plugin
        standing = await self._desk.bot.inbox.list_decisions(plugin, after_id=feedback_id - 1, limit=1)
        ticket = await self._desk.client.fetch_bare_ticket(ticket_id)
        if not standing or standing[0].feedback_id != feedback_id or ticket.state not in _WRITABLE:
            return  # taken back, or decided anew: that one is on its way as well
        decision, label_field = standing[0], await self._desk.get_label_field()
        before = await self._memory.get_written(ticket_id)
        is_known = decision.label in self._desk.bot.inbox.get_label_set().names
        value = self._desk.build_field_map().get_value(decision.label) if decision.label and is_known else ""
        ours = before.value if before is not None else ""
        fields, is_left = choose_fields(ticket.fields, label_field=label_field, value=value, ours=ours)
        if event.attempt >= NOTE_ALONE_FROM:
            fields = {}
        marker = build_marker(ticket_id, f"d{feedback_id}")
        note = ""
        if self._desk.settings.write_note:
            note = render_decision(decision, marker=marker, is_written=bool(fields), is_left=is_left)
        if not fields and not note:
            return
        if await self._memory.begin_write(marker) or not await self._is_sent(ticket_id, marker):
            update = Update(ticket_id, marker, fields, note=note, seen_at=ticket.updated_at, is_decision=True)
            await self._desk.client.write(update, ticket)
        if fields:
            await self._memory.put_written(ticket_id, Written(marker, value))

    async def _write(
        self, ticket_id: str, ticket: HelpdeskTicket, detail: TicketDetail, *, marker: str, macro: str, may_fill: bool
    ) -> None:
        card = detail.classification
        if card is None or card.label is None or card.is_blind:
            return
        settings, label_field = self._desk.settings, await self._desk.get_label_field()
        field_map = self._desk.build_field_map()
        before = await self._memory.get_written(ticket_id)
        ours = before.value if before is not None else ""
        decision = decide(card, ticket, settings=settings, label_field=label_field, field_map=field_map, ours=ours)
        if not may_fill:
            logger.warning("the fields of ticket %s are refused again and again: a note alone is written", ticket_id)
            decision = Decision(decision.mode, {}, is_label_written=False)
        value = decision.fields[label_field] if decision.is_label_written else ""
        if await self._memory.begin_write(marker) or not await self._is_sent(ticket_id, marker):
            note = await self._render(ticket_id, detail, decision, marker=marker, macro=macro) if settings.write_note else ""
            tags = (settings.tag,) if settings.tag and settings.tag not in ticket.tags else ()
            update = Update(ticket_id, marker, decision.fields, tags, note, ticket.updated_at)
            if update.fields or update.tags or update.note:
                await self._desk.client.write(update, ticket)
        elif label_field and (now := ticket.fields.get(label_field, "")) == field_map.get_value(card.label):
            value = now  # the earlier try went through: what it wrote is ours
        await self._memory.put_written(ticket_id, Written(marker, value))

    async def _is_sent(self, ticket_id: str, marker: str) -> bool:
        return any(change.marker == marker for change in await self._desk.client.fetch_history(ticket_id))

    async def _render(self, ticket_id: str, detail: TicketDetail, decision: Decision, *, marker: str, macro: str) -> str:
        card = detail.classification
        if card is None:
            return ""
        summary = detail.summary
        if summary is None and self._desk.settings.note_summary:
            summary = await self._summarize(ticket_id)
        if not self._desk.settings.note_summary:
            summary = None
        return render_note(card, marker=marker, macro=macro, summary=summary, is_label_written=decision.is_label_written)

    async def _summarize(self, ticket_id: str) -> Summary:
        try:
            return await self._desk.bot.summarize("", source=self._desk.get_source(ticket_id))
        except BusyError as error:
            raise RetryLaterError("the model is busy", after_s=float(error.retry_after_s)) from error
