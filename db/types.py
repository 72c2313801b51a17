"""Enums and marker types shared by every table and by both processes.

Knows nothing of queries, of models or of plugins. Each enum here has one owner who changes it; the owner is named beside it.
"""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, NewType

from sqlalchemy import Column, DateTime, Dialect, Enum
from sqlalchemy.types import TypeDecorator

MaskedText = NewType("MaskedText", str)
"""Text that went through `bot.masking`. Only the masker makes one; whatever writes text or renders a prompt takes one."""


class TaskKind(StrEnum):
    """What a model is asked to do with a ticket."""

    CLASSIFICATION = "classification"
    SUMMARY = "summary"


class ModelKind(StrEnum):
    """How a base model answers: pooled embeddings and a head, or a causal language model."""

    ENCODER = "encoder"
    DECODER = "decoder"


class FeedbackKind(StrEnum):
    """What a person did with a suggestion. Edit and override carry a demonstration."""

    ACCEPT = "accept"
    EDIT = "edit"
    OVERRIDE = "override"
    HANDOFF = "handoff"


class TicketStatus(StrEnum):
    """Where a ticket stands for the people who work on it. Owner: `bot.service`."""

    OPEN = "open"
    DECIDED = "decided"
    HANDED_OFF = "handed_off"
    WITHHELD = "withheld"  # masking failed: nothing but the reference is stored


class AdapterStatus(StrEnum):
    """Owner: `db.queries.adapters`."""

    CANDIDATE = "candidate"
    SHADOW = "shadow"
    ACTIVE = "active"
    RETIRED = "retired"
    REJECTED = "rejected"


class RunStatus(StrEnum):
    """Owner: `db.queries.runs`."""

    QUEUED = "queued"
    PREPARING = "preparing"
    TRAINING = "training"
    EVALUATING = "evaluating"
    AWAITING_APPROVAL = "awaiting_approval"
    PROMOTED = "promoted"
    REJECTED = "rejected"
    FAILED = "failed"
    CANCELLED = "cancelled"


RUNNING = frozenset({RunStatus.QUEUED, RunStatus.PREPARING, RunStatus.TRAINING, RunStatus.EVALUATING})
"""States in which a run still needs the training process."""


class RunTrigger(StrEnum):
    """What asked for a training run."""

    MANUAL = "manual"
    SCHEDULE = "schedule"
    OVERRIDES = "overrides"  # people correct the live model too often
    DEGRADATION = "degradation"  # the live model is surely worse than the gate measured
    ERASURE = "erasure"  # the live adapter learned from examples that were erased
    DEMO = "demo"


class ReviewKind(StrEnum):
    """Why an example is to be looked at by a person."""

    CONTRADICTION = "contradiction"  # the same text, decided differently
    REVIEWER_DISAGREEMENT = "reviewer_disagreement"  # two people, one ticket or nearly the same text, two labels
    LABEL_NOISE = "label_noise"  # what the other examples say speaks against its label
    LOW_CONFIDENCE = "low_confidence"  # an answer the model was unsure of, and nobody has decided
    FLAGGED = "flagged"  # somebody asked for it


class ReviewStatus(StrEnum):
    """Where a question stands. Owner: `db.queries.review`."""

    OPEN = "open"
    RESOLVED = "resolved"
    DISMISSED = "dismissed"


class EventStatus(StrEnum):
    """Where a plugin's event stands. Owner: `db.queries.events`."""

    WAITING = "waiting"  # to be handled, or being handled by whoever holds its claim
    DONE = "done"
    FAILED = "failed"  # given up; kept for a person to look at and to try again


class Split(StrEnum):
    """Which part of a dataset an example belongs to. Golden and blind examples are never trained on."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"
    GOLDEN = "golden"


class UTCDateTime(TypeDecorator[datetime]):
    """A time zone-aware UTC datetime on every database; SQLite has no zones and would hand back naive values."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Refuse naive times, store UTC."""
        if value is None:
            return None
        if value.tzinfo is None:
            message = "a time without a time zone was about to be stored; use datetime.now(UTC)"
            raise ValueError(message)
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Give back UTC."""
        return None if value is None else (value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC))


def enum_column(enum: type[StrEnum], *, index: bool = False, nullable: bool = False) -> Column[Any]:
    """Return a column that stores the enum's value (not its name) as text, the same on SQLite and PostgreSQL."""
    kind = Enum(enum, native_enum=False, values_callable=lambda e: [m.value for m in e], length=32, validate_strings=True)
    return Column(kind, nullable=nullable, index=index)
