"""Settings of Redmine, read from `UNDERSTUDY_REDMINE_*`.

Knows nothing of how they are used.
"""

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from plugins.helpdesk.settings import HelpdeskSettings


class RedmineSettings(HelpdeskSettings):
    """Everything that can be set about Redmine. `label_field` is the number of a custom field, or an attribute such as category_id."""

    model_config = SettingsConfigDict(
        env_prefix="UNDERSTUDY_REDMINE_", extra="forbid", env_ignore_empty=True, hide_input_in_errors=True
    )

    url: str = Field(pattern=r"^https?://", description="Address of Redmine.")
    api_key: SecretStr = Field(description="API key of the user that Understudy works as.")
    project: str = Field(
        default="",
        description="Identifier of the project that is looked at, with its subprojects; empty means all the user sees.",
    )
    solved_statuses: list[str] = Field(
        default_factory=lambda: ["Resolved"],
        description="Statuses that count as solved beside those that close an issue, as a JSON list.",
    )
    author_is_customer: bool = Field(
        default=True, description="Count what an issue's author changes as a customer's, who gives no feedback."
    )
    rule_users: list[str] = Field(
        default_factory=list, description="Numbers of users whose changes are made by rules, as a JSON list."
    )
    project_labels: dict[str, list[str]] = Field(
        default_factory=dict,
        description="Labels that issues of a project may get, as JSON from project number to labels; others get all.",
    )
    tracker_labels: dict[str, list[str]] = Field(
        default_factory=dict,
        description="Labels that issues of a tracker may get, as JSON from tracker number to labels; others get all.",
    )
