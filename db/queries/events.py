"""Events of plugins: stored once by their key, claimed by one process at a time, in order within a group, handled or given up.

Payloads are ciphertexts here. Knows nothing of what an event means, of threads or of time-outs.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, exists, func, or_, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import aliased
from sqlmodel import Session, col, select

from db.queries.audit import record_audit
from db.queries.common import bound, get_row
from db.session import is_postgres
from db.tables import PluginEvent, now
from db.types import EventStatus

ACTION_REQUEUED = "event.requeued"
ACTION_GIVEN_UP = "event.given_up"


@dataclass(frozen=True)
class NewEvent:
    """An event to store. `group_key` orders it among others; `available_at` None means at once."""

    key: str
    kind: str
    ciphertext: bytes
    group_key: str = ""
    available_at: datetime | None = None


def add_event(session: Session, event: NewEvent, *, plugin: str) -> bool:
    """Store an event; False where one of that plugin and key is there already, handled or not."""
    insert = postgresql.insert if is_postgres(session.connection()) else sqlite.insert
    at = now()
    query = (
        insert(PluginEvent)
        .values(
            plugin=plugin,
            key=event.key,
            kind=event.kind,
            group_key=event.group_key,
            ciphertext=event.ciphertext,
            status=EventStatus.WAITING,
            attempts=0,
            error="",
            available_at=event.available_at or at,
            created_at=at,
        )
        .on_conflict_do_nothing(index_elements=["plugin", "key"])
        .returning(col(PluginEvent.id))
    )
    return session.connection().execute(query).one_or_none() is not None


def has_waiting(session: Session, *, plugin: str) -> bool:
    """Whether an event is due that nobody holds. Its group may still keep it back."""
    at = now()
    query = select(PluginEvent.id).where(
        col(PluginEvent.plugin) == plugin,
        col(PluginEvent.status) == EventStatus.WAITING,
        col(PluginEvent.available_at) <= at,
        or_(col(PluginEvent.claimed_until).is_(None), col(PluginEvent.claimed_until) < at),
    )
    return session.exec(query.limit(1)).first() is not None


def claim_events(
    session: Session, *, plugin: str, holder: str, limit: int, ttl: timedelta, at: datetime | None = None
) -> Sequence[PluginEvent]:
    """Claim up to `limit` events for `holder`, oldest first: of each group only the first that is not handled yet."""
    at = at or now()
    earlier = aliased(PluginEvent)
    is_behind = exists().where(
        col(earlier.group_key) == col(PluginEvent.group_key),
        col(earlier.plugin) == plugin,
        col(earlier.status) == EventStatus.WAITING,
        col(earlier.id) < col(PluginEvent.id),
    )
    query = (
        select(PluginEvent)
        .where(
            col(PluginEvent.plugin) == plugin,
            col(PluginEvent.status) == EventStatus.WAITING,
            col(PluginEvent.available_at) <= at,
            or_(col(PluginEvent.claimed_until).is_(None), col(PluginEvent.claimed_until) < at),
            or_(col(PluginEvent.group_key) == "", ~is_behind),
        )
        .order_by(col(PluginEvent.id))
        .limit(bound(limit))
        .with_for_update(skip_locked=True)
    )
    rows = session.exec(query).all()
    for row in rows:
        row.claimed_by, row.claimed_until, row.attempts = holder, at + ttl, row.attempts + 1
    session.flush()
    return rows


def renew_claims(session: Session, ids: Iterable[int], *, holder: str, ttl: timedelta) -> int:
    """Prolong the claims that are still ours; return how many that were."""
    query = update(PluginEvent).where(col(PluginEvent.id).in_(list(ids)), col(PluginEvent.claimed_by) == holder)
    return session.connection().execute(query.values(claimed_until=now() + ttl)).rowcount


def release_claims(session: Session, *, plugin: str, holders: Iterable[str]) -> int:
    """Give back what these processes had claimed and not finished: they have ended, or are about to."""
    query = update(PluginEvent).where(
        col(PluginEvent.plugin) == plugin,
        col(PluginEvent.status) == EventStatus.WAITING,
        col(PluginEvent.claimed_by).in_(list(holders)),
    )
    return session.connection().execute(query.values(claimed_by=None, claimed_until=None)).rowcount


def list_holders(session: Session, *, plugin: str) -> Sequence[str]:
    """Return who has claimed events that are not handled yet."""
    query = select(PluginEvent.claimed_by).where(
        col(PluginEvent.plugin) == plugin,
        col(PluginEvent.status) == EventStatus.WAITING,
        col(PluginEvent.claimed_by).is_not(None),
    )
    return [holder for holder in session.exec(query.distinct()).all() if holder is not None]


def finish_event(session: Session, event_id: int, *, holder: str) -> bool:
    """Mark it handled and forget what it said. False where the claim was lost meanwhile."""
    query = update(PluginEvent).where(
        col(PluginEvent.id) == event_id,
        col(PluginEvent.claimed_by) == holder,
        col(PluginEvent.status) == EventStatus.WAITING,
    )
    values = {"status": EventStatus.DONE, "ciphertext": b"", "finished_at": now(), "claimed_by": None, "claimed_until": None}
    return session.connection().execute(query.values(**values)).rowcount == 1


def retry_event(
    session: Session, event_id: int, *, holder: str, available_at: datetime, error: str, is_counted: bool = True
) -> bool:
    """Put it back until `available_at`; `is_counted` False means that the try was not its fault. False where the claim was lost."""
    values = {"available_at": available_at, "error": error, "claimed_by": None, "claimed_until": None}
    if not is_counted:
        values["attempts"] = PluginEvent.attempts - 1
    query = update(PluginEvent).where(col(PluginEvent.id) == event_id, col(PluginEvent.claimed_by) == holder)
    return session.connection().execute(query.values(**values)).rowcount == 1


def give_up_event(session: Session, event_id: int, *, holder: str, error: str) -> bool:
    """Mark it failed, keep what it said, and audit it. False where the claim was lost meanwhile."""
    query = update(PluginEvent).where(col(PluginEvent.id) == event_id, col(PluginEvent.claimed_by) == holder)
    values = {
        "status": EventStatus.FAILED,
        "error": error,
        "finished_at": now(),
        "claimed_by": None,
        "claimed_until": None,
    }
    if session.connection().execute(query.values(**values)).rowcount != 1:
        return False
    detail = {"error": error}
    record_audit(session, actor="bot", action=ACTION_GIVEN_UP, subject_type="plugin_event", subject_id=event_id, detail=detail)
    return True


def requeue_event(session: Session, event_id: int, *, actor: str) -> PluginEvent:
    """Try a failed event again. Raises RowNotFoundError; one that waits or is done is left alone."""
    row = get_row(session, PluginEvent, key=event_id, name="event", is_locked=True)
    if row.status is EventStatus.FAILED:
        row.status, row.attempts, row.available_at, row.finished_at = EventStatus.WAITING, 0, now(), None
        record_audit(session, actor=actor, action=ACTION_REQUEUED, subject_type="plugin_event", subject_id=event_id)
        session.flush()
    return row


def list_events(
    session: Session, *, plugin: str | None = None, status: EventStatus | None = None, limit: int = 50
) -> Sequence[PluginEvent]:
    """Return events, newest first."""
    query = select(PluginEvent).order_by(col(PluginEvent.id).desc()).limit(bound(limit))
    if plugin is not None:
        query = query.where(col(PluginEvent.plugin) == plugin)
    if status is not None:
        query = query.where(col(PluginEvent.status) == status)
    return session.exec(query).all()


def count_events(session: Session, *, plugin: str) -> dict[EventStatus, int]:
    """Return how many events of a plugin stand where; all states are named."""
    query = select(PluginEvent.status, func.count()).where(col(PluginEvent.plugin) == plugin).group_by(col(PluginEvent.status))
    found = {EventStatus(status): count for status, count in session.exec(query).all()}
    return {status: found.get(status, 0) for status in EventStatus}


def purge_events(session: Session, *, before: datetime) -> int:
    """Delete events that ended before that time; the same key would be a new event then. Returns how many."""
    query = delete(PluginEvent).where(col(PluginEvent.finished_at).is_not(None), col(PluginEvent.finished_at) < before)
    return session.connection().execute(query).rowcount
