"""One run at work: what its stages share, and the settings that this run alone was queued with.

Knows the database and the run's folder; not what the stages do.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from sqlalchemy import Engine as DbEngine
from sqlmodel import Session

from bot.settings import Settings
from bot.training_settings import TrainingSettings
from bot.types import LabelSet
from db.session import retry_transaction
from db.types import TaskKind
from training.errors import TrainingError
from training.progress import Progress

logger = logging.getLogger(__name__)


@dataclass
class Run:
    """One run at work."""

    db_engine: DbEngine
    settings: Settings
    run_id: int
    task: TaskKind
    progress: Progress
    directory: Path
    label_set: LabelSet | None = None
    base_path: Path = field(default_factory=Path)

    @property
    def work_dir(self) -> Path:
        """Where checkpoints lie until the run has ended."""
        return self.directory / "work"

    def write(self, work: Callable[[Session], object]) -> None:
        """Run database work in one transaction."""
        retry_transaction(self.db_engine, work)

    def log(self, text: str) -> None:
        """Write a line to the run's log."""
        logger.info("run %d: %s", self.run_id, text)


def apply_overrides(*, settings: Settings, overrides: Mapping[str, Any]) -> Settings:
    """Return the settings with what this one run was queued with. Raises TrainingError."""
    try:
        training = TrainingSettings.model_validate({**settings.training.model_dump(), **overrides})
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        message = f"the run was queued with a setting that cannot be: training.{'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise TrainingError(message) from None
    return settings.model_copy(update={"training": training})
