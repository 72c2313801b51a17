"""Works off one queued run: prepare, train, evaluate, gate, conclude, write notes. Every way it can end leaves one clear status.

Knows the order of the stages and what failing means; each stage lives in a module of its own. Holds the training lease all the while.
"""

import asyncio
import logging
import os
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from sqlalchemy import Engine as DbEngine
from sqlmodel import Session

from bot.bundle import Bundle, hash_file
from bot.engine.factory import choose_kind
from bot.engine.gguf_file import read_model_head
from bot.settings import Settings
from bot.training_settings import TrainingSettings
from bot.types import LabelSet
from db.queries import adapters, runs
from db.queries.examples import record_splits
from db.queries.leases import TRAINING
from db.queries.provenance import count_provenance
from db.queries.review import list_settled_examples
from db.queries.state import get_state, set_state
from db.session import retry_transaction
from db.tables import TrainingRun
from db.types import RUNNING, MaskedText, ModelKind, ReviewKind, RunStatus, TaskKind
from training import source
from training.card import build_card, write_card
from training.contest import GateDecision
from training.dataset import Dataset, build_dataset
from training.errors import TrainingError, describe_error, render_frames
from training.judge import judge
from training.leaks import Canary, make_canaries, plant
from training.lease import LeaseKeeper, LeaseLostError, LeaseTakenError
from training.progress import Progress, RunCancelledError, RunStoppedError
from training.questions import ask_questions, check_labels
from training.records import record_lineage, write_records
from training.registry import ACTOR, conclude_run
from training.trainers import TrainJob, get_prompt_version, train

logger = logging.getLogger(__name__)
_CHECKS_PER_REPORT = 20


class NothingToTrainOnError(Exception):
    """The dataset is too small. The message says what is missing."""


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


def run_training(run_id: int, settings: Settings, *, stop: threading.Event) -> RunStatus:
    """Work off a run and return the status it was left in. Raises LeaseTakenError, and RowNotFoundError for no such run.

    `stop` ends it at the next step, with the run left as it is, to be taken up again.
    """
    db_engine = source.open_database(settings)
    try:
        with LeaseKeeper(db_engine, TRAINING, seconds=settings.training.lease_seconds) as lease:
            run = retry_transaction(db_engine, lambda session: runs.get_run(session, run_id))
            if run.status not in RUNNING:
                logger.info("run %d is %s already", run_id, run.status)
                return run.status
            directory = settings.runs_dir / str(run_id)
            directory.mkdir(parents=True, exist_ok=True)
            progress = Progress(db_engine, run_id, check_lease=lease.check, stop=stop)
            job = Run(db_engine, settings, run_id=run_id, task=run.task, progress=progress, directory=directory)
            _work(job, run)
        return retry_transaction(db_engine, lambda session: runs.get_run(session, run_id)).status
    finally:
        db_engine.dispose()


def _work(job: Run, run: TrainingRun) -> None:
    """Run the stages and turn whatever happens into a status."""
    run_id = job.run_id
    try:
        _begin(job, run)
        job.settings = _apply_overrides(settings=job.settings, overrides=run.settings)
        dataset = _prepare(job)
        canaries = _make_canaries(job)
        bundle = _train(job, plant(dataset, canaries))
        decision = _evaluate(job, dataset, bundle, canaries=canaries)
        job.progress.report("deciding", 1, 1)
        job.write(lambda s: conclude_run(s, run_id, bundle=bundle, decision=decision, settings=job.settings.training))
    except (RunStoppedError, LeaseLostError) as error:
        _log(job, f"stopped: {error}")
        if isinstance(error, RunStoppedError):
            job.write(lambda session: _count_stop(session, run_id))
        return
    except NothingToTrainOnError as answer:
        _log(job, str(answer))
        message = str(answer)
        job.write(lambda session: runs.update_progress(session, run_id, message=message))
        job.write(lambda session: runs.cancel_run(session, run_id, actor=ACTOR))
    except RunCancelledError as error:
        _log(job, str(error))
        job.write(lambda session: runs.update_progress(session, run_id, message="cancelled on request"))
        job.write(lambda session: runs.cancel_run(session, run_id, actor=ACTOR))
    except Exception as error:
        sentence = describe_error(error, log=job.directory / "log.txt")
        _log(job, f"failed: {sentence}\n{render_frames(error)}")
        job.write(lambda session: runs.fail_run(session, run_id, error=sentence, actor=ACTOR))
    shutil.rmtree(job.work_dir, ignore_errors=True)
    write_records(job.db_engine, job.run_id, job.directory, settings=job.settings)


def _begin(job: Run, run: TrainingRun) -> None:
    """Enter `preparing`, unless the run has died too often already."""
    limit = job.settings.training.max_attempts
    state = retry_transaction(job.db_engine, lambda session: get_state(session, _stops_key(job.run_id))) or {}
    n_died = run.attempts - int(state.get("count", 0))
    if n_died >= limit:
        message = f"the training process was killed {n_died} times before it was done (memory?); see {job.directory / 'log.txt'}"
        raise TrainingError(message)
    if run.is_cancel_requested:
        message = f"run {job.run_id} was cancelled"
        raise RunCancelledError(message)
    job.write(lambda session: runs.start_run(session, job.run_id, actor=ACTOR))
    _log(job, f"attempt {run.attempts + 1}")


def _apply_overrides(*, settings: Settings, overrides: Mapping[str, Any]) -> Settings:
    """Return the settings with what this one run was queued with. Raises TrainingError."""
    try:
        training = TrainingSettings.model_validate({**settings.training.model_dump(), **overrides})
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        message = f"the run was queued with a setting that cannot be: training.{'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise TrainingError(message) from None
    return settings.model_copy(update={"training": training})


def _prepare(job: Run) -> Dataset:
    """Build the dataset, the same as before where the run is taken up again, and write its splits back."""
    settings = job.settings.training
    job.progress.report("preparing", 0, 1, message="reading examples")
    run = retry_transaction(job.db_engine, lambda session: runs.get_run(session, job.run_id))
    newest_id = run.data_counts.get("newest_id")
    job.base_path = source.resolve_base(job.settings, job.task)
    job.label_set = source.read_label_set(job.settings) if job.task is TaskKind.CLASSIFICATION else None
    dataset = build_dataset(
        lambda: source.stream_rows(job.db_engine, job.task, up_to_id=newest_id),
        job.task,
        labels=job.label_set.names if job.label_set else (),
        settings=settings,
        check=_build_counting_checker(job) if settings.has_second_masking else None,
    )
    dataset, questions = _review(job, dataset)
    versions = {
        "base_digest": hash_file(job.base_path),
        "label_set_version": job.label_set.version if job.label_set else "",
        "prompt_version": get_prompt_version(job.task),
    }
    _write_card(job, dataset, versions=versions, questions=questions)
    counts = {
        **dataset.report.to_counts(),
        **versions,
        "n_questions": questions,
        "settings": settings.model_dump(mode="json"),
    }
    if run.data_digest != dataset.digest:
        shutil.rmtree(job.work_dir, ignore_errors=True)  # checkpoints of other data must not be gone on with
    job.write(
        lambda session: runs.update_progress(
            session, job.run_id, data_digest=dataset.digest, data_counts=counts, message=dataset.report.message
        )
    )
    if not dataset.report.is_enough:
        raise NothingToTrainOnError(dataset.report.message)
    job.write(lambda session: record_splits(session, dataset.assignments))
    record_lineage(dataset, job.run_id, write=job.write)
    return dataset


def _review(job: Run, dataset: Dataset) -> tuple[Dataset, dict[str, int]]:
    """Look for wrong labels, ask people about what is doubtful, and return what is trained on with counts of new questions."""
    labels = job.label_set.names if job.label_set else ()
    settled = retry_transaction(job.db_engine, lambda session: list_settled_examples(session, ReviewKind.LABEL_NOISE))
    checked = check_labels(
        dataset,
        labels=labels,
        settings=job.settings.training,
        settled=frozenset(settled),
        on_step=lambda done, total: job.progress.report("preparing", done, total, message="looking for wrong labels"),
    )
    questions = ask_questions(
        job.db_engine,
        checked,
        labels=labels,
        label_set_version=job.label_set.version if job.label_set else "",
        settings=job.settings.training,
        run_id=job.run_id,
    )
    return checked.dataset, questions


def _write_card(job: Run, dataset: Dataset, *, versions: Mapping[str, str], questions: Mapping[str, int]) -> None:
    ids = [item.id for items in (dataset.train, dataset.validation, dataset.test) for item in items]
    sources, kinds = retry_transaction(job.db_engine, lambda session: count_provenance(session, ids))
    card = build_card(
        dataset,
        run_id=job.run_id,
        settings=job.settings.training,
        versions=versions,
        sources=sources,
        kinds=kinds,
        questions=questions,
    )
    write_card(card, job.directory)


def _build_counting_checker(job: Run) -> Callable[[MaskedText], bool]:
    job.progress.report("preparing", 0, 1, message="loading the masker")
    check = source.build_checker(job.settings)
    n_checked = 0

    def count(text: MaskedText) -> bool:
        nonlocal n_checked
        n_checked += 1
        if n_checked % _CHECKS_PER_REPORT == 0:
            job.progress.report("preparing", 0, 1, message=f"masking once more: {n_checked} texts checked")
        return check(text)

    return count


def _make_canaries(job: Run) -> tuple[Canary, ...]:
    """Return secrets to plant where a decoder learns to write; labels and excerpts cannot give any away."""
    n = job.settings.training.leak_canaries
    if job.task is not TaskKind.SUMMARY or not n or choose_kind(read_model_head(job.base_path)) is ModelKind.ENCODER:
        return ()
    return make_canaries(n, seed=job.run_id)


def _train(job: Run, dataset: Dataset) -> Bundle:
    job.write(lambda session: runs.advance_run(session, job.run_id, status=RunStatus.TRAINING, actor=ACTOR))
    job.progress.report("training", 0, 1, message="loading the base model")
    job.work_dir.mkdir(parents=True, exist_ok=True)
    return train(
        TrainJob(
            run_id=job.run_id,
            base_path=job.base_path,
            dataset=dataset,
            label_set=job.label_set,
            settings=job.settings,
            work_dir=job.work_dir,
            report=job.progress.report,
        )
    )


def _evaluate(job: Run, dataset: Dataset, bundle: Bundle, *, canaries: Sequence[Canary]) -> GateDecision:
    job.write(lambda session: runs.advance_run(session, job.run_id, status=RunStatus.EVALUATING, actor=ACTOR))
    job.progress.report("evaluating", 0, 1, message="loading base, live adapter and candidate")
    active = retry_transaction(job.db_engine, lambda session: adapters.get_active(session, job.task))
    bundles = {"candidate": bundle.directory}
    base_digest = bundle.manifest.base_digest
    if active is not None and active.base_digest == base_digest:
        bundles["active"] = job.settings.adapters_dir / active.path
    elif active is not None:
        _log(job, f"the live adapter {active.digest[:12]} belongs to another base model: compared with the bare base instead")
    return asyncio.run(
        judge(
            job.base_path,
            dataset,
            bundles=bundles,
            label_set=job.label_set,
            settings=job.settings,
            on_step=lambda done, total: job.progress.report("evaluating", done, total),
            canaries=canaries,
        )
    )


def _stops_key(run_id: int) -> str:
    return f"run.{run_id}.stops"


def _count_stop(session: Session, run_id: int) -> None:
    """Note that an attempt ended because it was asked to: it does not count as one that died."""
    state = get_state(session, _stops_key(run_id)) or {}
    set_state(session, _stops_key(run_id), value={"count": int(state.get("count", 0)) + 1})


def _log(job: Run, text: str) -> None:
    logger.info("run %d: %s", job.run_id, text)


def lower_priority(settings: Settings) -> None:
    """Let everything else on the machine go first, and bound the threads of what is loaded later."""
    os.nice(settings.training.nice)
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(settings.training.threads)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"


__all__ = ["LeaseTakenError", "NothingToTrainOnError", "lower_priority", "run_training"]
