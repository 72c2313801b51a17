"""Every setting of the bot and of training, composed from each part's own settings class and read from environment and file.

Sources, strongest first: environment variables `UNDERSTUDY_*`, then `understudy.toml` in the working directory (or the file that
`UNDERSTUDY_CONFIG` names). An unknown name in either is an error. Plugins keep their own settings; see `bot.plugin_host`.
"""

import difflib
import os
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings import SettingsError as DecodeError

from bot.engine.remote.settings import RemoteSettings
from bot.engine.settings import EngineSettings
from bot.masking.settings import MaskingSettings
from bot.privacy.settings import RetentionSettings
from bot.training_settings import TrainingSettings

ENV_PREFIX = "UNDERSTUDY_"
CONFIG_VARIABLE = "UNDERSTUDY_CONFIG"
CONFIG_FILE = "understudy.toml"


class SettingsError(Exception):
    """A setting that is unknown or has a wrong value. The message names it, says where it stands, and what to change."""


class ModelSettings(BaseModel):
    """Which base model serves which task."""

    model_config = ConfigDict(extra="forbid")

    classification: str | None = Field(
        default=None, description="GGUF file or catalog name that classifies; empty means the embedded default encoder."
    )
    summary: str | None = Field(
        default=None,
        description="GGUF file or catalog name that summarises; empty means the embedded default encoder (excerpts).",
    )
    allow_unapproved: bool = Field(
        default=False, description="Serve models that have no approved licence note. You answer for their licence yourself."
    )


class Settings(BaseSettings):
    """Everything that can be set, with its default."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, env_nested_delimiter="_", env_nested_max_split=1, extra="forbid", env_ignore_empty=True
    )

    home: Path = Field(default=Path(".understudy"), description="Folder for models, adapters, runs and the default database.")
    database_url: SecretStr | None = Field(
        default=None,
        description="SQLAlchemy or postgres:// URL of the shared database; empty means SQLite in the home folder.",
    )
    labels: Path | None = Field(default=None, description="YAML file of the label set; empty means the bundled IT helpdesk set.")
    host: str = Field(default="127.0.0.1", description="Address that `serve` binds to.")
    port: int = Field(default=8000, ge=0, le=65535, description="Port that `serve` binds to; 0 picks a free one.")
    plugins: Annotated[tuple[str, ...], NoDecode] = Field(
        default=("console", "auto"),
        description="Plugins to load, in order, separated by commas; auto stands for each one that has a credential set.",
    )
    blind_share: float = Field(
        default=0.02, ge=0.0, le=1.0, description="Share of tickets shown without a suggestion until the person has chosen."
    )
    low_confidence: float = Field(
        default=0.5, ge=0.0, le=1.0, description="Below this probability the card asks instead of claiming."
    )
    similar_tickets: int = Field(default=3, ge=0, le=20, description="Past decided tickets shown as the reason of a suggestion.")
    similar_index_size: int = Field(
        default=2000, ge=0, le=50_000, description="Most recent decided tickets kept in memory to find similar ones."
    )
    vault_key: SecretStr | None = Field(
        default=None,
        description="Fernet key (comma-separated for rotation, newest first) for the placeholder vault; empty keeps no raw value at all.",
    )
    vault_days: int = Field(default=30, ge=1, description="Days until a ticket's placeholder map is deleted from the vault.")
    sample_tickets: bool = Field(
        default=True, description="Put the bundled sample tickets into an empty database at first start."
    )
    watch_interval_s: float = Field(
        default=0.5, gt=0.0, le=60.0, description="Seconds between looks at the database for a newly activated adapter."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="How much is logged; never ticket text."
    )
    model: ModelSettings = Field(default_factory=ModelSettings, description="Base models.")
    engine: EngineSettings = Field(default_factory=EngineSettings, description="The inference engine.")
    remote: RemoteSettings = Field(
        default_factory=RemoteSettings, description="Model servers in place of the engine in this process."
    )
    masking: MaskingSettings = Field(default_factory=MaskingSettings, description="Masking of personal data.")
    retention: RetentionSettings = Field(default_factory=RetentionSettings, description="How long rows are kept.")
    training: TrainingSettings = Field(default_factory=TrainingSettings, description="Training runs and their schedule.")

    @field_validator("plugins", mode="before")
    @classmethod
    def _split_plugins(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @property
    def resolved_database_url(self) -> str:
        """The database URL with its default filled in. May hold a password: never log it."""
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        return f"sqlite:///{(self.home / 'understudy.db').resolve()}"

    @property
    def vault_keys(self) -> list[str]:
        """The vault's keys, newest first; empty where none is set. Secret: never log them."""
        raw = "" if self.vault_key is None else self.vault_key.get_secret_value()
        return [key.strip() for key in raw.split(",") if key.strip()]

    @property
    def adapters_dir(self) -> Path:
        """Where adapter bundles lie."""
        return self.home / "adapters"

    @property
    def models_dir(self) -> Path:
        """Where base models lie."""
        return self.home / "models"

    @property
    def runs_dir(self) -> Path:
        """Where training runs keep checkpoints, logs and release notes."""
        return self.home / "runs"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Environment over what the file gave; neither a .env file nor a secrets folder is read."""
        return (env_settings, init_settings)


def get_env_names(model: type[BaseModel] = Settings, prefix: str = ENV_PREFIX) -> Iterable[str]:
    """Yield the environment variable of every setting, nested ones as `UNDERSTUDY_SECTION_NAME`."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from get_env_names(field.annotation, f"{prefix}{name.upper()}_")
        else:
            yield f"{prefix}{name.upper()}"


def _check_environment(environ: Mapping[str, str], plugin_names: frozenset[str]) -> None:
    known = {CONFIG_VARIABLE, *get_env_names(), *plugin_names}
    for name in sorted(environ):
        if name.startswith(ENV_PREFIX) and name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {close[0]}?" if close else "; docs/settings.md lists all of them"
            raise SettingsError(f"the environment variable {name} is not a setting of Understudy{hint}")


def _read_file(environ: Mapping[str, str]) -> dict[str, Any]:
    named = environ.get(CONFIG_VARIABLE)
    path = Path(named) if named else Path(CONFIG_FILE)
    if not path.exists():
        if named:
            raise SettingsError(f"{CONFIG_VARIABLE} names {path}, which does not exist")
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"cannot read the settings file {path}: {error.strerror or type(error).__name__}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not valid TOML: {error}") from None


def _describe(error: ValidationError) -> str:
    first = error.errors(include_input=False, include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    variable = ENV_PREFIX + "_".join(str(part) for part in first["loc"]).upper()
    if first["type"] == "extra_forbidden":
        return f"'{where}' is not a setting of Understudy; docs/settings.md lists all of them"
    return f"the setting '{where}' ({variable}) has a wrong value: {first['msg']}"


def load_settings(*, plugin_names: frozenset[str] = frozenset()) -> Settings:
    """Read the settings; variables in `plugin_names` are let through. Raises SettingsError."""
    _check_environment(os.environ, plugin_names)
    values = _read_file(os.environ)
    try:
        settings = Settings(**values)
    except DecodeError as error:
        raise SettingsError(f'{error}: write lists and tables as JSON, such as ["US", "GB"]') from None
    except ValidationError as error:
        raise SettingsError(_describe(error)) from None
    if settings.home.exists() and not settings.home.is_dir():
        raise SettingsError(f"the home folder {settings.home} is a file: set UNDERSTUDY_HOME to a folder")
    return settings
