"""Works off one queued run: prepare, train, evaluate, gate, conclude, write notes. Every way it can end leaves one clear status.

Knows the order of the stages and what failing means; each stage lives in a module of its own. Holds the training lease all the while.
"""

import asyncio
import logging
import shutil
import threading
from collections.abc import Sequence

from sqlmodel import Session

from bot.bundle import Bundle
from bot.engine.factory import choose_kind
from bot.engine.gguf_file import read_model_head
from bot.engine.protocol import NoEffectError
from bot.settings import Settings
from db.queries import adapters, runs
from db.queries.leases import TRAINING
from db.queries.state import get_state, set_state
from db.session import retry_transaction
from db.tables import TrainingRun
from db.types import RUNNING, ModelKind, RunStatus, TaskKind
from training import source
from training.contest import GateDecision
from training.dataset import Dataset
from training.errors import TrainingError, describe_error, render_frames
from training.judge import judge
from training.leaks import Canary, make_canaries, plant
from training.lease import LeaseKeeper, LeaseLostError
from training.preparation import NothingToTrainOnError, prepare_run
from training.progress import Progress, RunCancelledError, RunStoppedError
from training.records import write_records
from training.registry import ACTOR, conclude_run, refuse_run
from training.run import Run, apply_overrides
from training.trainers import TrainJob, train

logger = logging.getLogger(__name__)


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
        job.settings = apply_overrides(settings=job.settings, overrides=run.settings)
        dataset = prepare_run(job)
        canaries = _make_canaries(job)
        bundle = _train(job, plant(dataset, canaries))
        decision = _evaluate(job, dataset, bundle, canaries=canaries)
        job.progress.report("deciding", 1, 1)
        job.write(lambda s: conclude_run(s, run_id, bundle=bundle, decision=decision, settings=job.settings.training))
    except (RunStoppedError, LeaseLostError) as error:
        job.log(f"stopped: {error}")
        if isinstance(error, RunStoppedError):
            job.write(lambda session: _count_stop(session, run_id))
        return
    except NoEffectError as error:
        job.log(str(error))
        reason = str(error)
        job.write(lambda session: refuse_run(session, run_id, reason=reason))
    except NothingToTrainOnError as answer:
        job.log(str(answer))
        message = str(answer)
        job.write(lambda session: runs.update_progress(session, run_id, message=message))
        job.write(lambda session: runs.cancel_run(session, run_id, actor=ACTOR))
    except RunCancelledError as error:
        job.log(str(error))
        job.write(lambda session: runs.update_progress(session, run_id, message="cancelled on request"))
        job.write(lambda session: runs.cancel_run(session, run_id, actor=ACTOR))
    except Exception as error:
        sentence = describe_error(error, log=job.directory / "log.txt")
        job.log(f"failed: {sentence}\n{render_frames(error)}")
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
    job.log(f"attempt {run.attempts + 1}")


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
        job.log(f"the live adapter {active.digest[:12]} belongs to another base model: compared with the bare base instead")
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
