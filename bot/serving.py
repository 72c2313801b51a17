"""Which model file serves which task, and whether its licence lets it.

Turns settings into checked files; loads nothing.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine as DbEngine

from bot.bundle import hash_file
from bot.engine.protocol import ModelFileError
from bot.engine.remote.settings import ServerChoice
from bot.models.default import ensure_default_model
from bot.models.licence import require_licence
from bot.models.registry import find_model
from bot.settings import Settings
from db.queries.licences import get_licence
from db.session import transaction
from db.types import TaskKind

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ServedModel:
    """A model file that may serve. `digest` is its SHA-256, hex; `server` computes with it, None for this process."""

    path: Path
    digest: str
    server: ServerChoice | None = None


def is_path(name: str) -> bool:
    """Whether a setting names a file rather than an installed model."""
    return name.endswith(".gguf") or "/" in name or Path(name).expanduser().exists()


def resolve_path(name: str | None, settings: Settings) -> Path:
    """Return the file a setting means: a path, the name of an installed model, or the embedded default. Raises ModelFileError."""
    if not name:
        return ensure_default_model(settings.home)
    if is_path(name):
        path = Path(name).expanduser()
        if not path.is_file():
            raise ModelFileError(
                f"there is no model file {path}: correct UNDERSTUDY_MODEL_CLASSIFICATION or UNDERSTUDY_MODEL_SUMMARY"
            )
        return path.resolve()
    found = find_model(name, settings.home)
    if found is None:
        raise ModelFileError(
            f"the model '{name}' is not installed: `understudy models pull {name}` or `understudy models add FILE`"
        )
    return found


def resolve_models(settings: Settings, db_engine: DbEngine) -> dict[TaskKind, ServedModel]:
    """Return the checked model file of each task. Raises ModelFileError, or LicenceError where its licence was not approved.

    A file named by its path is the operator's own word: it serves, and the log says that its licence is theirs to answer for.
    """
    names = {TaskKind.CLASSIFICATION: settings.model.classification, TaskKind.SUMMARY: settings.model.summary}
    digests: dict[Path, str] = {}
    served: dict[TaskKind, ServedModel] = {}
    for task, name in names.items():
        path = resolve_path(name, settings)
        if path not in digests:
            digests[path] = hash_file(path)
            is_allowed = settings.model.allow_unapproved or (name is not None and is_path(name))
            _check_licence(db_engine, digests[path], name=name or path.name, is_allowed=is_allowed)
        served[task] = ServedModel(path=path, digest=digests[path], server=settings.remote.choose(task))
    return served


def _check_licence(db_engine: DbEngine, digest: str, *, name: str, is_allowed: bool) -> None:
    with transaction(db_engine, is_read_only=True) as session:
        note = get_licence(session, digest)
    decision = require_licence(digest, note, model_name=Path(name).name, allow_unapproved=is_allowed)
    logger.info("%s", decision.reason)
