"""Every table of Understudy, for the bot and the training process alike.

Holds masked text only. Knows nothing of how rows come to be: `db.queries` writes them. Times are UTC.
"""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, Column, Index, LargeBinary, MetaData, UniqueConstraint, false, text
from sqlmodel import Field, SQLModel

from db.types import (
    AdapterStatus,
    EventStatus,
    FeedbackKind,
    ModelKind,
    ReviewKind,
    ReviewStatus,
    RunStatus,
    RunTrigger,
    Split,
    TaskKind,
    TicketStatus,
    UTCDateTime,
    enum_column,
)


def now() -> datetime:
    """Return the current time in UTC."""
    return datetime.now(UTC)


def _json() -> Column[Any]:
    return Column(JSON, nullable=False)


class Row(SQLModel):
    """What all tables share: constraint names that are the same on every database, so that a later migration can name them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class LabelSetRow(Row, table=True):
    """A version of the team's label set, as it was read: history is never rewritten."""

    __tablename__ = "label_set"

    id: int | None = Field(default=None, primary_key=True)
    version: str = Field(unique=True, index=True)
    name: str
    content_yaml: str
    created_at: datetime = Field(default_factory=now, sa_type=UTCDateTime)


class Ticket(Row, table=True):
    """One ticket of one plugin, masked. `turns` is a list of {"speaker", "text"}; `group_key` ties near-duplicates and customers together."""

    __tablename__ = "ticket"
    __table_args__ = (
        UniqueConstraint("plugin", "external_id"),
        {"sqlite_autoincrement": True},
    )  # an erased one's id is never another's

    id: int | None = Field(default=None, primary_key=True)
    plugin: str
    external_id: str
    subject: str = ""
    text: str = ""
    turns: list[dict[str, str]] = Field(default_factory=list, sa_column=_json())
    status: TicketStatus = Field(default=TicketStatus.OPEN, sa_column=enum_column(TicketStatus, index=True))
    is_blind: bool = False
    group_key: str = Field(default="", index=True)
    created_at: datetime = Field(default_factory=now, sa_type=UTCDateTime, index=True)
    updated_at: datetime = Field(default_factory=now, sa_type=UTCDateTime)


class VaultEntry(Row, table=True):
    """The encrypted placeholder map of one ticket, until it expires. Without a key there are no rows."""

    __tablename__ = "vault_entry"

    ticket_id: int = Field(primary_key=True, foreign_key="ticket.id")
    ciphertext: bytes = Field(sa_type=LargeBinary)
    expires_at: datetime = Field(sa_type=UTCDateTime, index=True)


class Inference(Row, table=True):
    """One model call: what was asked of which adapter, and what it answered."""

    __tablename__ = "inference"
    __table_args__ = (Index("ix_inference_ticket_task", "ticket_id", "task"),)

    id: int | None = Field(default=None, primary_key=True)
    ticket_id: int = Field(foreign_key="ticket.id")
    task: TaskKind = Field(sa_column=enum_column(TaskKind))
    model_kind: ModelKind = Field(sa_column=enum_column(ModelKind))
    base_digest: str
    adapter_digest: str = Field(index=True)
    label_set_version: str = ""
    prompt_version: str
    label: str | None = None
    confidence: float | None = None
    output: dict[str, Any] = Field(default_factory=dict, sa_column=_json())
    """classification: {"candidates": [[label, p], ...], "reason", "similar": [[ticket_id, label, cosine], ...]}; summary: {"text", "units"}."""
    is_blind: bool = False
    is_truncated: bool = False
    latency_ms: float
    created_at: datetime = Field(default_factory=now, sa_type=UTCDateTime, index=True)


class FeedbackRow(Row, table=True):
    """One click. A later row on the same ticket and task replaces it: `replaced_by_id` is then set and the row no longer counts.

    One that was taken back has `withdrawn_at` and names itself as its own replacement.
    """

    __tablename__ = "feedback"

    id: int | None = Field(default=None, primary_key=True)
    inference_id: int = Field(foreign_key="inference.id", index=True)
    ticket_id: int = Field(foreign_key="ticket.id", index=True)
    task: TaskKind = Field(sa_column=enum_column(TaskKind))
    kind: FeedbackKind = Field(sa_column=enum_column(FeedbackKind))
    actor: str
    idempotency_key: str = Field(unique=True)
    value: str | None = None
    reason: str | None = None
    decision_ms: int | None = None
    replaced_by_id: int | None = Field(default=None, foreign_key="feedback.id")
    is_passive: bool = Field(default=False, sa_column_kwargs={"server_default": false()})
    """Whether it was read from what a person did in the helpdesk, not from a click on the card."""
    withdrawn_at: datetime | None = Field(default=None, sa_type=UTCDateTime)
    created_at: datetime = Field(default_factory=now, sa_type=UTCDateTime, index=True)


class Example(Row, table=True):
    """One labelled example. `target` is a label or a summary; `is_negative` means "not this" (a handoff). Withdrawn ones are kept for audit."""

    __tablename__ = "example"
    __table_args__ = (
        Index("ix_example_task_split", "task", "split"),
        Index("ix_example_task_id", "task", "id"),  # pages of the stream; without it every page sorts the whole table
        {"sqlite_autoincrement": True},  # lineage outlives an erased example: its id is never another's
    )

    id: int | None = Field(default=None, primary_key=True)
    ticket_id: int | None = Field(default=None, foreign_key="ticket.id", index=True)
    feedback_id: int | None = Field(default=None, foreign_key="feedback.id", index=True)
    task: TaskKind = Field(sa_column=enum_column(TaskKind))
    text: str
    turns: list[dict[str, str]] = Field(default_factory=list, sa_column=_json())
    target: str
    draft: str | None = None
    is_negative: bool = False
    is_blind: bool = False
    weight: float = 1.0
    split: Split | None = Field(default=None, sa_column=enum_column(Split, nullable=True))
    group_key: str = Field(default="", index=True)
    label_set_version: str = ""
    is_withdrawn: bool = False
    created_at: datetime = Field(default_factory=now, sa_type=UTCDateTime, index=True)


class Adapter(Row, table=True):
    """One adapter bundle. `digest` is content-addressed; `path` is relative to the adapters folder."""

    __tablename__ = "adapter"
    __table_args__ = (
        # The database itself refuses a second active adapter of a task, whatever two processes do at once.
        Index(
            "uq_adapter_active_task",
            "task",
            unique=True,
            sqlite_where=text("status = 'active'"),
            postgresql_where=text("status = 'active'"),
        ),
    )

    id: int | None = Field(default=None, primary_key=True)
    digest: str = Field(unique=True, index=True)
    task: TaskKind = Field(sa_column=enum_column(TaskKind))
    model_kind: ModelKind = Field(sa_column=enum_column(ModelKind))
    base_digest: str
    label_set_version: str = ""
    prompt_version: str
    path: str
    status: AdapterStatus = Field(default=AdapterStatus.CANDIDATE, sa_column=enum_column(AdapterStatus, index=True))
    run_id: int | None = Field(default=None, foreign_key="training_run.id")
    metrics: dict[str, float] = Field(default_factory=dict, sa_column=_json())
    reason: str = ""
    created_at: datetime = Field(default_factory=now, sa_type=UTCDateTime)
    activated_at: datetime | None = Field(default=None, sa_type=UTCDateTime)
    retired_at: datetime | None = Field(default=None, sa_type=UTCDateTime)
    erased_at: datetime | None = Field(default=None, sa_type=UTCDateTime)
    """When examples that it learned from were erased, the last time; None where none were."""
    n_erased: int | None = None
    """How many of the examples that it learned from were erased."""


class Activation(Row, table=True):
    """One change of what is live for a task. Rows are only ever added; `adapter_digest` is None where the bare base model took over."""

    __tablename__ = "activation"
    __table_args__ = (Index("ix_activation_task_at", "task", "at"),)

    id: int | None = Field(default=None, primary_key=True)
    task: TaskKind = Field(sa_column=enum_column(TaskKind))
    adapter_digest: str | None = None
    previous_digest: str | None = None
    is_rollback: bool = False
    actor: str
    reason: str
    at: datetime = Field(default_factory=now, sa_type=UTCDateTime)


class TrainingRun(Row, table=True):
    """One training run and its progress. The training process owns it from `preparing` on."""

    __tablename__ = "training_run"

    id: int | None = Field(default=None, primary_key=True)
    task: TaskKind = Field(sa_column=enum_column(TaskKind))
    status: RunStatus = Field(default=RunStatus.QUEUED, sa_column=enum_column(RunStatus, index=True))
    trigger: RunTrigger = Field(sa_column=enum_column(RunTrigger))
    actor: str
    phase: str = ""
    step: int = 0
    total_steps: int = 0
    loss: float | None = None
    eta_s: float | None = None
    message: str = ""
    is_cancel_requested: bool = False
    attempts: int = 0
    settings: dict[str, Any] = Field(default_factory=dict, sa_column=_json())
    data_digest: str | None = None
    data_counts: dict[str, Any] = Field(default_factory=dict, sa_column=_json())
    curves: dict[str, Any] = Field(default_factory=dict, sa_column=_json())
    adapter_digest: str | None = None
    error: str | None = None
    created_at: datetime = Field(default_factory=now, sa_type=UTCDateTime)
    started_at: datetime | None = Field(default=None, sa_type=UTCDateTime)
    finished_at: datetime | None = Field(default=None, sa_type=UTCDateTime)


class RunExample(Row, table=True):
    """Which example a run used, and for what. Outlives the example, so that an erased one is still traced to the adapters that saw it."""

    __tablename__ = "run_example"
    __table_args__ = {"sqlite_with_rowid": False}

    run_id: int = Field(primary_key=True, foreign_key="training_run.id")
    example_id: int = Field(primary_key=True, index=True, sa_column_kwargs={"autoincrement": False})
    split: Split = Field(sa_column=enum_column(Split))


class GateReport(Row, table=True):
    """What the gate decided about one candidate, with every number it looked at."""

    __tablename__ = "gate_report"

    id: int | None = Field(default=None, primary_key=True)
    run_id: int = Field(foreign_key="training_run.id", index=True)
    adapter_digest: str = Field(index=True)
    is_passed: bool
    reasons: list[str] = Field(default_factory=list, sa_column=_json())
    numbers: dict[str, Any] = Field(default_factory=dict, sa_column=_json())
    created_at: datetime = Field(default_factory=now, sa_type=UTCDateTime)


class LicenceNote(Row, table=True):
    """Whether a base model may serve: its licence as somebody read and approved it."""

    __tablename__ = "licence_note"

    id: int | None = Field(default=None, primary_key=True)
    base_digest: str = Field(unique=True, index=True)
    model_name: str
    source: str
    revision: str
    licence: str
    restrictions: str = ""
    commercial_use: str = ""
    hosted_use: str = ""
    affiliate_use: str = ""
    noted_on: str
    approved_by: str | None = None
    approved_at: datetime | None = Field(default=None, sa_type=UTCDateTime)


class ReviewItem(Row, table=True):
    """A question about examples for a person to settle. `content_key` names what it is about, so that it is asked once.

    `resolution` is the label chosen, or None where the examples were withdrawn or the question dismissed.
    """

    __tablename__ = "review_item"

    id: int | None = Field(default=None, primary_key=True)
    kind: ReviewKind = Field(sa_column=enum_column(ReviewKind))
    status: ReviewStatus = Field(default=ReviewStatus.OPEN, sa_column=enum_column(ReviewStatus, index=True))
    task: TaskKind = Field(sa_column=enum_column(TaskKind))
    content_key: str = Field(unique=True)
    priority: float = 0.0
    """Higher ones are asked first; from 0 to 1."""
    run_id: int | None = Field(default=None, foreign_key="training_run.id")
    reason: str = ""
    resolution: str | None = None
    resolved_by: str | None = None
    resolved_at: datetime | None = Field(default=None, sa_type=UTCDateTime)
    created_at: datetime = Field(default_factory=now, sa_type=UTCDateTime)


class ReviewSide(Row, table=True):
    """One side of a question: a label, who chose it (a person, or "model") and when. Its text is the example's or the ticket's."""

    __tablename__ = "review_side"

    id: int | None = Field(default=None, primary_key=True)
    item_id: int = Field(foreign_key="review_item.id", index=True)
    example_id: int | None = Field(default=None, foreign_key="example.id", ondelete="SET NULL", index=True)
    ticket_id: int | None = Field(default=None, foreign_key="ticket.id", ondelete="SET NULL", index=True)
    label: str
    actor: str
    at: datetime = Field(sa_type=UTCDateTime)
    confidence: float | None = None


class Audit(Row, table=True):
    """Who did what to which thing, when. Rows are only ever added."""

    __tablename__ = "audit"

    id: int | None = Field(default=None, primary_key=True)
    at: datetime = Field(default_factory=now, sa_type=UTCDateTime, index=True)
    actor: str
    action: str = Field(index=True)
    subject_type: str
    subject_id: str
    detail: dict[str, Any] = Field(default_factory=dict, sa_column=_json())


class Lease(Row, table=True):
    """A named right that one process at a time holds until it expires, such as "training"."""

    __tablename__ = "lease"

    name: str = Field(primary_key=True)
    holder: str
    expires_at: datetime = Field(sa_type=UTCDateTime)


class State(Row, table=True):
    """Small facts both processes share, such as whether suggestions are paused."""

    __tablename__ = "state"

    key: str = Field(primary_key=True)
    value: dict[str, Any] = Field(default_factory=dict, sa_column=_json())
    updated_at: datetime = Field(default_factory=now, sa_type=UTCDateTime)


class PluginEvent(Row, table=True):
    """Something that reached a plugin and is to be handled exactly once. What it says is encrypted, and gone once it is handled.

    Events of one `group_key` are handled one at a time, in the order of their ids; an empty one stands alone.
    """

    __tablename__ = "plugin_event"
    __table_args__ = (
        UniqueConstraint("plugin", "key"),
        Index("ix_plugin_event_plugin_status_id", "plugin", "status", "id"),
        Index("ix_plugin_event_group_key_plugin_status_id", "group_key", "plugin", "status", "id"),
    )

    id: int | None = Field(default=None, primary_key=True)
    plugin: str
    key: str
    kind: str
    group_key: str = ""
    ciphertext: bytes = Field(default=b"", sa_type=LargeBinary)
    status: EventStatus = Field(default=EventStatus.WAITING, sa_column=enum_column(EventStatus))
    attempts: int = 0
    error: str = ""
    """The type of the last error, never its text."""
    available_at: datetime = Field(default_factory=now, sa_type=UTCDateTime)
    claimed_by: str | None = None
    claimed_until: datetime | None = Field(default=None, sa_type=UTCDateTime)
    created_at: datetime = Field(default_factory=now, sa_type=UTCDateTime)
    finished_at: datetime | None = Field(default=None, sa_type=UTCDateTime, index=True)


class PluginValue(Row, table=True):
    """A small fact a plugin keeps, encrypted: a cursor, a token, which message shows which card."""

    __tablename__ = "plugin_value"

    plugin: str = Field(primary_key=True)
    key: str = Field(primary_key=True)
    ciphertext: bytes = Field(sa_type=LargeBinary)
    expires_at: datetime | None = Field(default=None, sa_type=UTCDateTime, index=True)
    updated_at: datetime = Field(default_factory=now, sa_type=UTCDateTime)
