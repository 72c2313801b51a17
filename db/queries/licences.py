"""Licence notes of base models, and who approved them."""

from collections.abc import Sequence

from sqlmodel import Session, col, select

from db.errors import RowNotFoundError
from db.queries.audit import record_audit
from db.queries.common import take_lock
from db.tables import LicenceNote, now


def upsert_licence(
    session: Session,
    *,
    base_digest: str,
    model_name: str,
    source: str,
    revision: str,
    licence: str,
    noted_on: str,
    actor: str,
    restrictions: str = "",
    commercial_use: str = "",
    hosted_use: str = "",
    affiliate_use: str = "",
) -> LicenceNote:
    """Store or change the note of a base model. A changed note loses its approval: somebody has to read it again. Audited."""
    take_lock(session, "licences")
    values = {
        "model_name": model_name,
        "source": source,
        "revision": revision,
        "licence": licence,
        "noted_on": noted_on,
        "restrictions": restrictions,
        "commercial_use": commercial_use,
        "hosted_use": hosted_use,
        "affiliate_use": affiliate_use,
    }
    row = get_licence(session, base_digest)
    if row is None:
        row = LicenceNote.model_validate({"base_digest": base_digest, **values})
        session.add(row)
    elif all(getattr(row, name) == value for name, value in values.items()):
        return row
    else:
        for name, value in values.items():
            setattr(row, name, value)
        row.approved_by = None
        row.approved_at = None
    session.flush()
    detail = {"model_name": model_name, "licence": licence}
    record_audit(session, actor=actor, action="licence.note", subject_type="model", subject_id=base_digest, detail=detail)
    return row


def get_licence(session: Session, base_digest: str) -> LicenceNote | None:
    """Return the note of that base model, or None."""
    return session.exec(select(LicenceNote).where(col(LicenceNote.base_digest) == base_digest)).one_or_none()


def list_licences(session: Session) -> Sequence[LicenceNote]:
    """Return all notes by model name."""
    return session.exec(select(LicenceNote).order_by(col(LicenceNote.model_name))).all()


def approve_licence(session: Session, base_digest: str, *, actor: str) -> LicenceNote:
    """Record that `actor` has read the licence and lets the model serve. Audited. Raises RowNotFoundError."""
    row = get_licence(session, base_digest)
    if row is None:
        message = f"there is no licence note for model {base_digest[:12]}: add one first"
        raise RowNotFoundError(message)
    row.approved_by = actor
    row.approved_at = now()
    detail = {"model_name": row.model_name, "licence": row.licence}
    record_audit(session, actor=actor, action="licence.approve", subject_type="model", subject_id=base_digest, detail=detail)
    return row
