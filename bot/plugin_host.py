"""Finds, builds, starts, stops and isolates plugins.

A wrong name, API version or settings section stops the start with one line; a plugin that fails in `start` is marked failed and the
others run. Knows no plugin by name.
"""

import asyncio
import inspect
import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Protocol, get_args, runtime_checkable

from pydantic import AliasChoices, BaseModel, SecretStr, ValidationError
from pydantic_settings import SettingsError

from bot.plugin_api import API_VERSION, Bot, Plugin, PluginSpec

logger = logging.getLogger(__name__)
GROUP = "bot.plugins"
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 5.0
ENV_PREFIX = "UNDERSTUDY_"
AUTO = "auto"


class PluginError(Exception):
    """A plugin that cannot be loaded. The message names it and says what to change."""


@runtime_checkable
class SelfReporting(Protocol):
    """A plugin that can tell, without waiting, what keeps it from its work though it runs."""

    def find_trouble(self) -> str | None:
        """Say it in one sentence; None where all is well."""
        ...


class PluginStatus(StrEnum):
    """Owner: PluginHost."""

    BUILT = "built"
    RUNNING = "running"
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass
class HostedPlugin:
    """A plugin with its state. `error` is one line where it failed."""

    name: str
    plugin: Plugin
    status: PluginStatus = PluginStatus.BUILT
    error: str = ""


def find_specs(names: Iterable[str], entries: Iterable[EntryPoint] | None = None) -> list[PluginSpec[Any]]:
    """Load the specs of the enabled plugins, in order; `auto` stands for every other one of whose credentials one is set. Raises PluginError."""
    known = {entry.name: entry for entry in (entry_points(group=GROUP) if entries is None else entries)}
    specs: list[PluginSpec[Any]] = []
    for name in _expand(list(names), known):
        if name not in known:
            installed = ", ".join(sorted(known)) or "none"
            raise PluginError(f"there is no plugin '{name}': installed are {installed}; correct UNDERSTUDY_PLUGINS")
        if any(spec.name == name for spec in specs):
            raise PluginError(f"the plugin '{name}' is enabled twice; correct UNDERSTUDY_PLUGINS")
        specs.append(_check_spec(name, _load(known[name])))
    return specs


def _expand(names: list[str], known: Mapping[str, EntryPoint]) -> list[str]:
    """Put in place of `auto` the installed plugins that are not named and have a credential set. A broken one nobody asked for is left out."""
    if AUTO not in names:
        return names
    found = []
    for name in sorted(set(known) - set(names)):
        try:
            spec = _check_spec(name, _load(known[name]))
        except PluginError as error:
            logger.warning("%s", error)
            continue
        if any(os.environ.get(variable) for variable in get_secret_env_names(spec.settings_type)):
            found.append(name)
    place = names.index(AUTO)
    return [*names[:place], *found, *(name for name in names[place:] if name != AUTO)]


def get_secret_env_names(settings_type: type[BaseModel]) -> frozenset[str]:
    """Environment variables of a plugin's credentials: its fields that are SecretStr, under all their names."""
    prefix = str(settings_type.model_config.get("env_prefix", ""))
    names: set[str] = set()
    for field_name, field in settings_type.model_fields.items():
        kinds = {field.annotation, *get_args(field.annotation)}
        if SecretStr in kinds:
            alias = field.validation_alias
            choices = alias.choices if isinstance(alias, AliasChoices) else [alias or f"{prefix}{field_name}"]
            names |= {str(choice).upper() for choice in choices}
    return frozenset(names)


def _load(entry: EntryPoint) -> object:
    try:
        loaded: object = entry.load()
    except Exception as error:
        raise PluginError(
            f"the plugin '{entry.name}' cannot be loaded ({type(error).__name__}): repair it or take it out of UNDERSTUDY_PLUGINS"
        ) from error
    return loaded


def _check_spec(name: str, spec: object) -> PluginSpec[Any]:
    if not isinstance(spec, PluginSpec):
        raise PluginError(f"the entry point '{name}' names a {type(spec).__name__}, not a PluginSpec")
    if spec.name != name:
        raise PluginError(f"the plugin '{name}' calls itself '{spec.name}': entry point and spec must agree")
    if spec.api_version != API_VERSION:
        raise PluginError(
            f"the plugin '{name}' speaks plugin API {spec.api_version}, this bot speaks {API_VERSION}: update the plugin"
        )
    return spec


def read_plugin_settings(spec: PluginSpec[Any]) -> BaseModel:
    """Build a plugin's settings from its own sources. Raises PluginError without repeating a value, which may be secret."""
    try:
        settings: BaseModel = spec.settings_type()
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise PluginError(f"the plugin '{spec.name}' has a wrong setting '{where}': {first['msg']}") from None
    except SettingsError as error:  # its message names the field and its source, not the value
        raise PluginError(f"the plugin '{spec.name}' has a wrong setting: {error}; write lists and tables as JSON") from None
    return settings


def get_plugin_env_names(entries: Iterable[EntryPoint] | None = None) -> frozenset[str]:
    """Environment variables of all installed plugins' settings, so that unknown ones can be told from theirs.

    A plugin that cannot be loaded may be one that is not enabled: whatever begins with its name counts as its own.
    """
    names: set[str] = set()
    for entry in entry_points(group=GROUP) if entries is None else entries:
        try:
            spec = _load(entry)
        except PluginError as error:
            logger.debug("%s", error)
            names |= {name for name in os.environ if name.startswith(f"{ENV_PREFIX}{entry.name.upper()}_")}
            continue
        if isinstance(spec, PluginSpec):
            prefix = str(spec.settings_type.model_config.get("env_prefix", ""))
            names |= {f"{prefix}{field}".upper() for field in spec.settings_type.model_fields}
    return frozenset(names)


def _create(spec: PluginSpec[Any], bot: Bot) -> Plugin:
    settings = read_plugin_settings(spec)
    try:
        return spec.create(bot, settings)
    except Exception as error:
        raise PluginError(
            f"the plugin '{spec.name}' cannot be built ({type(error).__name__}): repair it or take it out of UNDERSTUDY_PLUGINS"
        ) from error


class PluginHost:
    """Holds the built plugins in their order."""

    def __init__(self, specs: Iterable[PluginSpec[Any]], bot: Bot) -> None:
        self.plugins: list[HostedPlugin] = []
        for spec in specs:
            plugin = _create(spec, bot)
            for method in ("start", "stop"):
                if not inspect.iscoroutinefunction(getattr(plugin, method, None)):
                    raise PluginError(f"the plugin '{spec.name}' has no 'async def {method}(self)': the contract asks for it")
            self.plugins.append(HostedPlugin(spec.name, plugin))

    async def start(self) -> None:
        """Start every plugin; one that raises or takes too long is marked failed, and asked to stop what it had begun."""
        for hosted in self.plugins:
            try:
                async with asyncio.timeout(START_TIMEOUT_S):
                    await hosted.plugin.start()
                hosted.status = PluginStatus.RUNNING
            except Exception as error:
                # The type alone: the text of an exception that is not ours may hold a secret or a ticket.
                hosted.status, hosted.error = PluginStatus.FAILED, f"{type(error).__name__} in start"
                logger.error("plugin %s failed to start: %s", hosted.name, type(error).__name__)  # noqa: TRY400
                await self._stop_one(hosted)

    async def stop(self) -> None:
        """Stop what runs, last started first, each within the time limit."""
        for hosted in reversed(self.plugins):
            if hosted.status is PluginStatus.RUNNING:
                problem = await self._stop_one(hosted)
                hosted.status, hosted.error = (PluginStatus.FAILED, problem) if problem else (PluginStatus.STOPPED, "")

    async def _stop_one(self, hosted: HostedPlugin) -> str:
        """Stop a plugin within the time limit; return what went wrong, empty where nothing did."""
        try:
            await asyncio.wait_for(hosted.plugin.stop(), timeout=STOP_TIMEOUT_S)
        except Exception as error:
            logger.error("plugin %s failed to stop: %s", hosted.name, type(error).__name__)  # noqa: TRY400
            return f"{type(error).__name__} in stop"
        return ""

    def get_states(self) -> Mapping[str, tuple[PluginStatus, str]]:
        """Name to (status, error), for health; a running plugin that is in trouble says so."""
        return {hosted.name: (hosted.status, hosted.error or _find_trouble(hosted)) for hosted in self.plugins}


def _find_trouble(hosted: HostedPlugin) -> str:
    if hosted.status is not PluginStatus.RUNNING or not isinstance(hosted.plugin, SelfReporting):
        return ""
    return hosted.plugin.find_trouble() or ""
