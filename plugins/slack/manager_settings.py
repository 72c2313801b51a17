"""What can be set for managers, the weekly digest and several workspaces; part of `SlackSettings`.

Knows nothing of how it is used.
"""

import re
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AliasChoices, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_MANAGER = re.compile(r"[USWCG][A-Z0-9]+")
_DIGEST_AT = re.compile(rf"({'|'.join(DAYS)}) ([01]\d|2[0-3]):([0-5]\d)")
_DIGEST_CHANNEL = re.compile(r"(?:[TE][A-Z0-9]+/)?[CGD][A-Z0-9]+")


class ManagerSettings(BaseSettings):
    """Who manages, what the digest says where and when, and the credentials for installing into several workspaces."""

    managers: tuple[str, ...] = Field(
        default=(),
        description="Who may train, promote, roll back, pause and settle questions: ids of user groups (S...), people (U..., W...) and "
        'channels whose members may (C..., G...), such as ["S0123ABCD", "U0456EFGH"]; empty means nobody in Slack.',
    )
    digest_channel: str | None = Field(
        default=None,
        description="Channel of the weekly digest, as C0123ABCD, or T0123ABCD/C0123ABCD with several workspaces; without one there is none.",
    )
    digest_at: str = Field(default="mon 09:00", description="When the digest is posted: mon to sun, and a time.")
    timezone: str = Field(default="UTC", description="Time zone of that time, such as Europe/Berlin.")
    minutes_per_accepted: float = Field(
        default=1.5,
        ge=0.0,
        le=240.0,
        description="Minutes that an accepted suggestion saves, as you estimate them; the digest multiplies and says that it is an estimate.",
    )
    client_id: str | None = Field(
        default=None,
        validation_alias=AliasChoices("SLACK_CLIENT_ID", "UNDERSTUDY_SLACK_CLIENT_ID"),
        description="Client id of the app; with the client secret opens /plugins/slack/install for several workspaces. "
        "SLACK_CLIENT_ID is read as well.",
    )
    client_secret: SecretStr | None = Field(
        default=None,
        validation_alias=AliasChoices("SLACK_CLIENT_SECRET", "UNDERSTUDY_SLACK_CLIENT_SECRET"),
        description="Client secret of the app. SLACK_CLIENT_SECRET is read as well.",
    )
    workspaces: tuple[str, ...] = Field(
        default=(), description="Workspaces (T...) that may install the app; empty means all that Slack lets install it."
    )

    @property
    def is_installable(self) -> bool:
        """Whether workspaces can install the app."""
        return bool(self.client_id and self.client_secret is not None)

    @field_validator("managers")
    @classmethod
    def _check_managers(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if wrong := [one for one in value if not _MANAGER.fullmatch(one)]:
            raise ValueError(f"{wrong[0]} is no id of a person (U, W), a user group (S) or a channel (C, G); names do not work")
        return value

    @field_validator("digest_channel")
    @classmethod
    def _check_channel(cls, value: str | None) -> str | None:
        if value is not None and not _DIGEST_CHANNEL.fullmatch(value):
            raise ValueError("the digest's channel must be an id such as C0123ABCD; a name does not work")
        return value

    @field_validator("digest_at")
    @classmethod
    def _check_time(cls, value: str) -> str:
        if not _DIGEST_AT.fullmatch(value):
            raise ValueError("the digest's time must be a day and a time, such as mon 09:00")
        return value

    @field_validator("timezone")
    @classmethod
    def _check_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise ValueError(f"{value} is no time zone that is known here; write one such as Europe/Berlin") from error
        return value
