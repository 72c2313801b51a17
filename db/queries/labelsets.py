"""Versions of the team's label set, as they were read. Parsing is `bot.tasks`' business."""

from collections.abc import Sequence

from sqlmodel import Session, col, select

from db.errors import InvalidValueError
from db.queries.audit import record_audit
from db.queries.common import take_lock
from db.tables import LabelSetRow


def store_label_set(session: Session, *, version: str, name: str, content_yaml: str, actor: str) -> LabelSetRow:
    """Store a version once; again gives back the row that is there. Audited when new. Raises InvalidValueError for an empty version."""
    if not version:
        message = "a label set needs a version"
        raise InvalidValueError(message)
    take_lock(session, "label_sets")
    known = get_label_set(session, version)
    if known is not None:
        return known
    row = LabelSetRow(version=version, name=name, content_yaml=content_yaml)
    session.add(row)
    session.flush()
    record_audit(
        session, actor=actor, action="label_set.store", subject_type="label_set", subject_id=version, detail={"name": name}
    )
    return row


def get_label_set(session: Session, version: str) -> LabelSetRow | None:
    """Return that version, or None."""
    return session.exec(select(LabelSetRow).where(col(LabelSetRow.version) == version)).one_or_none()


def list_label_sets(session: Session) -> Sequence[LabelSetRow]:
    """Return every version seen, newest first."""
    return session.exec(select(LabelSetRow).order_by(col(LabelSetRow.id).desc())).all()
