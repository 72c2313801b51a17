"""Small encrypted facts that plugins keep by key. Knows nothing of what they are or of how they are encrypted."""

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import ColumnElement, delete, func, or_
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session, col, select

from db.session import is_postgres
from db.tables import PluginValue, now


def put_value(session: Session, *, plugin: str, key: str, ciphertext: bytes, expires_at: datetime | None = None) -> None:
    """Store or replace a value."""
    insert = postgresql.insert if is_postgres(session.connection()) else sqlite.insert
    values = {"ciphertext": ciphertext, "expires_at": expires_at, "updated_at": now()}
    query = insert(PluginValue).values(plugin=plugin, key=key, **values)
    session.connection().execute(query.on_conflict_do_update(index_elements=["plugin", "key"], set_=values))


def add_value(session: Session, *, plugin: str, key: str, ciphertext: bytes, expires_at: datetime | None = None) -> bool:
    """Store a value unless the key has one that has not expired; say whether it was stored."""
    at = now()
    insert = postgresql.insert if is_postgres(session.connection()) else sqlite.insert
    values = {"ciphertext": ciphertext, "expires_at": expires_at, "updated_at": at}
    query = (
        insert(PluginValue)
        .values(plugin=plugin, key=key, **values)
        .on_conflict_do_update(index_elements=["plugin", "key"], set_=values, where=col(PluginValue.expires_at) <= at)
        .returning(col(PluginValue.key))
    )
    return session.connection().execute(query).one_or_none() is not None


def get_value(session: Session, *, plugin: str, key: str) -> bytes | None:
    """Return the ciphertext, or None where there is none or it has expired."""
    query = select(PluginValue.ciphertext).where(col(PluginValue.plugin) == plugin, col(PluginValue.key) == key, _is_fresh())
    return session.exec(query).one_or_none()


def get_values(session: Session, *, plugin: str, prefix: str = "") -> Mapping[str, bytes]:
    """Return the ciphertexts of all keys that begin so, in the order of the keys."""
    query = select(PluginValue).where(
        col(PluginValue.plugin) == plugin,
        func.substr(PluginValue.key, 1, len(prefix)) == prefix,  # LIKE would not tell cases apart on SQLite
        _is_fresh(),
    )
    return {row.key: row.ciphertext for row in session.exec(query.order_by(col(PluginValue.key)))}


def _is_fresh() -> ColumnElement[bool]:
    return or_(col(PluginValue.expires_at).is_(None), col(PluginValue.expires_at) > now())


def delete_value(session: Session, *, plugin: str, key: str) -> bool:
    """Delete a value; False where there was none."""
    query = delete(PluginValue).where(col(PluginValue.plugin) == plugin, col(PluginValue.key) == key)
    return session.connection().execute(query).rowcount == 1


def purge_expired_values(session: Session, *, at: datetime | None = None) -> int:
    """Delete what has expired and return how many values that were."""
    return session.connection().execute(delete(PluginValue).where(col(PluginValue.expires_at) <= (at or now()))).rowcount
