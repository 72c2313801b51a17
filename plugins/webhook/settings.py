"""Settings of the generic webhook, read from `UNDERSTUDY_WEBHOOK_*`.

Knows nothing of how they are used.
"""

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import SettingsConfigDict

from plugins.helpdesk.settings import PolicySettings

MIN_SECRET_CHARS = 16
DEFAULT_PATHS = {
    "event_id": "event_id",
    "at": "at",
    "actor": "actor.id",
    "actor_kind": "actor.kind",
    "macro": "macro",
    "ticket_id": "ticket.id",
    "subject": "ticket.subject",
    "text": "ticket.text",
    "messages": "ticket.messages",
    "message_speaker": "from",
    "message_text": "text",
    "status": "ticket.status",
    "label": "ticket.label",
    "scope": "ticket.scope",
    "customer": "ticket.customer",
}
STATES = ("open", "solved", "closed", "merged", "deleted")
KINDS = ("person", "customer", "rule", "bulk")


class WebhookSettings(PolicySettings):
    """Everything that can be set about the generic webhook."""

    model_config = SettingsConfigDict(
        env_prefix="UNDERSTUDY_WEBHOOK_", extra="forbid", env_ignore_empty=True, hide_input_in_errors=True
    )

    secret: SecretStr = Field(
        description="Shared secret that signs requests in both directions, 16 characters or more; `openssl rand -hex 32` makes one."
    )
    callback_url: str = Field(
        default="", description="Address that suggestions are posted to; empty means that they are asked for instead."
    )
    signature_header: str = Field(default="X-Understudy-Signature", description="Header with the signature, in both directions.")
    timestamp_header: str = Field(
        default="X-Understudy-Timestamp", description="Header with the time of signing, in both directions."
    )
    tolerance_s: float = Field(
        default=300.0, ge=10.0, le=3600.0, description="Seconds by which a request's time of signing may differ from ours."
    )
    paths: dict[str, str] = Field(
        default_factory=dict,
        description="Where things stand in the JSON that comes in, as JSON from name to dotted path; docs/helpdesks.md has the names.",
    )
    statuses: dict[str, str] = Field(
        default_factory=dict,
        description="The helpdesk's words for a ticket's state, as JSON from word to open, solved, closed, merged or deleted.",
    )
    actor_kinds: dict[str, str] = Field(
        default_factory=dict,
        description="The helpdesk's words for who changed a ticket, as JSON from word to person, customer, rule or bulk.",
    )
    scope_labels: dict[str, list[str]] = Field(
        default_factory=dict, description="Labels that tickets of a scope may get, as JSON from scope to labels; others get all."
    )

    @field_validator("secret")
    @classmethod
    def _check_secret(cls, value: SecretStr) -> SecretStr:
        if len(value.get_secret_value()) < MIN_SECRET_CHARS:
            raise ValueError(f"the secret must have {MIN_SECRET_CHARS} characters or more; `openssl rand -hex 32` makes one")
        return value

    @field_validator("paths")
    @classmethod
    def _check_paths(cls, value: dict[str, str]) -> dict[str, str]:
        unknown = sorted(set(value) - set(DEFAULT_PATHS))
        if unknown:
            raise ValueError(f"'{unknown[0]}' is not among the names: {', '.join(DEFAULT_PATHS)}")
        return value

    @field_validator("statuses")
    @classmethod
    def _check_statuses(cls, value: dict[str, str]) -> dict[str, str]:
        if set(value.values()) - set(STATES):
            raise ValueError(f"a state is one of {', '.join(STATES)}")
        return value

    @field_validator("actor_kinds")
    @classmethod
    def _check_kinds(cls, value: dict[str, str]) -> dict[str, str]:
        if set(value.values()) - set(KINDS):
            raise ValueError(f"a kind of actor is one of {', '.join(KINDS)}")
        return value
