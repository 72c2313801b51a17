"""What can be set about any helpdesk: how far suggestions may go, which fields mean what, and how often to look.

Each helpdesk's own settings class extends one of these under its own prefix; knows nothing of how they are used.
"""

from enum import StrEnum

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings


class WriteMode(StrEnum):
    """How far a suggestion goes by itself."""

    SUGGEST_ONLY = "suggest_only"  # an internal note; no field is touched
    PRESELECT = "preselect"  # also the label's field, where it is empty
    AUTO = "auto"  # also queue and priority, where the confidence reaches the label's threshold; below it as suggest_only


class PolicySettings(BaseSettings):
    """What all helpdesk plugins share."""

    mode: WriteMode = Field(
        default=WriteMode.PRESELECT,
        description="How far a suggestion goes: an internal note alone (suggest_only), also the label's field where it is empty "
        "(preselect), or also queue and priority above the label's threshold and a note alone below it (auto).",
    )
    label_modes: dict[str, WriteMode] = Field(
        default_factory=dict, description="Mode of single labels where it differs, as JSON from label to mode."
    )
    auto_threshold: float = Field(
        default=0.9, ge=0.0, le=1.0, description="Calibrated probability from which on a label is written in mode auto."
    )
    label_thresholds: dict[str, float] = Field(
        default_factory=dict, description="Threshold of single labels where it differs, as JSON from label to probability."
    )
    label_field: str = Field(
        default="", description="Field of the helpdesk that holds the label; empty means the one that set-up made."
    )
    label_values: dict[str, str] = Field(
        default_factory=dict,
        description="Values of the label field where they differ from the labels, as JSON from label to value.",
    )
    confidence_field: str = Field(default="", description="Field of the helpdesk that takes the confidence; empty means none.")
    queue_field: str = Field(
        default="", description="Field of the helpdesk that takes a label's queue in mode auto; empty means none."
    )
    queue_values: dict[str, str] = Field(
        default_factory=dict, description="Values of the queue field, as JSON from queue to value; other queues are not written."
    )
    priority_field: str = Field(
        default="", description="Field of the helpdesk that takes a label's priority in mode auto; empty means none."
    )
    priority_values: dict[str, str] = Field(
        default_factory=dict, description="Values of the priority field where they differ, as JSON from priority to value."
    )
    write_note: bool = Field(default=True, description="Write an internal note with the suggestion and its reason.")
    note_summary: bool = Field(default=True, description="Put a summary of the ticket into the note.")
    write_decisions: bool = Field(
        default=True,
        description="Carry what is decided in the console or in Slack into the ticket: the label's field and a note.",
    )
    tag: str = Field(
        default="understudy_suggested",
        description="Tag of tickets that got a suggestion; empty means none, and so it is without tags.",
    )
    requests_per_minute: int = Field(
        default=0,
        ge=0,
        le=100_000,
        description="Most requests to the helpdesk in a minute; 0 means nine tenths of what the helpdesk itself allows, where it tells.",
    )
    workers: int = Field(default=4, ge=1, le=32, description="Tickets handled at the same time.")
    bulk_changes: int = Field(
        default=10,
        ge=2,
        le=1000,
        description="This many decisions of one person within bulk_window_s are a bulk job, not feedback.",
    )
    bulk_window_s: float = Field(
        default=10.0, gt=0.0, le=600.0, description="Seconds within which decisions are counted as a bulk job."
    )

    @field_validator("label_thresholds")
    @classmethod
    def _check_thresholds(cls, value: dict[str, float]) -> dict[str, float]:
        if any(not 0.0 <= threshold <= 1.0 for threshold in value.values()):
            raise ValueError("each threshold is a probability between 0 and 1")
        return value

    @field_validator("label_values")
    @classmethod
    def _check_values(cls, value: dict[str, str]) -> dict[str, str]:
        if len(set(value.values())) < len(value):
            raise ValueError("two labels have the same value: what a person chooses could not be told apart")
        return value


class HelpdeskSettings(PolicySettings):
    """What the plugins share whose helpdesk can be asked for tickets."""

    poll_interval_s: float = Field(
        default=60.0, ge=0.0, le=3600.0, description="Seconds between looks for changes that no webhook told of; 0 means never."
    )
    backfill_days: int = Field(
        default=90, ge=0, le=3650, description="Days of solved tickets to learn from at the first start; 0 means none."
    )
    backfill_limit: int = Field(default=2000, ge=0, le=100_000, description="Most past tickets to learn from at the first start.")
