"""Opens what a run reads: settings, database, label set, base model, masker, and the example rows in the form the models read.

Knows where things are, not what is done with them.
"""

import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from sqlalchemy import Engine as DbEngine

from bot.settings import CONFIG_VARIABLE, ENV_PREFIX, Settings, get_env_names, load_settings
from bot.types import LabelSet
from db.migrate import check_schema, get_current, upgrade
from db.queries.examples import iterate_examples
from db.session import build_db_engine, transaction
from db.tables import Example
from db.types import MaskedText, TaskKind

if TYPE_CHECKING:
    from pathlib import Path

    from bot.masking.corrections import Rules

_OWN_SECTIONS = tuple(f"{ENV_PREFIX}{section}_" for section in ("TRAINING", "ENGINE", "MASKING", "MODEL"))
_CHUNK = 1_000
_BLANK = " ... "
"""Stands for a placeholder in the second masking: it is no finding, and must not make its neighbours one."""


def read_settings() -> Settings:
    """Read the settings as the bot does. Names of plugins are let through: the bot checks them, and no plugin is loaded here."""
    foreign = {name for name in os.environ if name.startswith(ENV_PREFIX) and not name.startswith(_OWN_SECTIONS)}
    return load_settings(plugin_names=frozenset(foreign - set(get_env_names()) - {CONFIG_VARIABLE}))


def open_database(settings: Settings) -> DbEngine:
    """Connect; a new database gets its tables, one that is behind its migrations is refused."""
    settings.home.mkdir(parents=True, exist_ok=True)
    db_engine = build_db_engine(settings.resolved_database_url)
    if get_current(db_engine) is None:
        upgrade(db_engine)
    check_schema(db_engine)
    return db_engine


def read_label_set(settings: Settings) -> LabelSet:
    """Read the label set in force."""
    from bot.data import demo_label_set
    from bot.tasks.labels import load_label_set

    return load_label_set(settings.labels) if settings.labels else demo_label_set()


def resolve_base(settings: Settings, task: TaskKind) -> "Path":
    """Return the base model file that serves the task. Raises ModelFileError."""
    from bot.serving import resolve_path

    path: Path = resolve_path(
        settings.model.classification if task is TaskKind.CLASSIFICATION else settings.model.summary, settings
    )
    return path


def build_checker(settings: Settings) -> Callable[[MaskedText], bool]:
    """Return the second masking: whether masking a stored text once more finds anything that is not a placeholder already."""
    from bot.masking import Masker, MaskingError
    from bot.masking.corrections import CorrectedMasker
    from bot.masking.placeholders import PLACEHOLDER

    # What people said is not personal must not keep an example out.
    masker = CorrectedMasker(Masker(settings.masking), _load_corrections(settings))

    def finds_anything(text: MaskedText) -> bool:
        try:
            return bool(masker.mask(PLACEHOLDER.sub(_BLANK, text)).spans)
        except MaskingError:
            return True  # what cannot be masked safely is not trained on either

    return finds_anything


def _load_corrections(settings: Settings) -> "Rules":
    from bot.masking import Vault
    from bot.masking.corrections import Rules, load_rules

    if settings.database_url is None and not (settings.home / "understudy.db").exists():
        return Rules()  # a study on files: there is no database, and none is made for this
    vault = Vault.from_keys(settings.vault_keys) if settings.vault_keys else None
    db_engine = open_database(settings)
    try:
        with transaction(db_engine, is_read_only=True) as session:
            return load_rules(session, vault)
    finally:
        db_engine.dispose()


def stream_rows(db_engine: DbEngine, task: TaskKind, *, up_to_id: int | None = None) -> Iterator[Example]:
    """Yield the task's examples by rising id; their texts are what the model read.

    `up_to_id` leaves out what came after a run began, so that a run taken up again sees the same rows.
    """
    with transaction(db_engine, is_read_only=True) as session:
        for row in iterate_examples(session, task, chunk=_CHUNK, has_withdrawn=True):
            if up_to_id is not None and (row.id or 0) > up_to_id:
                return
            yield row
