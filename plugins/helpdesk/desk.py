"""The desk: takes ticket events in, asks the bot, and hands what is to be written to the outbox.

Looking at a ticket again does nothing twice, so that an event may come any number of times, late or out of order. Knows no helpdesk.
"""

import logging
from collections.abc import Callable, Mapping, Sequence

from bot.plugin_api import Bot, BusyError, Classification, Event, EventQueue, NotFoundError, RetryLaterError, SourceRef
from plugins.helpdesk.client import Clock, GoneError, HelpdeskClient, HelpdeskError
from plugins.helpdesk.learning import Learner
from plugins.helpdesk.macros import MacroIndex
from plugins.helpdesk.memory import Cached, Known, TicketMemory, digest_customer
from plugins.helpdesk.notes import build_marker
from plugins.helpdesk.outbox import Outbox
from plugins.helpdesk.policy import FieldMap, narrow_labels
from plugins.helpdesk.settings import PolicySettings
from plugins.helpdesk.values import HelpdeskTicket, TicketState

logger = logging.getLogger(__name__)
KEEP_FIELD_S = 600.0
KEEP_MACROS_S = 600.0
AllowedLabels = Mapping[str, Mapping[str, Sequence[str]]]


class Desk:
    """One helpdesk's tickets. `allowed` narrows labels by scope, `encode` writes a label as a value of the label field."""

    def __init__(
        self,
        bot: Bot,
        client: HelpdeskClient,
        settings: PolicySettings,
        *,
        name: str,
        clock: Clock,
        encode: Callable[[str], str] = str,
        allowed: AllowedLabels | None = None,
    ) -> None:
        self._bot, self._client, self._settings = bot, client, settings
        self._name, self._clock, self._encode = name, clock, encode
        self._allowed: AllowedLabels = allowed or {}
        self.store = bot.open_store(name)
        self.queue: EventQueue = bot.open_queue(name)
        self._memory = TicketMemory(self.store)
        self._learner = Learner(bot, self.store, settings, name=name)
        self._label_field = Cached(self._find_label_field, clock, keep_s=KEEP_FIELD_S)
        self._macros = Cached(self._fetch_macros, clock, keep_s=KEEP_MACROS_S)
        self.outbox = Outbox(self, bot.open_queue(f"{name}.outbox"), self._memory)

    @property
    def bot(self) -> Bot:
        """The bot."""
        return self._bot

    @property
    def client(self) -> HelpdeskClient:
        """The helpdesk's client."""
        return self._client

    @property
    def settings(self) -> PolicySettings:
        """The settings."""
        return self._settings

    async def start(self) -> None:
        """Handle events from now on."""
        await self.queue.start(self.handle, workers=self._settings.workers)
        await self.outbox.start(workers=self._settings.workers)

    async def stop(self) -> None:
        """Let what runs end."""
        await self.queue.stop()
        await self.outbox.stop()

    async def notice(self, ticket_id: str, *, key: str) -> bool:
        """Store that a ticket changed; False where that very event is known. Nothing of the ticket is stored but its number."""
        return await self.queue.put(key, "changed", {"ticket_id": ticket_id}, group=ticket_id)

    def get_source(self, ticket_id: str) -> SourceRef:
        """Return how the bot knows a ticket."""
        return SourceRef(plugin=self._name, external_id=ticket_id)

    async def get_label_field(self) -> str:
        """Return the field that holds the label, empty where there is none."""
        return self._settings.label_field or await self._label_field.get()

    def build_field_map(self) -> FieldMap:
        """Return labels and values of the label set in force."""
        return FieldMap(self._bot.inbox.get_label_set().names, self._settings.label_values, encode=self._encode)

    async def handle(self, event: Event) -> None:
        """Bring what we know of one ticket up to date: learn from what people did, then suggest where there is something new."""
        ticket_id = str(event.payload["ticket_id"])
        known = await self._memory.get_known(ticket_id)
        try:
            ticket = await self.read(event)
            if ticket.is_ignored or ticket.state in {TicketState.MERGED, TicketState.DELETED}:
                await self._memory.forget(ticket_id)
                return
            if known is not None:
                known = await self._learn(ticket_id, known)
        except GoneError:
            await self._memory.forget(ticket_id)
            return
        if ticket.state is TicketState.OPEN:
            await self._suggest(ticket_id, ticket, known)

    async def read(self, event: Event) -> HelpdeskTicket:
        """Return the ticket an event is about, as it stands now. Raises GoneError."""
        return await self._client.fetch_ticket(str(event.payload["ticket_id"]))

    async def _learn(self, ticket_id: str, known: Known) -> Known:
        history = await self._client.fetch_history(ticket_id)
        learned = await self._learner.learn(
            self.get_source(ticket_id),
            known,
            history,
            written=await self._memory.get_written(ticket_id),
            label_field=await self.get_label_field(),
            field_map=self.build_field_map(),
            macros=await self._macros.get(),
        )
        if learned != known:
            await self._memory.put_known(ticket_id, learned)
        return learned

    async def _suggest(self, ticket_id: str, ticket: HelpdeskTicket, known: Known | None) -> None:
        digest = digest_customer(ticket)
        if known is not None and (known.digest == digest or await self._is_decided(ticket_id)):
            return
        if not ticket.turns and not ticket.subject:
            return
        card = await self._ask(ticket_id, ticket)
        if card.label is None or card.inference_id is None:
            return  # paused or withheld: nothing is remembered, so that the next event asks again
        if known is not None and known.label == card.label:
            marker, macro, is_new = known.marker, known.macro, False
        else:
            marker, is_new = build_marker(ticket_id, card.inference_id), not card.is_blind
            macro = await self._choose_macro(card, ticket)
        if is_new:
            payload = {"ticket_id": ticket_id, "marker": marker, "macro": macro}
            await self.outbox.put(marker, payload, group=ticket_id)
        learned = known.learned if known is not None else ()
        suggested_at = self._clock.now().isoformat() if known is None or is_new else known.suggested_at
        await self._memory.put_known(
            ticket_id, Known(card.inference_id, card.label, marker, macro, digest, suggested_at, card.is_blind, learned)
        )

    async def _ask(self, ticket_id: str, ticket: HelpdeskTicket) -> Classification:
        names = self._bot.inbox.get_label_set().names
        labels = [name for name in narrow_labels(ticket.scopes, self._allowed) if name in names]
        try:
            return await self._bot.classify(
                "", source=self.get_source(ticket_id), subject=ticket.subject, turns=ticket.turns, labels=labels
            )
        except BusyError as error:
            raise RetryLaterError("the model is busy", after_s=float(error.retry_after_s)) from error

    async def _is_decided(self, ticket_id: str) -> bool:
        try:
            detail = await self._bot.inbox.find_ticket(self.get_source(ticket_id))
        except NotFoundError:
            return False
        return detail.decision is not None

    async def _choose_macro(self, card: Classification, ticket: HelpdeskTicket) -> str:
        label = self._bot.inbox.get_label_set().get(card.label or "")
        if label is None:
            return ""
        index = await self._macros.get()
        macro = index.suggest(label, " ".join([ticket.subject, *(turn.text for turn in ticket.turns)]))
        return macro.title if macro is not None else card.macro or ""

    async def _find_label_field(self) -> str:
        try:
            return await self._client.find_label_field()
        except HelpdeskError as error:
            logger.warning("%s: the label field is not known: %s", self._name, error)
            return ""

    async def _fetch_macros(self) -> MacroIndex:
        try:
            return MacroIndex(await self._client.list_macros())
        except HelpdeskError as error:
            logger.warning("%s: macros are not known: %s", self._name, error)
            return MacroIndex(())
