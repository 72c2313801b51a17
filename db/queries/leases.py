"""Leases: a named right that one process at a time holds until it expires. Taking one is a single atomic statement on both databases."""

from datetime import datetime, timedelta

from sqlalchemy import delete, or_, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session, col, select

from db.session import is_postgres
from db.tables import Lease, now

TRAINING = "training"
"""Held by the process that trains."""


def acquire(session: Session, name: str, *, holder: str, ttl: timedelta, at: datetime | None = None) -> bool:
    """Take the lease if it is free, expired or already ours, and say whether we hold it now. Others see it after the commit."""
    at = at or now()
    insert = postgresql.insert if is_postgres(session.connection()) else sqlite.insert
    values = {"holder": holder, "expires_at": at + ttl}
    query = (
        insert(Lease)
        .values(name=name, **values)
        .on_conflict_do_update(
            index_elements=["name"], set_=values, where=or_(col(Lease.expires_at) <= at, col(Lease.holder) == holder)
        )
        .returning(col(Lease.holder))
    )
    return session.connection().execute(query).one_or_none() is not None


def renew(session: Session, name: str, *, holder: str, ttl: timedelta, at: datetime | None = None) -> bool:
    """Prolong the lease while it is still ours. False means that it was lost: stop what it protects."""
    at = at or now()
    query = update(Lease).where(col(Lease.name) == name, col(Lease.holder) == holder, col(Lease.expires_at) > at)
    return session.connection().execute(query.values(expires_at=at + ttl)).rowcount == 1


def release(session: Session, name: str, *, holder: str) -> bool:
    """Give the lease back; False where it was not ours."""
    query = delete(Lease).where(col(Lease.name) == name, col(Lease.holder) == holder)
    return session.connection().execute(query).rowcount == 1


def get_holder(session: Session, name: str, *, at: datetime | None = None) -> str | None:
    """Return who holds the lease now, or None where it is free or expired."""
    query = select(Lease.holder).where(col(Lease.name) == name, col(Lease.expires_at) > (at or now()))
    return session.exec(query).one_or_none()
