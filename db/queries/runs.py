"""Training runs and their progress. The only place that changes a run's status. Knows nothing of how a run trains."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlmodel import Session, col, select

from db.errors import RunConflictError, StateConflictError, TransitionError
from db.queries.audit import record_audit
from db.queries.common import bound, get_row, row_id, take_lock
from db.queries.leases import TRAINING, get_holder
from db.tables import TrainingRun, now
from db.types import RUNNING, RunStatus, RunTrigger, TaskKind

S = RunStatus
TRANSITIONS: Mapping[RunStatus, frozenset[RunStatus]] = {
    S.QUEUED: frozenset({S.PREPARING, S.FAILED, S.CANCELLED}),
    S.PREPARING: frozenset({S.TRAINING, S.FAILED, S.CANCELLED}),
    S.TRAINING: frozenset({S.EVALUATING, S.FAILED, S.CANCELLED, S.PREPARING}),  # back to preparing: taken up again after a kill
    S.EVALUATING: frozenset({S.AWAITING_APPROVAL, S.PROMOTED, S.REJECTED, S.FAILED, S.CANCELLED, S.PREPARING}),
    S.AWAITING_APPROVAL: frozenset({S.PROMOTED, S.REJECTED}),
    S.PROMOTED: frozenset(),
    S.REJECTED: frozenset(),
    S.FAILED: frozenset(),
    S.CANCELLED: frozenset(),
}
_VERDICTS = frozenset({S.AWAITING_APPROVAL, S.PROMOTED, S.REJECTED})


def enqueue_run(
    session: Session,
    *,
    task: TaskKind,
    trigger: RunTrigger,
    actor: str,
    settings: Mapping[str, Any] | None = None,
) -> TrainingRun:
    """Queue a run. Raises RunConflictError while another one is going or a process holds the training lease."""
    take_lock(session, "runs")
    going = get_running(session)
    if going is not None:
        message = f"run {row_id(going)} ({going.task.value}) is {going.status.value}: wait for it or cancel it"
        raise RunConflictError(message)
    holder = get_holder(session, TRAINING)
    if holder is not None:
        message = f"{holder} is training at the moment: try again when it is done"
        raise RunConflictError(message)
    run = TrainingRun(task=task, trigger=trigger, actor=actor, settings=dict(settings or {}), message="waiting to start")
    session.add(run)
    session.flush()
    _audit(session, run, actor=actor)
    return run


def get_run(session: Session, run_id: int) -> TrainingRun:
    """Return the run. Raises RowNotFoundError."""
    return get_row(session, TrainingRun, key=run_id, name="training run")


def list_runs(session: Session, *, task: TaskKind | None = None, limit: int = 20) -> Sequence[TrainingRun]:
    """Return runs, newest first."""
    query = select(TrainingRun).order_by(col(TrainingRun.id).desc()).limit(bound(limit))
    if task is not None:
        query = query.where(col(TrainingRun.task) == task)
    return session.exec(query).all()


def get_running(session: Session) -> TrainingRun | None:
    """Return the run that is queued or going, or None."""
    query = select(TrainingRun).where(col(TrainingRun.status).in_(RUNNING)).order_by(col(TrainingRun.id)).limit(1)
    return session.exec(query).one_or_none()


def start_run(session: Session, run_id: int, *, actor: str) -> TrainingRun:
    """Begin a queued run, or take up one whose process died: it is then preparing again, one attempt later.

    The caller holds the training lease. Raises TransitionError for a run that has ended or waits for approval.
    """
    run = _get_locked(session, run_id)
    if run.status is not S.PREPARING:
        _check(run, S.PREPARING)
    run.status = S.PREPARING
    run.attempts += 1
    run.started_at = run.started_at or now()
    _audit(session, run, actor=actor, detail={"attempt": run.attempts})
    return run


def advance_run(session: Session, run_id: int, *, status: RunStatus, actor: str) -> TrainingRun:
    """Move a going run to the next stage (training, evaluating). Raises TransitionError."""
    if status not in RUNNING:
        message = f"a run ends in {status.value} through finish_run or fail_run"
        raise StateConflictError(message)
    run = _get_locked(session, run_id)
    _set_status(session, run, status=status, actor=actor)
    return run


def update_progress(
    session: Session,
    run_id: int,
    *,
    phase: str | None = None,
    step: int | None = None,
    total_steps: int | None = None,
    loss: float | None = None,
    eta_s: float | None = None,
    message: str | None = None,
    data_digest: str | None = None,
    data_counts: Mapping[str, Any] | None = None,
    curves: Mapping[str, Any] | None = None,
) -> TrainingRun:
    """Write what is given and leave the rest; the returned row says whether a cancel was asked for. Raises StateConflictError once ended."""
    run = _get_locked(session, run_id)
    if run.status not in RUNNING:
        text = f"run {run_id} is {run.status.value}: its progress is final"
        raise StateConflictError(text)
    given = {
        "phase": phase,
        "step": step,
        "total_steps": total_steps,
        "loss": loss,
        "eta_s": eta_s,
        "message": message,
        "data_digest": data_digest,
        "data_counts": None if data_counts is None else dict(data_counts),
        "curves": None if curves is None else dict(curves),
    }
    for name, value in given.items():
        if value is not None:
            setattr(run, name, value)
    session.flush()
    return run


def request_cancel(session: Session, run_id: int, *, actor: str) -> TrainingRun:
    """Ask a run to stop at its next step; a queued one is cancelled at once. Raises StateConflictError for one that has ended."""
    run = _get_locked(session, run_id)
    if run.status not in RUNNING:
        message = f"run {run_id} is {run.status.value}: there is nothing to cancel"
        raise StateConflictError(message)
    run.is_cancel_requested = True
    if run.status is S.QUEUED:
        _end(session, run, status=S.CANCELLED, actor=actor)
    else:
        record_audit(session, actor=actor, action="run.request_cancel", subject_type="run", subject_id=run_id)
    return run


def cancel_run(session: Session, run_id: int, *, actor: str) -> TrainingRun:
    """Record that a run has stopped on request. Raises TransitionError."""
    run = _get_locked(session, run_id)
    _end(session, run, status=S.CANCELLED, actor=actor)
    return run


def finish_run(
    session: Session,
    run_id: int,
    *,
    status: RunStatus,
    actor: str,
    adapter_digest: str | None = None,
    message: str | None = None,
) -> TrainingRun:
    """Record the gate's verdict: promoted, rejected or awaiting approval. Raises TransitionError."""
    if status not in _VERDICTS:
        text = f"a run finishes as promoted, rejected or awaiting approval, not {status.value}: use fail_run or cancel_run"
        raise StateConflictError(text)
    run = _get_locked(session, run_id)
    if adapter_digest is not None:
        run.adapter_digest = adapter_digest
    if message is not None:
        run.message = message
    _end(session, run, status=status, actor=actor)
    return run


def decide_run(session: Session, run_id: int, *, is_approved: bool, actor: str, reason: str) -> TrainingRun:
    """Let a named person promote or reject a run that awaits approval; the adapter is changed apart from this. Raises TransitionError."""
    run = _get_locked(session, run_id)
    if run.status is not S.AWAITING_APPROVAL:
        message = f"run {run_id} is {run.status.value} and does not wait for approval"
        raise TransitionError(message)
    _end(session, run, status=S.PROMOTED if is_approved else S.REJECTED, actor=actor, detail={"reason": reason})
    return run


def fail_run(session: Session, run_id: int, *, error: str, actor: str) -> TrainingRun:
    """Record that a run broke; `error` is one sentence for people, without ticket text. Raises TransitionError."""
    run = _get_locked(session, run_id)
    run.error = error
    run.message = error
    _end(session, run, status=S.FAILED, actor=actor, detail={"error": error})
    return run


def _get_locked(session: Session, run_id: int) -> TrainingRun:
    return get_row(session, TrainingRun, key=run_id, name="training run", is_locked=True)


def _check(run: TrainingRun, status: RunStatus) -> None:
    if status not in TRANSITIONS[run.status]:
        message = f"run {row_id(run)} is {run.status.value} and cannot become {status.value}"
        raise TransitionError(message)


def _set_status(
    session: Session, run: TrainingRun, *, status: RunStatus, actor: str, detail: Mapping[str, Any] | None = None
) -> None:
    _check(run, status)
    run.status = status
    _audit(session, run, actor=actor, detail=detail)


def _end(session: Session, run: TrainingRun, *, status: RunStatus, actor: str, detail: Mapping[str, Any] | None = None) -> None:
    _set_status(session, run, status=status, actor=actor, detail=detail)
    run.eta_s = None
    run.finished_at = now()
    session.flush()


def _audit(session: Session, run: TrainingRun, *, actor: str, detail: Mapping[str, Any] | None = None) -> None:
    values = {"task": run.task.value, **(detail or {})}
    record_audit(
        session, actor=actor, action=f"run.{run.status.value}", subject_type="run", subject_id=row_id(run), detail=values
    )
