"""Settings of Zendesk, read from `UNDERSTUDY_ZENDESK_*`; account and credentials also from `ZENDESK_*`, as other tools name them.

Knows nothing of how they are used.
"""

from typing import Self

from pydantic import AliasChoices, Field, SecretStr, model_validator
from pydantic_settings import SettingsConfigDict

from plugins.helpdesk.settings import HelpdeskSettings

PREFIX = "UNDERSTUDY_ZENDESK_"


def _name(name: str) -> AliasChoices:
    return AliasChoices(f"{PREFIX}{name}", f"ZENDESK_{name}")


class ZendeskSettings(HelpdeskSettings):
    """Everything that can be set about Zendesk."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, extra="forbid", env_ignore_empty=True, populate_by_name=True, hide_input_in_errors=True
    )

    subdomain: str = Field(
        default="",
        pattern=r"^[a-zA-Z0-9-]*$",
        validation_alias=_name("SUBDOMAIN"),
        description="Subdomain of the account, as in SUBDOMAIN.zendesk.com; also read from ZENDESK_SUBDOMAIN.",
    )
    base_url: str = Field(
        default="",
        validation_alias=_name("BASE_URL"),
        description="Address of the API where it is not SUBDOMAIN.zendesk.com, such as a test server; also read from ZENDESK_BASE_URL.",
    )
    email: str = Field(
        default="", validation_alias=_name("EMAIL"), description="User of the API token; also read from ZENDESK_EMAIL."
    )
    api_token: SecretStr | None = Field(
        default=None, validation_alias=_name("API_TOKEN"), description="API token of that user; also read from ZENDESK_API_TOKEN."
    )
    oauth_token: SecretStr | None = Field(
        default=None,
        validation_alias=_name("OAUTH_TOKEN"),
        description="OAuth access token in place of e-mail and API token; also read from ZENDESK_OAUTH_TOKEN.",
    )
    webhook_secret: SecretStr | None = Field(
        default=None,
        validation_alias=_name("WEBHOOK_SECRET"),
        description="Signing secret of the webhook; without it webhooks are refused. Also read from ZENDESK_WEBHOOK_SECRET.",
    )
    app_secret: SecretStr | None = Field(
        default=None,
        validation_alias=_name("APP_SECRET"),
        description="Shared secret of the sidebar app, 32 characters or more; without it the app is refused. Also read from ZENDESK_APP_SECRET.",
    )
    webhook_tolerance_s: float = Field(
        default=300.0, ge=10.0, le=3600.0, description="Seconds by which a webhook's time of signing may differ from ours."
    )
    brand_labels: dict[str, list[str]] = Field(
        default_factory=dict,
        description="Labels that tickets of a brand may get, as JSON from brand id to labels; others get all.",
    )
    form_labels: dict[str, list[str]] = Field(
        default_factory=dict, description="Labels that tickets of a form may get, as JSON from form id to labels; others get all."
    )
    api_is_person: bool = Field(
        default=False, description="Count changes that others make through the API as a person's, not as an integration's."
    )

    @model_validator(mode="after")
    def _check_account(self) -> Self:
        if not self.base_url and not self.subdomain:
            raise ValueError("name the account: set ZENDESK_SUBDOMAIN")
        if self.oauth_token is None and not (self.api_token is not None and self.email):
            raise ValueError("credentials are missing: set ZENDESK_EMAIL and ZENDESK_API_TOKEN, or ZENDESK_OAUTH_TOKEN")
        return self

    def get_base_url(self) -> str:
        """Return the address of the API."""
        return (self.base_url or f"https://{self.subdomain}.zendesk.com").rstrip("/")
