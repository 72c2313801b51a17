"""Writes docs/settings.md and deploy/env.example from the settings classes of the bot, of training and of every plugin.

The classes are the only list: names, defaults, bounds and descriptions are read from them. `--check` writes nothing and fails on a
difference. Knows nothing of what a setting does.
"""

import json
import sys
import textwrap
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import NoDecode

from bot.settings import CONFIG_FILE, CONFIG_VARIABLE, ENV_PREFIX, Settings

ROOT = Path(__file__).resolve().parent.parent
PLUGIN_GROUP = "bot.plugins"
CONFIG_DESCRIPTION = (
    f"File that is read below the environment; empty means {CONFIG_FILE} in the working directory, where there is one."
)
BOUNDS = {"ge": "≥ {}", "gt": "> {}", "le": "≤ {}", "lt": "< {}", "multiple_of": "a multiple of {}", "min_length": "{} or more"}
TYPE_WORDS = {
    "int": "whole number",
    "float": "number",
    "bool": "true or false",
    "str": "text",
    "Path": "path",
    "tuple": "list, with commas",
}


@dataclass(frozen=True)
class Setting:
    """One environment variable: how it is written and what it means."""

    name: str
    default: str
    values: str
    description: str


@dataclass(frozen=True)
class Section:
    """A heading with its settings."""

    title: str
    settings: tuple[Setting, ...]


def _unwrap(annotation: Any) -> Any:
    """Take `X | None` for X: an empty variable means unset."""
    parts = [part for part in get_args(annotation) if part is not type(None)]
    if type(None) in get_args(annotation) and len(parts) == 1:
        return parts[0]
    return annotation


def _render_default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True, validated_data={}) if not field.is_required() else None
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list | dict):
        return ",".join(value) if NoDecode in field.metadata else json.dumps(value)
    return "" if value is None else str(value)


def _render_values(field: FieldInfo) -> str:
    annotation = _unwrap(field.annotation)
    if get_origin(annotation) is Literal:
        return ", ".join(str(choice) for choice in get_args(annotation))
    if get_origin(annotation) in {tuple, list, dict}:
        word = "JSON object" if get_origin(annotation) is dict else "JSON list"
        return "list, separated by commas" if NoDecode in field.metadata else word
    kind = annotation if isinstance(annotation, type) and not get_args(annotation) else get_origin(annotation)
    if kind is SecretStr:
        return "secret"
    word = TYPE_WORDS.get(getattr(kind, "__name__", ""), "text")
    bounds = [
        BOUNDS[key].format(f"{getattr(rule, key):,}")
        for rule in field.metadata
        for key in BOUNDS
        if getattr(rule, key, None) is not None
    ]
    return ", ".join([word, *bounds])


def _read_setting(name: str, field: FieldInfo) -> Setting:
    if not field.description:
        raise ValueError(f"{name} has no description: give its Field one")
    return Setting(name, _render_default(field), _render_values(field), field.description)


def _read_class(model: type[BaseModel], *, prefix: str, title: str) -> Iterator[Section]:
    nested: list[tuple[str, type[BaseModel]]] = []
    own: list[Setting] = []
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            nested.append((name, field.annotation))
        else:
            own.append(_read_setting(f"{prefix}{name}".upper(), field))
    yield Section(title, tuple(own))
    for name, annotation in nested:
        yield from _read_class(annotation, prefix=f"{prefix}{name}_", title=name.capitalize())


def read_plugin_entries() -> list[EntryPoint]:
    """Return the plugins that pyproject.toml declares, installed or not."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [EntryPoint(name, value, PLUGIN_GROUP) for name, value in project["entry-points"][PLUGIN_GROUP].items()]


def read_sections() -> list[Section]:
    """Return every setting of the product, in the order in which the classes declare them."""
    first, *others = _read_class(Settings, prefix=ENV_PREFIX, title="General")
    config = Setting(CONFIG_VARIABLE, "", "path", CONFIG_DESCRIPTION)
    sections = [Section(first.title, (config, *first.settings)), *others]
    for entry in read_plugin_entries():
        settings_type: type[BaseModel] = entry.load().settings_type
        prefix = str(settings_type.model_config.get("env_prefix", ""))
        sections += _read_class(settings_type, prefix=prefix, title=f"Plugin: {entry.name}")
    return [section for section in sections if section.settings]


INTRODUCTION = f"""# Settings

Written by `make settings` from the settings classes; do not edit. Every setting is an environment variable. Those of the first
sections can also stand in `{CONFIG_FILE}` in the working directory, or in the file that `{CONFIG_VARIABLE}` names: `UNDERSTUDY_ENGINE_N_THREADS=4`
is there `n_threads = 4` under `[engine]`. The environment wins over the file. A name that is not listed here is an error at the start,
so that a misspelt setting never passes silently; an empty variable counts as unset. `understudy check` reads all of it and says what is wrong.
"""

ENV_INTRODUCTION = """# Settings of Understudy, each with its default. Written by `make settings`; docs/settings.md explains more.
# Copy this file to deploy/.env (for compose.yml) or /etc/understudy/env (for systemd), keep it readable by its owner alone
# (chmod 600), and remove the '#' in front of what you change.
"""

COMPOSE_SETTINGS = (
    Setting(
        "POSTGRES_PASSWORD",
        "",
        "",
        "Password of the database that compose.yml starts: letters and digits, since it becomes part of a URL.",
    ),
    Setting("PUBLISH_ADDRESS", "127.0.0.1", "", "Address on which the host publishes the console."),
    Setting("PUBLISH_PORT", "8000", "", "Port on which the host publishes the console."),
)


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def render_page(sections: list[Section]) -> str:
    """Render docs/settings.md."""
    parts = [INTRODUCTION]
    for section in sections:
        parts.append(f"\n## {section.title}\n\n| variable | default | values | meaning |\n|---|---|---|---|\n")
        for setting in section.settings:
            default = f"`{setting.default}`" if setting.default else ""
            parts.append(f"| `{setting.name}` | {default} | {_escape(setting.values)} | {_escape(setting.description)} |\n")
    return "".join(parts)


def render_environment(sections: list[Section]) -> str:
    """Render deploy/env.example: every setting, commented out, with its default."""
    parts = [ENV_INTRODUCTION]
    for section in [Section("compose.yml alone", COMPOSE_SETTINGS), *sections]:
        parts.append(f"\n# --- {section.title} ---\n")
        for setting in section.settings:
            values = f" ({setting.values})" if setting.values else ""
            comment = textwrap.fill(setting.description + values, 118, initial_indent="# ", subsequent_indent="# ")
            parts.append(f"\n{comment}\n#{setting.name}={setting.default}\n")
    return "".join(parts)


def main() -> int:
    """Write both files, or compare them with `--check`. Returns the exit status."""
    sections = read_sections()
    is_check = sys.argv[1:] == ["--check"]
    status = 0
    for path, text in (
        (ROOT / "docs" / "settings.md", render_page(sections)),
        (ROOT / "deploy" / "env.example", render_environment(sections)),
    ):
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        if is_check:
            sys.stderr.write(f"{path.relative_to(ROOT)} does not match the settings classes: run `make settings`\n")
            status = 1
        else:
            path.write_text(text, encoding="utf-8")
            sys.stdout.write(f"wrote {path.relative_to(ROOT)}\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
