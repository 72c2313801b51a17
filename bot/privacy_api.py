"""What plugins may ask about people's data: corrections of masking, export, erasure and the map of what is kept. Part of `bot.plugin_api`.

Values and one Protocol; knows no database and no vault.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from bot.types import SourceRef
from db.privacy_tables import CorrectionKind, CorrectionStatus

__all__ = [
    "ColumnInfo",
    "CorrectionInfo",
    "CorrectionKind",
    "CorrectionStatus",
    "ErasureReport",
    "Findings",
    "FoundTicket",
    "Privacy",
    "Subject",
    "TableInfo",
]


@dataclass(frozen=True)
class CorrectionInfo:
    """A correction of masking. `phrase` is None where no vault key opens it; `context` is masked, with U+25AE in the phrase's place.

    `n_remasked` is how many tickets and examples held the phrase, None until that was looked for.
    """

    id: int
    kind: CorrectionKind
    entity: str
    status: CorrectionStatus
    phrase: str | None
    context: str
    ticket_id: int | None
    actor: str
    created_at: datetime
    reviewed_by: str | None = None
    reviewed_at: datetime | None = None
    reason: str = ""
    n_remasked: int | None = None


@dataclass(frozen=True)
class Subject:
    """Whose data: a person by name, e-mail address or the like, or tickets by number or by where they live. Exactly one of the three."""

    person: str = ""
    ticket_ids: tuple[int, ...] = ()
    source: SourceRef | None = None

    def __repr__(self) -> str:
        return f"Subject({len(self.ticket_ids)} tickets)"  # never the person: this may end up in a log


@dataclass(frozen=True)
class FoundTicket:
    """A ticket that holds something on the subject. `how` is "vault", "text", "customer", "reference" or "asked"; `rows` per table."""

    ticket_id: int
    plugin: str
    how: str
    rows: Mapping[str, int]
    created_at: datetime


@dataclass(frozen=True)
class Findings:
    """What is held, before anything is done. `notes` say what could not be searched, and why."""

    tickets: tuple[FoundTicket, ...]
    n_plugin_rows: int = 0
    """Events and values of plugins that mention the subject."""
    n_other_rows: int = 0
    """Rows outside of tickets whose text holds the person's name unmasked."""
    n_actor_rows: int = 0
    """Rows in which the person acted as a member of the team."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ErasureReport:
    """What an erasure took away: rows per table, adapters that are marked, tasks to be trained anew."""

    n_tickets: int
    rows: Mapping[str, int]
    adapters: tuple[str, ...] = ()
    retrains: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ColumnInfo:
    """A column: what it holds, in what form ("masked", "encrypted", "hash", "number", "state", "identifier", "staff", "text", "time")."""

    name: str
    type: str
    form: str
    holds: str


@dataclass(frozen=True)
class TableInfo:
    """A table of the data map: what it is for, how long rows stay, who reads it, where it leaves, and what becomes of it on erasure."""

    name: str
    holds: str
    retention: str
    readers: str
    leaves: str
    on_erasure: str
    columns: tuple[ColumnInfo, ...] = field(default=())
    n_rows: int = 0


class Privacy(Protocol):
    """People's data. Every change is audited under `actor`, never with a value."""

    def get_entity_types(self) -> Sequence[str]:
        """Return the types that a correction may name."""
        ...

    async def report_correction(
        self, *, kind: CorrectionKind, entity: str, text: str, actor: str, ticket_id: int | None = None
    ) -> CorrectionInfo:
        """Say that `text` should have been masked, or is not personal. Takes effect once somebody approves it.

        `text` is the phrase itself, as few words as say it, or a placeholder of the ticket. Raises BotError where it cannot be taken,
        NotFoundError for an unknown ticket. The same phrase twice is one correction.
        """
        ...

    async def list_corrections(
        self, *, status: CorrectionStatus | None = CorrectionStatus.OPEN, limit: int = 100
    ) -> Sequence[CorrectionInfo]:
        """Return corrections, newest first; `status=None` means all."""
        ...

    async def review_correction(self, correction_id: int, *, is_approved: bool, actor: str, reason: str = "") -> CorrectionInfo:
        """Approve or reject an open correction, or take an approved one back. Raises NotFoundError, ConflictError."""
        ...

    async def find(self, subject: Subject) -> Findings:
        """Return what is held on somebody; changes nothing. Raises BotError for an empty subject."""
        ...

    async def export(self, subject: Subject, *, actor: str) -> Mapping[str, Any]:
        """Return everything held on somebody as JSON values, unmasked as far as the vault goes. Audited."""
        ...

    async def erase(self, subject: Subject, *, actor: str, reason: str) -> ErasureReport:
        """Erase everything held on somebody, ticket by ticket. A second time there is nothing left. Audited without the value."""
        ...

    async def get_map(self) -> Sequence[TableInfo]:
        """Return the data map: every table and column."""
        ...
