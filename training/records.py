"""What is kept of a run beyond its row: lineage while it runs; release notes, model card and tracking once it has ended.

Each failure here is logged and changes nothing about the run: a verdict is not lost because a page could not be written.
"""

import logging
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path

from sqlalchemy import Engine as DbEngine
from sqlmodel import Session

from bot.settings import Settings
from db.errors import DatabaseError
from db.queries import lineage
from db.queries.licences import get_licence
from db.session import transaction
from db.types import Split
from training.dataset import Dataset
from training.errors import TrainingError, render_frames
from training.model_card import write_model_card
from training.notes import read_record, write_notes
from training.tracking import track_run

logger = logging.getLogger(__name__)
_AT_ONCE = 20_000


def record_lineage(dataset: Dataset, run_id: int, *, write: Callable[[Callable[[Session], object]], None]) -> None:
    """Write which example goes into which part, through `write`, in transactions so short that the bot's writes need not wait."""
    write(lambda session: lineage.clear_run_examples(session, run_id))
    parts = ((dataset.train, Split.TRAIN), (dataset.validation, Split.VALIDATION), (dataset.test, Split.TEST))
    uses = ((item.id, Split.GOLDEN if item.is_golden else split) for items, split in parts for item in items)
    while part := list(islice(uses, _AT_ONCE)):
        write(partial(lineage.add_run_examples, run_id=run_id, uses=part))


def write_records(db_engine: DbEngine, run_id: int, directory: Path, *, settings: Settings) -> None:
    """Write release notes and model card into the run's folder, and tell the tracker if there is one."""
    try:
        with transaction(db_engine, is_read_only=True) as session:
            record = read_record(session, run_id)
            licence = get_licence(session, str(record.run.data_counts.get("base_digest", "")))
        write_notes(record, directory)
        write_model_card(record, licence, directory)
    except (DatabaseError, OSError, ValueError) as error:
        logger.warning("run %d: no release notes: %s\n%s", run_id, type(error).__name__, render_frames(error))
        return
    try:
        track_run(record, directory, settings=settings.training, home=settings.home)
    except TrainingError as error:
        logger.warning("run %d: %s\n%s", run_id, error, render_frames(error))
