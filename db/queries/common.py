"""Small helpers of the query modules: ids, look-ups that raise, locks and text that every database can store."""

import hashlib
from typing import Protocol, TypeVar

from sqlalchemy import text
from sqlmodel import Session, SQLModel

from db.errors import RowNotFoundError
from db.session import is_postgres

R = TypeVar("R", bound=SQLModel)
MAX_INT = 2**31 - 1  # what an INTEGER column holds on PostgreSQL; SQLite's driver gives up at 2**63


class HasId(Protocol):
    """A row whose id the database gives."""

    id: int | None


def row_id(row: HasId) -> int:
    """Return the id of a stored row. Raises ValueError for a row that was never flushed."""
    if row.id is None:
        message = f"this {type(row).__name__} is not stored yet: flush the session first"
        raise ValueError(message)
    return row.id


def get_row(session: Session, kind: type[R], *, key: int, name: str, is_locked: bool = False) -> R:
    """Return the row or raise RowNotFoundError. `is_locked` keeps other writers away until the transaction ends."""
    if is_locked:
        session.flush()  # what is locked is read anew: nothing unsaved may be lost by that
    row = None if bound(key) != key else session.get(kind, key, with_for_update=is_locked, populate_existing=is_locked)
    if row is None:
        message = f"there is no {name} {key}"
        raise RowNotFoundError(message)
    return row


def bound(value: int) -> int:
    """Return an id or a count as the nearest one that both databases take: they refuse huge numbers, and SQLite reads -1 as no limit."""
    return max(0, min(value, MAX_INT))


def take_lock(session: Session, name: str) -> None:
    """Make other transactions that take the same lock wait until this one ends. On SQLite every writing transaction already has it."""
    if is_postgres(session.connection()):
        key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)
        session.connection().execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})


def clean_text(value: str) -> str:
    """Return the text without what PostgreSQL or UTF-8 cannot hold: NUL characters and lone surrogates."""
    return value.replace("\x00", "").encode("utf-8", "replace").decode()


def clean_turns(turns: list[dict[str, str]]) -> list[dict[str, str]]:
    """Return the turns with every text cleaned."""
    return [{key: clean_text(value) for key, value in turn.items()} for turn in turns]
