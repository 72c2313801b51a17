"""Runs that are wanted but not queued yet, as only one goes at a time and quiet hours may hold them back. Survives a restart.

Knows nothing of why one is wanted beyond the sentence it is handed.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlmodel import Session

from db.queries.audit import record_audit
from db.queries.common import take_lock
from db.queries.state import get_state, set_state
from db.tables import now
from db.types import RunTrigger, TaskKind

KEY = "schedule.wanted"
ACTOR = "schedule"


@dataclass(frozen=True)
class WantedRun:
    """A run to queue as soon as that may be, and why."""

    task: TaskKind
    trigger: RunTrigger
    reason: str
    since: datetime


def want_run(session: Session, task: TaskKind, *, trigger: RunTrigger, reason: str) -> bool:
    """Ask for a run of the task; False where one is wanted already, whose reason then stays. Audited."""
    take_lock(session, "schedule")
    rows = get_state(session, KEY) or {}
    if task.value in rows:
        return False
    rows[task.value] = {"trigger": trigger.value, "reason": reason, "since": now().isoformat()}
    set_state(session, KEY, value=rows)
    detail = {"trigger": trigger.value, "reason": reason}
    record_audit(session, actor=ACTOR, action="schedule.want", subject_type="task", subject_id=task.value, detail=detail)
    return True


def list_wanted(session: Session) -> list[WantedRun]:
    """Return what is wanted, the longest waiting first."""
    rows = get_state(session, KEY) or {}
    found = [
        WantedRun(
            task=TaskKind(task),
            trigger=RunTrigger(row["trigger"]),
            reason=row["reason"],
            since=datetime.fromisoformat(row["since"]),
        )
        for task, row in rows.items()
    ]
    return sorted(found, key=lambda wanted: (wanted.since, wanted.task))


def drop_wanted(session: Session, task: TaskKind) -> None:
    """Forget that a run of the task is wanted: it is queued."""
    take_lock(session, "schedule")
    rows = get_state(session, KEY) or {}
    if rows.pop(task.value, None) is not None:
        set_state(session, KEY, value=rows)
