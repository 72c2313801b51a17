"""Deleting what is older than its limit, a bounded number of rows per call, so that no transaction is long.

Each function returns how many rows it touched: call it again while that is `limit`. What the limits are is not known here.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, String, cast, delete, or_, update
from sqlmodel import Session, col, select

from db.privacy_tables import Correction, CorrectionStatus
from db.queries.common import row_id
from db.queries.privacy_erase import drop_quotes
from db.tables import (
    Adapter,
    Audit,
    Example,
    FeedbackRow,
    GateReport,
    Inference,
    ReviewItem,
    ReviewSide,
    RunExample,
    Ticket,
    TrainingRun,
    VaultEntry,
)
from db.types import RUNNING, AdapterStatus, ReviewStatus

LIMIT: Final = 500


def purge_ticket_texts(session: Session, before: datetime, *, limit: int = LIMIT) -> int:
    """Empty the texts of tickets last changed before then, with their placeholder maps, summaries, and what others quote of them."""
    has_text = or_(col(Ticket.subject) != "", col(Ticket.text) != "", cast(col(Ticket.turns), String) != "[]")
    query = select(Ticket).where(col(Ticket.updated_at) < before, has_text).order_by(col(Ticket.id)).limit(limit)
    rows = session.exec(query).all()
    ids = [row_id(row) for row in rows]
    for row in rows:
        row.subject, row.text, row.turns = "", "", []
    session.connection().execute(delete(VaultEntry).where(col(VaultEntry.ticket_id).in_(ids)))
    for inference in session.exec(select(Inference).where(col(Inference.ticket_id).in_(ids))).all():
        inference.output = _strip(inference.output)
    if ids:
        drop_quotes(session, set(ids))
    session.flush()
    return len(rows)


def _strip(output: Mapping[str, Any]) -> dict[str, Any]:
    """What an inference's output says without any text: the labels and their probabilities."""
    return {key: value for key, value in output.items() if key in {"candidates", "is_excerpt"}}


def purge_inferences(session: Session, before: datetime, *, limit: int = LIMIT) -> int:
    """Delete inferences made before then; those that feedback names lose their texts and stay."""
    named = select(FeedbackRow.inference_id)
    is_old = col(Inference.created_at) < before
    free = session.exec(select(Inference.id).where(is_old, col(Inference.id).not_in(named)).limit(limit)).all()
    session.connection().execute(delete(Inference).where(col(Inference.id).in_(free)))
    has_output = cast(col(Inference.output), String) != "{}"
    kept = session.exec(
        select(Inference).where(is_old, col(Inference.id).in_(named), has_output).limit(max(0, limit - len(free)))
    ).all()
    for row in kept:
        row.output = {}
    session.flush()
    return len(free) + len(kept)


def purge_feedback(session: Session, before: datetime, *, limit: int = LIMIT) -> int:
    """Delete feedback given before then, the oldest first: a row only ever names a later one as its replacement."""
    ids = _find(session, FeedbackRow, col(FeedbackRow.created_at) < before, limit=limit)
    session.connection().execute(update(Example).where(col(Example.feedback_id).in_(ids)).values(feedback_id=None))
    return _delete(session, FeedbackRow, ids)


def purge_examples(session: Session, before: datetime, *, limit: int = LIMIT) -> int:
    """Delete examples made before then. What they taught stays in the adapters, which are not marked: this is no erasure."""
    return _delete(session, Example, _find(session, Example, col(Example.created_at) < before, limit=limit))


def purge_reviews(session: Session, before: datetime, *, limit: int = LIMIT) -> int:
    """Delete questions settled before then."""
    is_old = (col(ReviewItem.status) != ReviewStatus.OPEN) & (col(ReviewItem.resolved_at) < before)
    ids = _find(session, ReviewItem, is_old, limit=limit)
    session.connection().execute(delete(ReviewSide).where(col(ReviewSide.item_id).in_(ids)))
    return _delete(session, ReviewItem, ids)


def purge_corrections(session: Session, before: datetime, *, limit: int = LIMIT) -> int:
    """Delete corrections rejected before then."""
    is_old = (col(Correction.status) == CorrectionStatus.REJECTED) & (col(Correction.reviewed_at) < before)
    return _delete(session, Correction, _find(session, Correction, is_old, limit=limit))


def find_old_runs(session: Session, before: datetime, *, limit: int = LIMIT) -> list[int]:
    """Return the runs that ended before then and that no adapter came of, or only one that was rejected and never live."""
    is_usable = or_(col(Adapter.status) != AdapterStatus.REJECTED, col(Adapter.activated_at).is_not(None))
    digests = select(Adapter.digest).where(is_usable)
    runs = select(Adapter.run_id).where(is_usable, col(Adapter.run_id).is_not(None))
    is_old = (
        (col(TrainingRun.finished_at) < before)
        & col(TrainingRun.status).not_in(list(RUNNING))
        & col(TrainingRun.id).not_in(runs)
        & or_(col(TrainingRun.adapter_digest).is_(None), col(TrainingRun.adapter_digest).not_in(digests))
    )
    return _find(session, TrainingRun, is_old, limit=limit)


def delete_runs(session: Session, ids: Sequence[int]) -> int:
    """Delete runs with what they used and how they were judged."""
    connection = session.connection()
    connection.execute(delete(RunExample).where(col(RunExample.run_id).in_(ids)))
    connection.execute(delete(GateReport).where(col(GateReport.run_id).in_(ids)))
    connection.execute(update(ReviewItem).where(col(ReviewItem.run_id).in_(ids)).values(run_id=None))
    connection.execute(update(Adapter).where(col(Adapter.run_id).in_(ids)).values(run_id=None))
    return _delete(session, TrainingRun, ids)


def purge_audit(session: Session, before: datetime, *, limit: int = LIMIT) -> int:
    """Delete audit rows written before then."""
    return _delete(session, Audit, _find(session, Audit, col(Audit.at) < before, limit=limit))


def _find(session: Session, kind: Any, condition: ColumnElement[bool], *, limit: int) -> list[int]:
    query = select(kind.id).where(condition).order_by(kind.id).limit(limit)
    return [key for key in session.exec(query).all() if key is not None]


def _delete(session: Session, kind: Any, ids: Sequence[int]) -> int:
    session.connection().execute(delete(kind).where(col(kind.id).in_(ids)))
    session.expire_all()
    return len(ids)
