"""What can be set about model servers that answer in place of the local engine.

Knows the numbers' names and bounds, not how they are used; importing it loads no library.
"""

from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

from db.types import TaskKind

Backend = Literal["llama-server", "openai"]
URL_FIELDS: Final = ("classification_url", "summary_url")


@dataclass(frozen=True)
class ServerChoice:
    """One server: where it is, what it speaks, and the base model's name there (`openai` only; None takes the first it lists)."""

    url: str
    backend: Backend
    model: str | None = None


class RemoteSettings(BaseModel):
    """Where the model servers are and how they are talked to. Without a URL a task is answered by the local engine."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    classification_url: str | None = Field(
        default=None, description="URL of the server that computes classifications; empty computes them in this process."
    )
    classification_backend: Backend = Field(default="llama-server", description="What listens at `classification_url`.")
    classification_model: str | None = Field(
        default=None,
        description="The base model's name at an `openai` server for classifications; empty takes the first it lists.",
    )
    summary_url: str | None = Field(
        default=None, description="URL of the server that computes summaries; empty computes them in this process."
    )
    summary_backend: Backend = Field(default="llama-server", description="What listens at `summary_url`.")
    summary_model: str | None = Field(
        default=None, description="The base model's name at an `openai` server for summaries; empty takes the first it lists."
    )
    api_key: SecretStr | None = Field(default=None, description="Key sent to the servers as a bearer token; empty sends none.")
    adapters_dir: str | None = Field(
        default=None,
        description="The adapters folder as an `openai` server sees it, where it is mounted elsewhere; empty means the same path.",
    )
    prompt_cache: bool = Field(
        default=False,
        description="Let llama-server reuse prompts. Only safe where it runs with `--cache-ram 0` and serves this bot alone.",
    )
    top_logprobs: int = Field(
        default=20,
        ge=1,
        le=1_000_000,
        description="Most probable tokens asked of an `openai` server; its own limit (vLLM: --max-logprobs) must allow as many.",
    )
    connections: int = Field(default=32, ge=1, le=1024, description="Connections kept to one server at most.")
    connect_timeout_s: float = Field(default=3.0, gt=0.0, le=60.0, description="Seconds to wait for a connection.")
    timeout_s: float = Field(
        default=60.0, gt=0.0, le=3600.0, description="Seconds to wait for an answer, or for the next piece of one."
    )

    @field_validator(*URL_FIELDS)
    @classmethod
    def _check_url(cls, value: str | None) -> str | None:
        if not value:
            return None
        parts = urlsplit(value)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError("a server's URL begins with http:// or https:// and names a host")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError(
                "a server's URL holds no user, password, query or fragment; a key goes into UNDERSTUDY_REMOTE_API_KEY"
            )
        return value.rstrip("/").removesuffix("/v1")

    def choose(self, task: TaskKind) -> ServerChoice | None:
        """Return the server of a task, None where it is computed in this process."""
        if task == TaskKind.CLASSIFICATION:
            url, backend, model = self.classification_url, self.classification_backend, self.classification_model
        else:
            url, backend, model = self.summary_url, self.summary_backend, self.summary_model
        return None if url is None else ServerChoice(url, backend, model)
