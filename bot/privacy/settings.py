"""Settings of how long rows are kept. Reading them from the environment is `bot.settings`' business."""

from pydantic import BaseModel, ConfigDict, Field


class RetentionSettings(BaseModel):
    """Days after which rows go, per table; 0 keeps them. The vault has its own: `vault_days`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    ticket_text_days: int = Field(
        default=0,
        ge=0,
        description="Days after a ticket's last change until its text and its placeholder map are emptied; its row stays. 0 keeps them.",
    )
    inference_days: int = Field(
        default=0,
        ge=0,
        description="Days until suggestions and summaries are deleted; of those that somebody decided on only the texts. 0 keeps them.",
    )
    feedback_days: int = Field(
        default=0, ge=0, description="Days until people's decisions are deleted; the examples they made stay. 0 keeps them."
    )
    example_days: int = Field(
        default=0, ge=0, description="Days until examples are deleted, golden ones too; adapters stay as they are. 0 keeps them."
    )
    review_days: int = Field(default=0, ge=0, description="Days until settled review questions are deleted. 0 keeps them.")
    correction_days: int = Field(
        default=90, ge=0, description="Days until rejected corrections of masking are deleted. 0 keeps them."
    )
    run_days: int = Field(
        default=0,
        ge=0,
        description="Days until ended training runs that no usable adapter came of are deleted, with their folder. 0 keeps them.",
    )
    audit_days: int = Field(default=0, ge=0, description="Days until audit rows are deleted. 0 keeps them.")
    event_days: int = Field(default=7, ge=0, description="Days until handled events of plugins are deleted. 0 keeps them.")
