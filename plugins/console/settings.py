"""Settings of the console, read from `UNDERSTUDY_CONSOLE_*`.

Knows nothing of how they are used.
"""

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

MIN_TOKEN_CHARS = 16


class ConsoleSettings(BaseSettings):
    """Everything that can be set about the console."""

    model_config = SettingsConfigDict(env_prefix="UNDERSTUDY_CONSOLE_", extra="forbid", env_ignore_empty=True)

    actor: str = Field(
        default="console",
        min_length=1,
        max_length=60,
        description="Name under which decisions are recorded until a person has entered their own.",
    )
    access_token: SecretStr | None = Field(
        default=None,
        description="Shared token that people enter once to open the console, 16 characters or more. Required as soon as the console is "
        "reached from another machine or under another host name than localhost.",
    )
    session_hours: int = Field(default=12, ge=1, le=720, description="Hours until a person has to enter the access token again.")
    page_size: int = Field(default=25, ge=5, le=200, description="Tickets on one page of the inbox.")
    low_confidence: float = Field(
        default=0.5, ge=0.0, le=1.0, description="Below this probability the card asks a question instead of making a claim."
    )

    @field_validator("access_token")
    @classmethod
    def _check_token(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and len(value.get_secret_value()) < MIN_TOKEN_CHARS:
            raise ValueError(f"the access token must have {MIN_TOKEN_CHARS} characters or more; `openssl rand -hex 16` makes one")
        return value
