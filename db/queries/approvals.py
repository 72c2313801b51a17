"""Approvals of a candidate by named people: each is a row of the audit trail, and as many different people as the policy asks are needed.

Does not make anything live; `bot.approval` does that when enough have approved.
"""

from collections.abc import Sequence

from sqlmodel import Session, col, select

from db.errors import StateConflictError
from db.queries.audit import list_audit, record_audit
from db.queries.common import take_lock
from db.tables import Adapter, TrainingRun

ACTION = "adapter.approve"
MACHINES = frozenset({"training", "schedule", "bot", "system"})
"""Actors that are no person and approve nothing."""


def get_person(actor: str) -> str:
    """Return who stands behind an actor: `cli:ana` and `Ana` are one person."""
    return actor.rpartition(":")[2].strip().casefold()


def list_approvers(session: Session, digest: str) -> Sequence[str]:
    """Return who has approved the adapter, each person once, the first one first."""
    rows = reversed(list_audit(session, subject_type="adapter", subject_id=digest, action=ACTION))
    people: dict[str, str] = {}
    for row in rows:
        people.setdefault(get_person(row.actor), row.actor)
    return list(people.values())


def record_approval(session: Session, adapter: Adapter, *, actor: str, reason: str, needed: int) -> bool:
    """Record that `actor` approves the adapter and say whether that is enough.

    With one needed, whoever it is will do. With more, as many different people, of whom one at least did not start the run.
    Raises StateConflictError for a machine, or for somebody who has approved already while others are still needed.
    """
    take_lock(session, "approvals")
    person = get_person(actor)
    if not person or person in MACHINES:
        message = f"adapter {adapter.digest[:12]} needs the approval of a named person, and '{actor}' is none: sign in or give your name"
        raise StateConflictError(message)
    before = list_approvers(session, adapter.digest)
    if person in {get_person(name) for name in before} and needed > 1 and not _is_enough(session, adapter, before, needed=needed):
        message = f"{actor} has approved adapter {adapter.digest[:12]} already: {describe_missing(before, needed=needed)}"
        raise StateConflictError(message)
    detail = {"task": adapter.task.value, "run_id": adapter.run_id, "reason": reason, "needed": needed}
    record_audit(session, actor=actor, action=ACTION, subject_type="adapter", subject_id=adapter.digest, detail=detail)
    return _is_enough(session, adapter, list_approvers(session, adapter.digest), needed=needed)


def describe_missing(approvers: Sequence[str], *, needed: int) -> str:
    """Say how many people are still missing."""
    missing = max(needed - len(approvers), 1)
    return f"{len(approvers)} of {needed} approvals, {missing} more from another person {'is' if missing == 1 else 'are'} needed"


def _is_enough(session: Session, adapter: Adapter, approvers: Sequence[str], *, needed: int) -> bool:
    people = {get_person(name) for name in approvers}
    if len(people) < needed:
        return False
    if needed == 1 or adapter.run_id is None:
        return True
    starter = session.exec(select(TrainingRun.actor).where(col(TrainingRun.id) == adapter.run_id)).one_or_none()
    return bool(people - {get_person(starter or "")})
