"""Settings of the Slack plugin, read from `UNDERSTUDY_SLACK_*`; the three credentials also go by Slack's usual names.

Knows nothing of how they are used.
"""

from typing import Self

from pydantic import AliasChoices, Field, SecretStr, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from plugins.slack.manager_settings import ManagerSettings

SLACK_API_URL = "https://slack.com/api/"


class SlackSettings(ManagerSettings):
    """Everything that can be set about Slack."""

    model_config = SettingsConfigDict(
        env_prefix="UNDERSTUDY_SLACK_", extra="forbid", env_ignore_empty=True, validate_by_name=True, validate_by_alias=True
    )

    bot_token: SecretStr | None = Field(
        default=None,
        validation_alias=AliasChoices("SLACK_BOT_TOKEN", "UNDERSTUDY_SLACK_BOT_TOKEN"),
        description="Bot token of the workspace (xoxb-...). SLACK_BOT_TOKEN is read as well.",
    )
    signing_secret: SecretStr | None = Field(
        default=None,
        validation_alias=AliasChoices("SLACK_SIGNING_SECRET", "UNDERSTUDY_SLACK_SIGNING_SECRET"),
        description="Signing secret of the app; opens the HTTP endpoint /plugins/slack/events. SLACK_SIGNING_SECRET is read as well.",
    )
    app_token: SecretStr | None = Field(
        default=None,
        validation_alias=AliasChoices("SLACK_APP_TOKEN", "UNDERSTUDY_SLACK_APP_TOKEN"),
        description="App-level token (xapp-...); connects by Socket Mode, which needs no public address. SLACK_APP_TOKEN is read as well.",
    )
    api_url: str = Field(
        default=SLACK_API_URL, description="Address of Slack's Web API; a test server's in its place, for tests."
    )
    channels: dict[str, tuple[str, ...]] = Field(
        default={},
        description="Channels whose new messages are triaged by themselves: channel id to the labels to choose from, none meaning all, "
        'such as {"C0123ABCD": [], "C0456EFGH": ["vpn", "email"]}.',
    )
    triage_replies: bool = Field(default=False, description="Triage replies within threads of those channels as well.")
    triage_bots: bool = Field(
        default=False, description="Triage messages of other apps in those channels as well; never our own."
    )
    low_confidence: float = Field(
        default=0.5, ge=0.0, le=1.0, description="Below this probability the card asks a question instead of making a claim."
    )
    undo_minutes: int = Field(default=10, ge=0, le=1440, description="Minutes during which a decision can be undone on the card.")
    max_thread_messages: int = Field(
        default=1000, ge=10, le=10_000, description="Messages of a thread that are read for a summary; later ones are left out."
    )
    workers: int = Field(
        default=4,
        ge=1,
        le=64,
        description="Events handled at the same time; on SQLite more of them make acknowledgements wait for the database.",
    )

    @field_validator("api_url")
    @classmethod
    def _check_url(cls, value: str) -> str:
        if not value.startswith(("https://", "http://")):
            raise ValueError("the address must begin with https:// (or http:// for a test server)")
        return value if value.endswith("/") else f"{value}/"

    @field_validator("app_token")
    @classmethod
    def _check_app_token(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not value.get_secret_value().startswith("xapp-"):
            raise ValueError("an app-level token begins with xapp-; a bot token belongs into SLACK_BOT_TOKEN")
        return value

    @model_validator(mode="after")
    def _check_credentials(self) -> Self:
        if self.signing_secret is None and self.app_token is None:
            raise ValueError(
                "nothing says how Slack reaches the bot: set SLACK_SIGNING_SECRET for HTTP or SLACK_APP_TOKEN for Socket Mode"
            )
        if (self.client_id is None) != (self.client_secret is None):
            raise ValueError("several workspaces need both: set SLACK_CLIENT_ID and SLACK_CLIENT_SECRET")
        if self.bot_token is None and not self.is_installable:
            raise ValueError("without a bot token nothing can be written to Slack: set SLACK_BOT_TOKEN (xoxb-...)")
        return self

    def describe_transport(self) -> str:
        """Say in one sentence how events come in."""
        if self.app_token is None:
            return "events come over HTTP at /plugins/slack/events (there is no app-level token for Socket Mode)"
        if self.signing_secret is None:
            return "events come by Socket Mode (there is no signing secret, so the HTTP endpoint is closed)"
        return "events come by Socket Mode; the HTTP endpoint is open as well, since a signing secret is set"
