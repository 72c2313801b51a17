"""Corrections of masking: stored once, approved or rejected by a person, and what is left to do for them.

Takes hashes, ciphertexts and masked contexts; knows no phrase and no masker.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import or_
from sqlmodel import Session, col, select

from db.errors import StateConflictError
from db.privacy_tables import Correction, CorrectionKind, CorrectionStatus
from db.queries.audit import record_audit
from db.queries.common import bound, clean_text, get_row, row_id, take_lock
from db.queries.state import get_state, set_state
from db.tables import now

ACTION_REPORTED = "correction.report"
ACTION_APPROVED = "correction.approve"
ACTION_REJECTED = "correction.reject"
ACTION_REMASKED = "correction.remask"
_SALT = "privacy.salt"
_REVISION = "privacy.revision"
_LOCK = "privacy"
SETTLED_AFTER = timedelta(minutes=10)
"""So long a text may be on its way that was masked before a correction was approved: the longest one, or another replica's."""
_LOOKED_BACK = timedelta(days=1)


@dataclass(frozen=True)
class NewCorrection:
    """A correction to store: the phrase as keyed hash, encrypted where there is a key, and its masked surroundings."""

    kind: CorrectionKind
    entity: str
    phrase_hash: str
    hash_key: str
    n_words: int
    ciphertext: bytes | None = None
    context: str = ""
    ticket_id: int | None = None


def get_salt(session: Session) -> bytes:
    """Return this installation's secret for hashes of phrases, made at the first call."""
    take_lock(session, _SALT)
    known = find_salt(session)
    if known is None:
        known = secrets.token_bytes(32)
        set_state(session, _SALT, value={"hex": known.hex()})
    return known


def find_salt(session: Session) -> bytes | None:
    """Return the secret, or None where none was made yet."""
    known = get_state(session, _SALT)
    return None if known is None else bytes.fromhex(known["hex"])


def add_correction(session: Session, new: NewCorrection, *, actor: str) -> tuple[Correction, bool]:
    """Store a correction and say whether it is new: one that is open or approved already is returned as it is. Audited without the phrase."""
    take_lock(session, _LOCK)
    standing = _find_standing(session, kind=new.kind, phrase_hash=new.phrase_hash)
    if standing is not None:
        return standing, False
    row = Correction(
        kind=new.kind,
        entity=new.entity,
        ticket_id=new.ticket_id,
        phrase_hash=new.phrase_hash,
        hash_key=new.hash_key,
        n_words=new.n_words,
        ciphertext=new.ciphertext,
        context=clean_text(new.context),
        actor=actor,
    )
    session.add(row)
    session.flush()
    detail = {"kind": row.kind.value, "entity": row.entity, "ticket": row.ticket_id}
    record_audit(session, actor=actor, action=ACTION_REPORTED, subject_type="correction", subject_id=row_id(row), detail=detail)
    return row, True


def get_correction(session: Session, correction_id: int, *, is_locked: bool = False) -> Correction:
    """Return the correction. Raises RowNotFoundError."""
    return get_row(session, Correction, key=correction_id, name="correction", is_locked=is_locked)


def list_corrections(session: Session, *, status: CorrectionStatus | None = None, limit: int = 100) -> Sequence[Correction]:
    """Return corrections, newest first; `status=None` means all."""
    query = select(Correction).order_by(col(Correction.id).desc()).limit(bound(limit))
    if status is not None:
        query = query.where(col(Correction.status) == status)
    return session.exec(query).all()


def list_approved(session: Session) -> Sequence[Correction]:
    """Return all corrections in force, oldest first."""
    query = select(Correction).where(col(Correction.status) == CorrectionStatus.APPROVED)
    return session.exec(query.order_by(col(Correction.id))).all()


def list_to_remask(session: Session, *, at: datetime | None = None) -> Sequence[Correction]:
    """Return approved "should have been masked" whose phrase is to be looked for in the stored texts: at once, and again once settled.

    A text that was being masked during the approval is stored after the first look; the second one finds it.
    """
    at = at or now()
    query = select(Correction).where(
        col(Correction.status) == CorrectionStatus.APPROVED,
        col(Correction.kind) == CorrectionKind.MASK,
        or_(col(Correction.remasked_at).is_(None), col(Correction.reviewed_at) > at - _LOOKED_BACK),
    )
    return [row for row in session.exec(query.order_by(col(Correction.id))).all() if _is_look_due(row, at)]


def _is_look_due(row: Correction, at: datetime) -> bool:
    if row.remasked_at is None or row.reviewed_at is None:
        return True
    return row.remasked_at < row.reviewed_at + SETTLED_AFTER <= at


def review_correction(session: Session, correction_id: int, *, is_approved: bool, actor: str, reason: str = "") -> Correction:
    """Approve or reject an open correction, or reject (take back) an approved one. `reason` is masked. Audited.

    Raises RowNotFoundError, and StateConflictError where it stands otherwise or the opposite of it is approved.
    """
    take_lock(session, _LOCK)
    row = get_correction(session, correction_id, is_locked=True)
    if row.status is CorrectionStatus.REJECTED or (is_approved and row.status is CorrectionStatus.APPROVED):
        message = f"correction {correction_id} is {row.status.value} already, by {row.reviewed_by}"
        raise StateConflictError(message)
    opposite = CorrectionKind.KEEP if row.kind is CorrectionKind.MASK else CorrectionKind.MASK
    other = _find_standing(session, kind=opposite, phrase_hash=row.phrase_hash)
    if is_approved and other is not None and other.status is CorrectionStatus.APPROVED:
        message = f"correction {row_id(other)} says the opposite of {correction_id} and is approved: reject that one first"
        raise StateConflictError(message)
    was = row.status
    row.status = CorrectionStatus.APPROVED if is_approved else CorrectionStatus.REJECTED
    row.reason, row.reviewed_by, row.reviewed_at = clean_text(reason), actor, now()
    if not is_approved:
        row.ciphertext, row.context = None, ""  # what is not needed is not kept
    action = ACTION_APPROVED if is_approved else ACTION_REJECTED
    detail = {"kind": row.kind.value, "entity": row.entity, "was": was.value, "reason": row.reason}
    record_audit(session, actor=actor, action=action, subject_type="correction", subject_id=correction_id, detail=detail)
    raise_revision(session)
    session.flush()
    return row


def record_remasked(session: Session, correction_id: int, *, n_remasked: int, actor: str) -> None:
    """Note that the stored texts hold the phrase no longer; a second look adds to the count. Audited with the count."""
    row = get_correction(session, correction_id, is_locked=True)
    row.remasked_at, row.n_remasked = now(), (row.n_remasked or 0) + n_remasked
    detail = {"n_remasked": n_remasked}
    record_audit(session, actor=actor, action=ACTION_REMASKED, subject_type="correction", subject_id=correction_id, detail=detail)


def raise_revision(session: Session) -> None:
    """Tell every process that the corrections have changed."""
    set_state(session, _REVISION, value={"n": get_revision(session) + 1})


def get_revision(session: Session) -> int:
    """Return a number that grows with each change of the corrections in force."""
    value = get_state(session, _REVISION)
    return 0 if value is None else int(value["n"])


def _find_standing(session: Session, *, kind: CorrectionKind, phrase_hash: str) -> Correction | None:
    query = select(Correction).where(
        col(Correction.kind) == kind,
        col(Correction.phrase_hash) == phrase_hash,
        col(Correction.status).in_([CorrectionStatus.OPEN, CorrectionStatus.APPROVED]),
    )
    return session.exec(query.order_by(col(Correction.id))).first()
