"""The audit trail: rows are added in the transaction of the change they tell of, and never altered."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlmodel import Session, col, select

from db.queries.common import bound
from db.tables import Audit


def record_audit(
    session: Session,
    *,
    actor: str,
    action: str,
    subject_type: str,
    subject_id: str | int,
    detail: Mapping[str, Any] | None = None,
) -> Audit:
    """Append a row. `action` reads "adapter.activate"; `detail` is JSON and holds no ticket text."""
    row = Audit(actor=actor, action=action, subject_type=subject_type, subject_id=str(subject_id), detail=dict(detail or {}))
    session.add(row)
    session.flush()
    return row


def list_audit(
    session: Session,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    subject_type: str | None = None,
    subject_id: str | int | None = None,
    action: str | None = None,
    limit: int | None = None,
) -> Sequence[Audit]:
    """Return matching rows, newest first. `since` is included, `until` is not."""
    query = select(Audit).order_by(col(Audit.id).desc())
    if since is not None:
        query = query.where(col(Audit.at) >= since)
    if until is not None:
        query = query.where(col(Audit.at) < until)
    if subject_type is not None:
        query = query.where(col(Audit.subject_type) == subject_type)
    if subject_id is not None:
        query = query.where(col(Audit.subject_id) == str(subject_id))
    if action is not None:
        query = query.where(col(Audit.action) == action)
    if limit is not None:
        query = query.limit(bound(limit))
    return session.exec(query).all()
