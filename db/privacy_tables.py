"""The table of what people say about masking: "this should have been masked" and "this is not personal".

Holds no raw text: a phrase is a keyed hash, and encrypted where there is a vault key. `db.queries.privacy_corrections` writes it.
"""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import Index, LargeBinary
from sqlmodel import Field

from db.tables import Row, now
from db.types import UTCDateTime, enum_column


class CorrectionKind(StrEnum):
    """What a person says about a phrase."""

    MASK = "mask"  # it should have been masked
    KEEP = "keep"  # it is not personal


class CorrectionStatus(StrEnum):
    """Where a correction stands. Owner: `db.queries.privacy_corrections`."""

    OPEN = "open"
    APPROVED = "approved"
    REJECTED = "rejected"


class Correction(Row, table=True):
    """One correction. It takes effect while it is approved.

    `phrase_hash` is an HMAC of the phrase's plain form under the key that `hash_key` names; `n_words` is how many words it has, so that
    windows of a text can be compared with it. `ciphertext` is the phrase under the vault key, None without one. `context` is the masked
    text around it with a hole (U+25AE) in its place.
    """

    __tablename__ = "privacy_correction"
    __table_args__ = (Index("ix_privacy_correction_kind_phrase_hash", "kind", "phrase_hash"),)

    id: int | None = Field(default=None, primary_key=True)
    kind: CorrectionKind = Field(sa_column=enum_column(CorrectionKind))
    entity: str
    status: CorrectionStatus = Field(default=CorrectionStatus.OPEN, sa_column=enum_column(CorrectionStatus, index=True))
    ticket_id: int | None = Field(default=None, foreign_key="ticket.id", ondelete="SET NULL", index=True)
    phrase_hash: str
    hash_key: str
    n_words: int
    ciphertext: bytes | None = Field(default=None, sa_type=LargeBinary)
    context: str = ""
    actor: str
    reason: str = ""
    """Why it was approved or rejected, masked."""
    reviewed_by: str | None = None
    reviewed_at: datetime | None = Field(default=None, sa_type=UTCDateTime)
    remasked_at: datetime | None = Field(default=None, sa_type=UTCDateTime)
    """When the stored texts had been searched for it; None while that is still to be done."""
    n_remasked: int | None = None
    """How many tickets and examples held it."""
    created_at: datetime = Field(default_factory=now, sa_type=UTCDateTime, index=True)
