"""Taking a ticket in: mask it with its own placeholder map, store it, and hand out its masked parts.

Fails closed: a ticket that cannot be masked is stored as a bare reference, without a word of its text.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlmodel import Session

from bot.core import Core
from bot.masking import MaskingError, PlaceholderMap
from bot.tasks.ticket import CUSTOMER_SPEAKERS, render_ticket
from bot.types import SourceRef, Turn
from db.queries import tickets
from db.queries.audit import record_audit
from db.queries.common import row_id
from db.tables import Ticket
from db.types import MaskedText, TicketStatus

PLAIN_SPEAKERS = frozenset({"agent", "assistant", "bot", "support", "system", *CUSTOMER_SPEAKERS})
WITHHELD_NOTICE = "No suggestion: this ticket could not be masked safely, so its text was not stored."


@dataclass(frozen=True)
class TakenIn:
    """A ticket as stored: masked, with the map that unmasks it for display. `is_withheld` means nothing but the reference is stored."""

    ticket_id: int
    status: TicketStatus
    is_blind: bool
    subject: str
    text: MaskedText
    turns: tuple[Turn, ...]
    model_text: MaskedText
    mapping: PlaceholderMap
    is_withheld: bool = False
    withheld_because: str = ""
    """What the masker said, where it was just now; it names types of data, never their values."""
    is_unchanged: bool = False


def choose_blind(source: SourceRef, share: float) -> bool:
    """Whether a ticket belongs to the blind sample. By hash of its reference, so that the answer never changes for one ticket."""
    digest = hashlib.sha256(f"{source.plugin}\0{source.external_id}".encode()).digest()
    return int.from_bytes(digest[:8]) / 2**64 < share


class Intake:
    """Masks and stores tickets."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def take(self, source: SourceRef, *, subject: str, text: str, turns: Sequence[Turn]) -> TakenIn:
        """Mask and store a ticket; the same source again updates its text and keeps its id. The caller holds the ticket's lock."""
        mapping = await self._core.read_db(lambda session: self._get_known_map(session, source))
        try:
            masked_subject = (await self._core.masker.mask_async(subject, mapping)).text if subject else MaskedText("")
            masked_text = (await self._core.masker.mask_async(text, mapping)).text if text else MaskedText("")
            masked_turns = tuple([await self._mask_turn(turn, mapping) for turn in turns])
        except MaskingError as error:
            return await self._withhold(source, because=str(error))
        row, is_unchanged = await self._core.in_db(
            lambda session: self._store(
                session, source, subject=masked_subject, text=masked_text, turns=masked_turns, mapping=mapping
            )
        )
        return replace(self._open(row, mapping), is_unchanged=is_unchanged)

    async def reopen(self, source: SourceRef) -> TakenIn | None:
        """Return the stored ticket of that source, or None."""

        def work(session: Session) -> TakenIn | None:
            row = tickets.get_ticket_by_source(session, plugin=source.plugin, external_id=source.external_id)
            if row is None:
                return None
            mapping = self._core.get_map(session, row_id(row)) or PlaceholderMap()
            return replace(self._open(row, mapping), is_unchanged=True)

        return await self._core.read_db(work)

    def _get_known_map(self, session: Session, source: SourceRef) -> PlaceholderMap:
        row = tickets.get_ticket_by_source(session, plugin=source.plugin, external_id=source.external_id)
        known = None if row is None else self._core.get_map(session, row_id(row))
        return known or PlaceholderMap()

    async def _mask_turn(self, turn: Turn, mapping: PlaceholderMap) -> Turn:
        speaker = turn.speaker
        if speaker.strip().casefold() not in PLAIN_SPEAKERS:
            speaker = (await self._core.masker.mask_async(turn.speaker, mapping)).text
        return Turn(speaker=speaker, text=(await self._core.masker.mask_async(turn.text, mapping)).text)

    async def _withhold(self, source: SourceRef, *, because: str) -> TakenIn:
        def work(session: Session) -> Ticket:
            row = tickets.upsert_ticket(
                session,
                plugin=source.plugin,
                external_id=source.external_id,
                subject=MaskedText(""),
                text=MaskedText(""),
                is_blind=self._is_blind(source),
            )
            tickets.set_ticket_status(session, row_id(row), status=TicketStatus.WITHHELD)
            record_audit(
                session,
                actor="masking",
                action="ticket.withheld",
                subject_type="ticket",
                subject_id=row_id(row),
                detail={"because": because},
            )
            return row

        return replace(self._open(await self._core.in_db(work), PlaceholderMap()), withheld_because=because)

    def _store(
        self,
        session: Session,
        source: SourceRef,
        *,
        subject: MaskedText,
        text: MaskedText,
        turns: Sequence[Turn],
        mapping: PlaceholderMap,
    ) -> tuple[Ticket, bool]:
        stored_turns = [{"speaker": turn.speaker, "text": turn.text} for turn in turns]
        before = tickets.get_ticket_by_source(session, plugin=source.plugin, external_id=source.external_id)
        known = None if before is None else (before.subject, before.text, before.turns)
        row = tickets.upsert_ticket(
            session,
            plugin=source.plugin,
            external_id=source.external_id,
            subject=subject,
            text=text,
            turns=stored_turns,
            is_blind=self._is_blind(source),
        )
        if row.status is TicketStatus.WITHHELD:
            tickets.set_ticket_status(session, row_id(row), status=TicketStatus.OPEN)
        self._core.put_map(session, row_id(row), mapping)
        return row, known == (row.subject, row.text, row.turns)

    def _is_blind(self, source: SourceRef) -> bool:
        return choose_blind(source, self._core.settings.blind_share)

    @staticmethod
    def _open(row: Ticket, mapping: PlaceholderMap) -> TakenIn:
        turns = tuple(Turn(speaker=turn["speaker"], text=turn["text"]) for turn in row.turns)
        return TakenIn(
            ticket_id=row_id(row),
            status=row.status,
            is_blind=row.is_blind,
            subject=row.subject,
            text=MaskedText(row.text),
            turns=turns,
            model_text=render_ticket(row.subject, row.text, turns),
            mapping=mapping,
            is_withheld=row.status is TicketStatus.WITHHELD,
        )
