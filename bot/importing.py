"""Labelled tickets from elsewhere become masked examples. Idempotent by the row's id or its text."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from sqlmodel import Session

from bot.masking import Masker, MaskingError, PlaceholderMap
from bot.types import LabelSet
from db.queries.audit import record_audit
from db.queries.common import row_id
from db.queries.examples import add_example
from db.queries.tickets import get_ticket_by_source, set_ticket_status, upsert_ticket
from db.types import MaskedText, Split, TaskKind, TicketStatus

PLUGIN = "import"


def get_external_id(row: Mapping[str, Any]) -> str:
    """The row's own id, or a digest of its text where it has none."""
    return str(row.get("id") or hashlib.sha256(str(row["text"]).encode()).hexdigest()[:16])


def import_batch(
    session: Session, masker: Masker, rows: Sequence[Mapping[str, Any]], *, label_set: LabelSet, is_golden: bool, actor: str
) -> dict[str, int]:
    """Import rows with `text` and `label` in one transaction; return counts of imported, known and withheld rows."""
    counts = {"imported": 0, "known": 0, "withheld": 0}
    for row in rows:
        external_id = get_external_id(row)
        if get_ticket_by_source(session, plugin=PLUGIN, external_id=external_id) is not None:
            counts["known"] += 1
            continue
        try:
            text = masker.mask(str(row["text"]), PlaceholderMap()).text
        except MaskingError:
            counts["withheld"] += 1
            continue
        ticket = upsert_ticket(session, plugin=PLUGIN, external_id=external_id, subject=MaskedText(""), text=text)
        set_ticket_status(session, row_id(ticket), status=TicketStatus.DECIDED)
        add_example(
            session,
            ticket_id=ticket.id,
            task=TaskKind.CLASSIFICATION,
            text=text,
            target=str(row["label"]),
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
