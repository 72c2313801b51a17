"""Tickets and the vault."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import event

from db.errors import RowNotFoundError
from db.queries import tickets
from db.session import transaction
from db.types import TicketStatus
from tests.support.db_rows import add_ticket

AT = datetime(2024, 5, 1, tzinfo=UTC)


def test_same_source_again_updates_the_texts_and_keeps_id_status_and_blindness(db_engine):
    with transaction(db_engine) as session:
        first = add_ticket(session, external_id="7", text="old", is_blind=True, group_key="acme")
        first_id, made_at = first.id, first.created_at
        tickets.set_ticket_status(session, first_id, status=TicketStatus.DECIDED)
    with transaction(db_engine) as session:
        turns = [{"speaker": "customer", "text": "hello"}]
        again = add_ticket(session, external_id="7", subject="new", text="new", turns=turns, is_blind=False)
    assert (again.id, again.created_at, again.is_blind, again.status) == (first_id, made_at, True, TicketStatus.DECIDED)
    assert (again.subject, again.text, again.turns, again.group_key) == ("new", "new", turns, "acme")
    assert again.updated_at > made_at


def test_upsert_updates_the_row_the_session_already_holds(db_engine):
    with transaction(db_engine) as session:
        first = add_ticket(session, external_id="7", text="old")
        add_ticket(session, external_id="7", text="new")
        assert first.text == "new"


def test_same_external_id_of_another_plugin_is_another_ticket(db_engine):
    with transaction(db_engine) as session:
        first = add_ticket(session, plugin="slack", external_id="1")
        second = add_ticket(session, plugin="zendesk", external_id="1")
        assert first.id != second.id
        assert tickets.get_ticket_by_source(session, plugin="slack", external_id="1") is first
        assert tickets.get_ticket_by_source(session, plugin="slack", external_id="2") is None


def test_text_that_a_database_cannot_hold_is_cleaned(db_engine):
    with transaction(db_engine) as session:
        ticket = add_ticket(session, text="a\x00b\ud800c 🙂", turns=[{"speaker": "x\x00", "text": "y\udfff"}])
    with transaction(db_engine) as session:
        stored = tickets.get_ticket(session, ticket.id)
    assert (stored.text, stored.turns) == ("ab?c 🙂", [{"speaker": "x", "text": "y?"}])


def test_list_pages_newest_first_and_filters_by_status(db_engine):
    with transaction(db_engine) as session:
        ids = [add_ticket(session).id for _ in range(5)]
        tickets.set_ticket_status(session, ids[1], status=TicketStatus.HANDED_OFF)
        page = [ticket.id for ticket in tickets.list_tickets(session, limit=2)]
        rest = [ticket.id for ticket in tickets.list_tickets(session, limit=9, before_id=page[-1])]
        handed_off = [ticket.id for ticket in tickets.list_tickets(session, status=TicketStatus.HANDED_OFF)]
    assert (page, rest, handed_off) == ([ids[4], ids[3]], [ids[2], ids[1], ids[0]], [ids[1]])


@pytest.mark.parametrize("call", [tickets.get_ticket, lambda s, i: tickets.set_ticket_status(s, i, status=TicketStatus.OPEN)])
def test_unknown_ticket_raises(db_engine, call):
    with transaction(db_engine) as session, pytest.raises(RowNotFoundError, match="there is no ticket 99"):
        call(session, 99)


def test_vault_gives_back_what_was_put_last_until_it_expires(db_engine):
    with transaction(db_engine) as session:
        ticket = add_ticket(session)
        tickets.put_vault(session, ticket_id=ticket.id, ciphertext=b"one", expires_at=AT)
        tickets.put_vault(session, ticket_id=ticket.id, ciphertext=b"\x00two", expires_at=AT + timedelta(days=1))
        assert tickets.get_vault(session, ticket.id, at=AT) == b"\x00two"
        assert tickets.get_vault(session, ticket.id, at=AT + timedelta(days=1)) is None
        assert tickets.get_vault(session, ticket.id + 1, at=AT) is None


def test_purge_deletes_what_has_expired_and_nothing_else(db_engine):
    with transaction(db_engine) as session:
        old, new = add_ticket(session), add_ticket(session)
        tickets.put_vault(session, ticket_id=old.id, ciphertext=b"old", expires_at=AT)
        tickets.put_vault(session, ticket_id=new.id, ciphertext=b"new", expires_at=AT + timedelta(seconds=1))
        assert tickets.purge_expired_vault(session, at=AT) == 1
        assert tickets.get_vault(session, old.id, at=AT - timedelta(days=1)) is None
        assert tickets.get_vault(session, new.id, at=AT) == b"new"


@pytest.mark.parametrize("number", [2**31, 2**63, 10**30, -1, -(2**63) - 1])
def test_id_that_no_row_can_have_is_not_found_and_pages_end(db_engine, number):
    with transaction(db_engine) as session:
        ticket = add_ticket(session)
        with pytest.raises(RowNotFoundError, match=f"there is no ticket {number}"):
            tickets.get_ticket(session, number)
        everything = [ticket] if number > 0 else []
        assert tickets.list_tickets(session, before_id=number) == everything
        assert tickets.list_tickets(session, limit=number) == everything


def test_purge_is_one_statement(db_engine):
    statements = []
    with transaction(db_engine) as session:
        tickets.put_vault(session, ticket_id=add_ticket(session).id, ciphertext=b"old", expires_at=AT)
        event.listen(db_engine, "before_cursor_execute", lambda _c, _k, statement, *_: statements.append(statement))
        assert tickets.purge_expired_vault(session) == 1
    assert [statement.split()[0] for statement in statements] == ["DELETE"]
