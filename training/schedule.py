"""Decides when the schedule asks for a run: at the times of a crontab line, and only where there is something new to learn.

Light on purpose: no torch, no model. The run itself is queued like one that a person asked for.
"""

import logging

from sqlalchemy import Engine as DbEngine
from sqlmodel import Session

from bot.training_settings import TrainingSettings
from db.errors import RunConflictError
from db.queries import runs
from db.queries.audit import record_audit
from db.queries.examples import count_examples
from db.session import retry_transaction
from db.tables import TrainingRun
from db.types import RunStatus, RunTrigger, TaskKind

logger = logging.getLogger(__name__)
ACTOR = "schedule"
_LEARNED = frozenset({RunStatus.PROMOTED, RunStatus.REJECTED, RunStatus.AWAITING_APPROVAL})


class Schedule:
    """Remembers which tasks the schedule wants a run for until they are queued, as only one run goes at a time."""

    def __init__(self, db_engine: DbEngine, settings: TrainingSettings) -> None:
        self._db_engine = db_engine
        self._settings = settings
        self._wanted: list[TaskKind] = []

    def ask(self) -> None:
        """Look at every task: want a run where enough is new, say "nothing to train on" in the audit where not."""
        for task in TaskKind:
            reason = retry_transaction(self._db_engine, lambda s, task=task: self._find_reason_not_to(s, task))  # type: ignore[misc]
            if reason is None and task not in self._wanted:
                self._wanted.append(task)
            logger.info("schedule: %s: %s", task, reason or "a run is wanted")

    def enqueue(self) -> int | None:
        """Queue the next wanted run if none is going; return its id, or None."""
        if not self._wanted:
            return None
        task = self._wanted[0]
        try:
            run_id = retry_transaction(
                self._db_engine,
                lambda session: runs.enqueue_run(session, task=task, trigger=RunTrigger.SCHEDULE, actor=ACTOR).id,
            )
        except RunConflictError:
            return None  # one is going: asked again at the next poll
        self._wanted.pop(0)
        return run_id

    def _find_reason_not_to(self, session: Session, task: TaskKind) -> str | None:
        n_now = count_examples(session, task)
        last = find_last_learned(session, task)
        n_new = n_now if last is None else n_now - int(last.data_counts.get("n_seen", 0))
        if n_now >= self._settings.min_examples and n_new >= self._settings.min_new_examples:
            return None
        missing = max(self._settings.min_examples - n_now, self._settings.min_new_examples - n_new)
        reason = f"nothing to train on: {n_now} examples, {n_new} of them new; {missing} more are needed"
        detail = {"n_examples": n_now, "n_new": n_new, "reason": reason}
        record_audit(
            session, actor=ACTOR, action="schedule.nothing_to_train_on", subject_type="task", subject_id=task.value, detail=detail
        )
        return reason


def find_last_learned(session: Session, task: TaskKind) -> TrainingRun | None:
    """Return the newest run of the task that came to a verdict, or None."""
    return next((run for run in runs.list_runs(session, task=task, limit=100) if run.status in _LEARNED), None)
