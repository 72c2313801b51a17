"""Decides when a run starts that nobody pressed for: at the times of a crontab line, or when the live model is corrected too often.

Light on purpose: no torch, no model. What it remembers lies in the database, so that a restart loses nothing and replicas agree.
"""

import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from sqlalchemy import Engine as DbEngine
from sqlalchemy import func
from sqlmodel import Session, col, select

from bot.training_settings import TrainingSettings
from bot.types import BASE
from db.errors import RunConflictError
from db.queries import adapters, gate, runs
from db.queries.audit import record_audit
from db.queries.common import take_lock
from db.queries.decisions import DecisionCounts, count_decisions
from db.queries.examples import count_examples
from db.queries.state import get_state, set_state
from db.queries.wanted import drop_wanted, list_wanted, want_run
from db.session import retry_transaction, transaction
from db.tables import Adapter, Example, TrainingRun
from db.types import RunStatus, RunTrigger, TaskKind
from training.clock import find_due, may_start
from training.triggers import Measured, find_degradation_reason, find_override_reason, is_calm

logger = logging.getLogger(__name__)
ACTOR = "schedule"
ASKED = "schedule.asked"
"""State row: {"at"}, the time up to which the crontab line has been answered."""
_LEARNED = frozenset({RunStatus.PROMOTED, RunStatus.REJECTED, RunStatus.AWAITING_APPROVAL})


def _now() -> datetime:
    return datetime.now(UTC)


class Schedule:
    """Asks the database what is due and queues it, one run at a time. Each method is one transaction or a few, and never waits."""

    def __init__(self, db_engine: DbEngine, settings: TrainingSettings, *, clock: Callable[[], datetime] = _now) -> None:
        self._db_engine = db_engine
        self._settings = settings
        self._clock = clock

    def look(self) -> None:
        """Ask if the crontab line has struck since it was last answered, however often; then look at the triggers."""
        retry_transaction(self._db_engine, self._answer_due)
        self.watch()

    def ask(self) -> None:
        """Look at every task: want a run where enough is new, say "nothing to train on" in the audit where not."""
        retry_transaction(self._db_engine, self._ask_all)

    def watch(self) -> None:
        """Want a run where people change the live model's answers too often, or where it is surely worse than it was measured."""
        for task in TaskKind:
            retry_transaction(self._db_engine, lambda session, task=task: self._watch(session, task))  # type: ignore[misc]

    def enqueue(self) -> int | None:
        """Queue the run that has been wanted longest if none is going and the hour allows it; return its id, or None."""
        with transaction(self._db_engine, is_read_only=True) as session:  # asked at every poll: must not keep writers waiting
            is_wanted = bool(list_wanted(session))
        if not is_wanted or not may_start(self._settings, self._clock()):
            return None
        try:
            return retry_transaction(self._db_engine, _enqueue)
        except RunConflictError:
            return None  # one is going: asked again at the next poll

    def _answer_due(self, session: Session) -> None:
        """Note that the line is answered and answer it in one transaction: a process that dies in between loses no time of the line."""
        if self._take_due(session):
            self._ask_all(session)

    def _ask_all(self, session: Session) -> None:
        for task in TaskKind:
            reason = self._ask(session, task)
            logger.info("schedule: %s: %s", task, reason or "a run is wanted")

    def _take_due(self, session: Session) -> bool:
        """Say whether the line has struck, and note that it is answered. The first look ever only notes the time."""
        if not self._settings.cron:
            return False
        take_lock(session, "schedule")
        at = self._clock()
        asked = get_state(session, ASKED)
        after = at if asked is None else datetime.fromisoformat(asked["at"])
        due = find_due(self._settings.cron, self._settings.time_zone, after=after, until=at)
        if asked is None or due is not None:
            set_state(session, ASKED, value={"at": at.isoformat()})
        return due is not None

    def _ask(self, session: Session, task: TaskKind) -> str | None:
        n_now, n_new = _count_new(session, task)
        if n_now >= self._settings.min_examples and n_new >= self._settings.min_new_examples:
            want_run(session, task, trigger=RunTrigger.SCHEDULE, reason=f"{n_new} new examples of {n_now}")
            return None
        missing = max(self._settings.min_examples - n_now, self._settings.min_new_examples - n_new)
        reason = f"nothing to train on: {n_now} examples, {n_new} of them new; {missing} more are needed"
        detail = {"n_examples": n_now, "n_new": n_new, "reason": reason}
        record_audit(
            session, actor=ACTOR, action="schedule.nothing_to_train_on", subject_type="task", subject_id=task.value, detail=detail
        )
        return reason

    def _watch(self, session: Session, task: TaskKind) -> None:
        live = adapters.get_active(session, task)
        digest = BASE if live is None else live.digest
        counts = count_decisions(session, task, adapter_digest=digest, window=self._settings.override_window)
        threshold = self._settings.override_rate
        if threshold is not None:
            reason = find_override_reason(counts, threshold=threshold, window=self._settings.override_window)
            self._fire(session, task, RunTrigger.OVERRIDES, reason=reason, is_calm=is_calm(counts, threshold=threshold))
        if self._settings.has_degradation_trigger and live is not None:
            reason = _find_degradation(session, live, counts)
            self._fire(session, task, RunTrigger.DEGRADATION, reason=reason, is_calm=reason is None)

    def _fire(self, session: Session, task: TaskKind, trigger: RunTrigger, *, reason: str | None, is_calm: bool) -> None:
        """Want a run unless this trigger fired lately, or fires on for the same rise with nothing new to learn from."""
        key = f"schedule.{trigger}.{task}"
        state = get_state(session, key)
        is_armed = state is None or bool(state["is_armed"])
        if is_calm and not is_armed and state is not None:
            set_state(session, key, value={**state, "is_armed": True})
        if reason is None:
            return
        at = self._clock()
        cooldown = timedelta(hours=self._settings.trigger_cooldown_hours)
        if state is not None and at - datetime.fromisoformat(state["at"]) < cooldown:
            return
        n_now, n_new = _count_new(session, task)
        if n_now < self._settings.min_examples or not (is_armed or n_new >= self._settings.min_new_examples):
            return
        if want_run(session, task, trigger=trigger, reason=reason):
            set_state(session, key, value={"at": at.isoformat(), "is_armed": False})
            logger.info("schedule: %s: a run is wanted: %s", task, reason)


def _enqueue(session: Session) -> int | None:
    wanted = list_wanted(session)
    if not wanted:
        return None
    first = wanted[0]
    run = runs.enqueue_run(session, task=first.task, trigger=first.trigger, actor=ACTOR)
    run.message = f"waiting to start: {first.reason}"
    drop_wanted(session, first.task)
    return run.id


def _count_new(session: Session, task: TaskKind) -> tuple[int, int]:
    """Return how many examples there are and how many came after what the last run with a verdict saw.

    By their ids: those that were withdrawn or erased meanwhile must not count against what is new.
    """
    n_now = count_examples(session, task)
    last = find_last_learned(session, task)
    newest_id = 0 if last is None else int(last.data_counts.get("newest_id", 0))
    if newest_id == 0:
        return n_now, n_now
    is_new = (col(Example.task) == task, col(Example.is_withdrawn).is_(False), col(Example.id) > newest_id)
    return n_now, session.exec(select(func.count()).select_from(Example).where(*is_new)).one()


def _find_degradation(session: Session, live: Adapter, counts: DecisionCounts) -> str | None:
    report = gate.get_gate_report(session, adapter_digest=live.digest)
    if report is None or not isinstance(report.numbers.get("candidate_accuracy"), int | float):
        return None
    measured = Measured(accuracy=float(report.numbers["candidate_accuracy"]), n=int(report.numbers.get("n_test", 0)))
    return find_degradation_reason(counts, measured)


def find_last_learned(session: Session, task: TaskKind) -> TrainingRun | None:
    """Return the newest run of the task that came to a verdict, or None."""
    return next((run for run in runs.list_runs(session, task=task, limit=100) if run.status in _LEARNED), None)
