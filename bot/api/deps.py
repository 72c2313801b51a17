"""What the routes need of the app, as a narrow Protocol, so that routes do not import the app that builds them."""

from collections.abc import Mapping
from typing import Protocol

from sqlalchemy import Engine as DbEngine

from bot.engine.protocol import Engine
from db.types import TaskKind


class HealthSource(Protocol):
    """What health reports on."""

    @property
    def db_engine(self) -> DbEngine:
        """The shared database."""
        ...

    def get_engines(self) -> Mapping[TaskKind, Engine]:
        """Engine per task."""
        ...

    def get_problems(self) -> Mapping[str, str]:
        """Task to one sentence, where an adapter cannot serve or does not fit."""
        ...

    def get_plugin_states(self) -> Mapping[str, tuple[str, str]]:
        """Plugin to (status, error)."""
        ...
