"""Tickets and the vault that can unmask them. Takes masked text only; who may see what is not known here."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import delete
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session, col, select

from db.queries.common import bound, clean_text, clean_turns, get_row
from db.session import is_postgres
from db.tables import Ticket, VaultEntry, now
from db.types import MaskedText, TicketStatus


def upsert_ticket(
    session: Session,
    *,
    plugin: str,
    external_id: str,
    subject: MaskedText,
    text: MaskedText,
    turns: Sequence[Mapping[str, str]] = (),
    is_blind: bool = False,
    group_key: str = "",
) -> Ticket:
    """Store a ticket. The same plugin and external id again updates the texts and keeps id, status and `is_blind`.

    An empty `group_key` leaves an earlier one alone.
    """
    at = now()
    values: dict[str, Any] = {
        "subject": clean_text(subject),
        "text": clean_text(text),
        "turns": clean_turns([dict(turn) for turn in turns]),
        "updated_at": at,
    }
    if group_key:
        values["group_key"] = group_key
    first = {"group_key": "", **values, "plugin": plugin, "external_id": external_id, "is_blind": is_blind, "created_at": at}
    insert = postgresql.insert if is_postgres(session.connection()) else sqlite.insert
    query = (
        insert(Ticket)
        .values(**first, status=TicketStatus.OPEN)
        .on_conflict_do_update(index_elements=["plugin", "external_id"], set_=values)
        .returning(col(Ticket.id))
    )
    ticket_id = session.connection().execute(query).scalar_one()
    return session.get_one(Ticket, ticket_id, populate_existing=True)


def get_ticket(session: Session, ticket_id: int, *, is_locked: bool = False) -> Ticket:
    """Return the ticket; `is_locked` keeps other writers off it until the transaction ends. Raises RowNotFoundError."""
    return get_row(session, Ticket, key=ticket_id, name="ticket", is_locked=is_locked)


def get_ticket_by_source(session: Session, *, plugin: str, external_id: str) -> Ticket | None:
    """Return the ticket of that plugin and external id, or None."""
    return session.exec(select(Ticket).where(col(Ticket.plugin) == plugin, col(Ticket.external_id) == external_id)).one_or_none()


def list_tickets(
    session: Session, *, status: TicketStatus | None = None, limit: int = 50, before_id: int | None = None
) -> Sequence[Ticket]:
    """Return tickets, newest first; `before_id` pages on."""
    query = select(Ticket).order_by(col(Ticket.id).desc()).limit(bound(limit))
    if status is not None:
        query = query.where(col(Ticket.status) == status)
    if before_id is not None:
        query = query.where(col(Ticket.id) < bound(before_id))
    return session.exec(query).all()


def set_ticket_status(session: Session, ticket_id: int, *, status: TicketStatus) -> Ticket:
    """Set where the ticket stands; `bot.service` decides that. Raises RowNotFoundError."""
    ticket = get_ticket(session, ticket_id)
    ticket.status = status
    ticket.updated_at = now()
    session.flush()
    return ticket


def put_vault(session: Session, *, ticket_id: int, ciphertext: bytes, expires_at: datetime) -> None:
    """Store or replace the encrypted placeholder map of a ticket."""
    insert = postgresql.insert if is_postgres(session.connection()) else sqlite.insert
    values = {"ciphertext": ciphertext, "expires_at": expires_at}
    query = insert(VaultEntry).values(ticket_id=ticket_id, **values)
    session.connection().execute(query.on_conflict_do_update(index_elements=["ticket_id"], set_=values))


def get_vault(session: Session, ticket_id: int, *, at: datetime | None = None) -> bytes | None:
    """Return the ciphertext, or None where there is none or it has expired."""
    query = select(VaultEntry.ciphertext).where(
        col(VaultEntry.ticket_id) == ticket_id, col(VaultEntry.expires_at) > (at or now())
    )
    return session.exec(query).one_or_none()


def purge_expired_vault(session: Session, *, at: datetime | None = None) -> int:
    """Delete what has expired and return how many entries that were."""
    result = session.connection().execute(delete(VaultEntry).where(col(VaultEntry.expires_at) <= (at or now())))
    session.expire_all()
    return result.rowcount
