"""Finds, builds, starts, stops and isolates plugins.

A wrong name, API version or settings section stops the start with one line; a plugin that fails in `start` is marked failed and the
others run. Knows no plugin by name.
"""

import asyncio
import inspect
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from pydantic import BaseModel, ValidationError

from bot.plugin_api import API_VERSION, Bot, Plugin, PluginSpec

logger = logging.getLogger(__name__)
GROUP = "bot.plugins"
STOP_TIMEOUT_S = 5.0


class PluginError(Exception):
    """A plugin that cannot be loaded. The message names it and says what to change."""


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
    """Load the specs of the enabled plugins, in order. Raises PluginError."""
    known = {entry.name: entry for entry in (entry_points(group=GROUP) if entries is None else entries)}
    specs: list[PluginSpec[Any]] = []
    for name in names:
        if name not in known:
            installed = ", ".join(sorted(known)) or "none"
            raise PluginError(f"there is no plugin '{name}': installed are {installed}; correct UNDERSTUDY_PLUGINS")
        if any(spec.name == name for spec in specs):
            raise PluginError(f"the plugin '{name}' is enabled twice; correct UNDERSTUDY_PLUGINS")
        specs.append(_check_spec(name, known[name].load()))
    return specs


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
    return settings


def get_plugin_env_names(entries: Iterable[EntryPoint] | None = None) -> frozenset[str]:
    """Environment variables of all installed plugins' settings, so that unknown ones can be told from theirs."""
    names: set[str] = set()
    for entry in entry_points(group=GROUP) if entries is None else entries:
        spec = entry.load()
        if isinstance(spec, PluginSpec):
            prefix = str(spec.settings_type.model_config.get("env_prefix", ""))
            names |= {f"{prefix}{field}".upper() for field in spec.settings_type.model_fields}
    return frozenset(names)


class PluginHost:
    """Holds the built plugins in their order."""

    def __init__(self, specs: Iterable[PluginSpec[Any]], bot: Bot) -> None:
        self.plugins: list[HostedPlugin] = []
        for spec in specs:
            plugin = spec.create(bot, read_plugin_settings(spec))
            for method in ("start", "stop"):
                if not inspect.iscoroutinefunction(getattr(plugin, method, None)):
                    raise PluginError(f"the plugin '{spec.name}' has no 'async def {method}(self)': the contract asks for it")
            self.plugins.append(HostedPlugin(spec.name, plugin))

    async def start(self) -> None:
        """Start every plugin; one that raises is marked failed."""
        for hosted in self.plugins:
            try:
                await hosted.plugin.start()
                hosted.status = PluginStatus.RUNNING
            except Exception as error:
                hosted.status, hosted.error = PluginStatus.FAILED, f"{type(error).__name__} in start"
                logger.error("plugin %s failed to start: %s", hosted.name, type(error).__name__, exc_info=error)  # noqa: TRY400

    async def stop(self) -> None:
        """Stop what runs, last started first, each within the time limit."""
        for hosted in reversed(self.plugins):
            if hosted.status is not PluginStatus.RUNNING:
                continue
            try:
                await asyncio.wait_for(hosted.plugin.stop(), timeout=STOP_TIMEOUT_S)
                hosted.status = PluginStatus.STOPPED
            except Exception as error:
                hosted.status, hosted.error = PluginStatus.FAILED, f"{type(error).__name__} in stop"
                logger.error("plugin %s failed to stop: %s", hosted.name, type(error).__name__)  # noqa: TRY400

    def get_states(self) -> Mapping[str, tuple[PluginStatus, str]]:
        """Name to (status, error), for health."""
        return {hosted.name: (hosted.status, hosted.error) for hosted in self.plugins}
