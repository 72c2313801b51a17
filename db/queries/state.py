"""Small facts that both processes share, such as whether suggestions are paused."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session, col, select

from db.queries.audit import record_audit
from db.session import is_postgres
from db.tables import State, now

PAUSED = "paused"
DAEMON = "training.daemon"


def get_state(session: Session, key: str) -> dict[str, Any] | None:
    """Return the value, or None where it was never set."""
    value = session.exec(select(State.value).where(col(State.key) == key)).one_or_none()
    return None if value is None else dict(value)


def set_state(session: Session, key: str, *, value: Mapping[str, Any]) -> None:
    """Store a JSON value under a key, in place of what was there."""
    insert = postgresql.insert if is_postgres(session.connection()) else sqlite.insert
    values = {"value": dict(value), "updated_at": now()}
    query = insert(State).values(key=key, **values)
    session.connection().execute(query.on_conflict_do_update(index_elements=["key"], set_=values))


def is_paused(session: Session) -> bool:
    """Say whether suggestions are paused."""
    value = get_state(session, PAUSED)
    return bool(value and value["is_paused"])


def set_paused(session: Session, *, is_paused: bool, actor: str) -> None:
    """Stop or resume suggestions. Audited."""
    set_state(session, PAUSED, value={"is_paused": is_paused, "actor": actor})
    action = "suggestions.pause" if is_paused else "suggestions.resume"
    record_audit(session, actor=actor, action=action, subject_type="state", subject_id=PAUSED)


def record_daemon_heartbeat(session: Session, *, holder: str, run_id: int | None) -> None:
    """Say that the training daemon `holder` is alive now, and which run its child works on."""
    set_state(session, DAEMON, value={"holder": holder, "at": now().isoformat(), "run_id": run_id})


def get_daemon_heartbeat(session: Session) -> datetime | None:
    """Return when a training daemon was last alive, or None where none ever was."""
    value = get_state(session, DAEMON)
    return None if value is None else datetime.fromisoformat(value["at"])
