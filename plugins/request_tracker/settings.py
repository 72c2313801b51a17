"""Settings of Request Tracker, read from `UNDERSTUDY_REQUEST_TRACKER_*`.

Knows nothing of how they are used.
"""

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import SettingsConfigDict

from plugins.helpdesk.settings import HelpdeskSettings


class RequestTrackerSettings(HelpdeskSettings):
    """Everything that can be set about Request Tracker. `label_field` is the name of a custom field."""

    model_config = SettingsConfigDict(
        env_prefix="UNDERSTUDY_REQUEST_TRACKER_", extra="forbid", env_ignore_empty=True, hide_input_in_errors=True
    )

    url: str = Field(pattern=r"^https?://", description="Address of Request Tracker, without /REST/2.0.")
    token: SecretStr = Field(description="Authentication token of the user that Understudy works as.")
    user: str = Field(min_length=1, description="Name of that user; what it changes is no feedback.")
    queues: list[str] = Field(
        default_factory=list, description="Queues whose tickets are looked at, as a JSON list; empty means all the user sees."
    )
    webhook_secret: SecretStr | None = Field(
        default=None, description="Secret that signs the webhook of Request Tracker's scrip; without it webhooks are refused."
    )
    webhook_tolerance_s: float = Field(
        default=300.0, ge=10.0, le=3600.0, description="Seconds by which a webhook's time of signing may differ from ours."
    )
    rule_users: list[str] = Field(
        default_factory=lambda: ["RT_System"], description="Users whose changes are made by rules, as a JSON list."
    )
    tag_field: str = Field(
        default="", description="Custom field with many values that takes the tag; empty means that no tag is written."
    )
    queue_labels: dict[str, list[str]] = Field(
        default_factory=dict, description="Labels that tickets of a queue may get, as JSON from queue to labels; others get all."
    )

    @field_validator("queues")
    @classmethod
    def _check_queues(cls, value: list[str]) -> list[str]:
        if any("'" in name or "\\" in name for name in value):
            raise ValueError("a queue's name must not hold a quote or a backslash: name the queue by its number")
        return value
