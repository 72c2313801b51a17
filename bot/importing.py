"""Labelled tickets from elsewhere become masked examples. Idempotent by the row's id or its text."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlmodel import Session

from bot.jsonl import replace_surrogates
from bot.masking import Masker, MaskingError, PlaceholderMap
from bot.types import LabelSet
from db.queries.audit import record_audit
from db.queries.common import row_id
from db.queries.examples import add_example
from db.queries.tickets import get_ticket_by_source, set_ticket_status, upsert_ticket
from db.types import MaskedText, Split, TaskKind, TicketStatus

PLUGIN = "import"


@dataclass(frozen=True)
class MaskedRow:
    """A labelled ticket without personal data. `text` is None where it could not be masked."""

    external_id: str
    text: MaskedText | None
    label: str


def get_external_id(row: Mapping[str, Any]) -> str:
    """The row's own id, or a digest of its text where it has none."""
    return replace_surrogates(str(row.get("id") or hashlib.sha256(str(row["text"]).encode(errors="replace")).hexdigest()[:16]))


def find_new(session: Session, rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the rows whose ticket is not there yet, so that only these are masked."""
    return [row for row in rows if get_ticket_by_source(session, plugin=PLUGIN, external_id=get_external_id(row)) is None]


def mask_rows(masker: Masker, rows: Sequence[Mapping[str, Any]]) -> list[MaskedRow]:
    """Mask rows with `text` and `label`. Takes milliseconds a row: do it in no transaction."""
    return [MaskedRow(get_external_id(row), _mask(masker, str(row["text"])), str(row["label"])) for row in rows]


def _mask(masker: Masker, text: str) -> MaskedText | None:
    try:
        return masker.mask(text, PlaceholderMap()).text
    except MaskingError:
        return None


def import_batch(
    session: Session, rows: Sequence[MaskedRow], *, label_set: LabelSet, is_golden: bool, actor: str
) -> dict[str, int]:
    """Import masked rows in one transaction; return counts of imported, known and withheld rows."""
    counts = {"imported": 0, "known": 0, "withheld": 0}
    for row in rows:
        if get_ticket_by_source(session, plugin=PLUGIN, external_id=row.external_id) is not None:
            counts["known"] += 1
            continue
        if row.text is None:
            counts["withheld"] += 1
            continue
        ticket = upsert_ticket(session, plugin=PLUGIN, external_id=row.external_id, subject=MaskedText(""), text=row.text)
        set_ticket_status(session, row_id(ticket), status=TicketStatus.DECIDED)
        add_example(
            session,
            ticket_id=ticket.id,
            task=TaskKind.CLASSIFICATION,
            text=row.text,
            target=row.label,
            label_set_version=label_set.version,
            split=Split.GOLDEN if is_golden else None,
        )
        counts["imported"] += 1
    record_audit(
        session,
        actor=actor,
        action="examples.imported",
        subject_type="label_set",
        subject_id=label_set.version,
        detail=dict(counts),
    )
    return counts
