"""The part of the fakes that keeps corrections of masking and answers what is held on somebody, from memory.

Part of `bot.testing`, which plugin authors import; knows no vault and masks nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from bot.plugin_api import (
    BotError,
    ColumnInfo,
    ConflictError,
    CorrectionInfo,
    CorrectionKind,
    CorrectionStatus,
    ErasureReport,
    Findings,
    FoundTicket,
    NotFoundError,
    Subject,
    TableInfo,
)

if TYPE_CHECKING:
    from bot.testing import FakeBot

ENTITY_TYPES = ("PERSON", "LOCATION", "EMAIL_ADDRESS", "PHONE_NUMBER", "SECRET")


class FakePrivacy:
    """`bot.plugin_api.Privacy` over the tickets of a FakeBot. `corrections` holds what was reported, `audit` (actor, verb, what)."""

    def __init__(self, bot: "FakeBot") -> None:
        self._bot = bot
        self.corrections: dict[int, CorrectionInfo] = {}
        self.audit: list[tuple[str, str, str]] = []

    def get_entity_types(self) -> Sequence[str]:
        """Return a few types."""
        return ENTITY_TYPES

    async def report_correction(
        self, *, kind: CorrectionKind, entity: str, text: str, actor: str, ticket_id: int | None = None
    ) -> CorrectionInfo:
        """Take a correction in."""
        if entity not in ENTITY_TYPES:
            raise BotError(f"'{entity}' is not a type that is masked: choose one of {', '.join(ENTITY_TYPES)}")
        if ticket_id is not None and ticket_id not in self._bot.tickets:
            raise NotFoundError(f"there is no ticket {ticket_id}")
        info = CorrectionInfo(
            id=len(self.corrections) + 1,
            kind=kind,
            entity=entity,
            status=CorrectionStatus.OPEN,
            phrase=text,
            context="",
            ticket_id=ticket_id,
            actor=actor,
            created_at=self._bot.clock.now(),
        )
        self.corrections[info.id] = info
        return info

    async def list_corrections(
        self, *, status: CorrectionStatus | None = CorrectionStatus.OPEN, limit: int = 100
    ) -> Sequence[CorrectionInfo]:
        """Return corrections, newest first."""
        found = [info for info in reversed(self.corrections.values()) if status in (None, info.status)]
        return found[:limit]

    async def review_correction(self, correction_id: int, *, is_approved: bool, actor: str, reason: str = "") -> CorrectionInfo:
        """Approve or reject. Raises NotFoundError, ConflictError."""
        if correction_id not in self.corrections:
            raise NotFoundError(f"there is no correction {correction_id}")
        info = self.corrections[correction_id]
        if info.status is CorrectionStatus.REJECTED or (is_approved and info.status is CorrectionStatus.APPROVED):
            raise ConflictError(f"correction {correction_id} is {info.status.value} already, by {info.reviewed_by}")
        info = replace(
            info,
            status=CorrectionStatus.APPROVED if is_approved else CorrectionStatus.REJECTED,
            phrase=info.phrase if is_approved else None,
            reviewed_by=actor,
            reviewed_at=self._bot.clock.now(),
            reason=reason,
        )
        self.corrections[correction_id] = info
        self.audit.append((actor, "approve" if is_approved else "reject", f"{correction_id} {reason}".strip()))
        return info

    def _find(self, subject: Subject) -> list[int]:
        if bool(subject.person.strip()) + bool(subject.ticket_ids) + (subject.source is not None) != 1:
            raise BotError("say whose data: a person, or tickets by number or by plugin and id")
        wanted = subject.person.strip().casefold()
        return [
            number
            for number, ticket in self._bot.tickets.items()
            if number in subject.ticket_ids
            or ticket.item.source == subject.source
            or (wanted and any(wanted in f"{turn.speaker} {turn.text}".casefold() for turn in ticket.turns))
        ]

    async def find(self, subject: Subject) -> Findings:
        """Return the tickets whose text holds the name."""
        found = [(number, self._bot.tickets[number].item) for number in self._find(subject)]
        how = "text" if subject.person else "asked"
        return Findings(
            tuple(FoundTicket(number, item.source.plugin, how, {"ticket": 1}, item.created_at) for number, item in found),
            notes=("Fakes have no vault.",),
        )

    async def export(self, subject: Subject, *, actor: str) -> Mapping[str, Any]:
        """Return the tickets as JSON values."""
        found = self._find(subject)
        self.audit.append((actor, "export", str(len(found))))
        tickets = [{"id": number, "turns": [turn.text for turn in self._bot.tickets[number].turns]} for number in found]
        return {"format": 1, "is_unmasked": True, "notes": [], "tickets": tickets}

    async def erase(self, subject: Subject, *, actor: str, reason: str) -> ErasureReport:
        """Delete the tickets."""
        found = self._find(subject)
        for number in found:
            del self._bot.tickets[number]
        self.audit.append((actor, "erase", f"{len(found)} {reason}".strip()))
        return ErasureReport(n_tickets=len(found), rows={"ticket": len(found)} if found else {})

    async def get_map(self) -> Sequence[TableInfo]:
        """Return a map of one table."""
        columns = (ColumnInfo("text", "VARCHAR", "masked", "first message"),)
        return (
            TableInfo(
                name="ticket",
                holds="Tickets as they came in, masked.",
                retention="no limit",
                readers="the team",
                leaves="nowhere",
                on_erasure="deleted",
                columns=columns,
                n_rows=len(self._bot.tickets),
            ),
        )
