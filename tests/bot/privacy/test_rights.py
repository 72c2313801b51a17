"""Finding, exporting and erasing what is held on somebody, with and without a vault key, on both databases."""

import hmac
import json
from pathlib import Path

import pytest
from sqlmodel import select

from bot.importing import get_salt
from bot.masking import PlaceholderMap
from bot.plugin_api import BotError, CorrectionKind, SourceRef, Subject
from bot.sealing import Sealer
from db.queries import tickets
from db.queries.audit import list_audit
from db.queries.events import NewEvent, add_event
from db.queries.values import get_values, put_value
from db.session import drop_leftovers, is_postgres, transaction
from db.tables import Audit, Example, FeedbackRow, Inference, PluginEvent, Row, Ticket, VaultEntry
from db.types import EventStatus

MARIA = Subject(person="Maria Gonzalez")


def fill(site):
    """Two tickets of Maria's, by name and by address, one of Tom's that mentions nobody else."""
    return (
        site.add_ticket("I am Maria Gonzalez and lost a badge.", external_id="T-1", summary="Maria Gonzalez lost a badge"),
        site.add_ticket("Mail maria@example.com, please.", external_id="T-2"),
        site.add_ticket("Tom Berg here.", external_id="T-3"),
    )


async def test_a_person_is_found_by_name_by_part_of_it_and_by_address_through_the_vault(site):
    first, second, _ = fill(site)
    for person, wanted in (("maria GONZALEZ", first), ("Gonzalez", first), ("maria@example.com", second)):
        found = await site.service.find(Subject(person=person))
        assert [(ticket.ticket_id, ticket.how) for ticket in found.tickets] == [(wanted, "vault")]
    assert found.notes == ()
    assert (await site.service.find(Subject(person="Nobody Here"))).tickets == ()


async def test_without_a_key_only_what_stands_unmasked_is_found_and_the_rest_is_named(keyless):
    fill(keyless)
    raw = keyless.add_ticket("GONZALEZ, Rosa wrote.", external_id="T-4")
    found = await keyless.service.find(Subject(person="gonzalez"))
    assert [(ticket.ticket_id, ticket.how) for ticket in found.tickets] == [(raw, "text")]
    assert found.notes == (
        "4 of 4 tickets have no placeholder map (there is no vault key): whom they name cannot be known; name such tickets by number or "
        "by plugin and id.",
    )


async def test_tickets_imported_for_a_customer_are_found_without_the_vault(keyless):
    def add(session):
        key = hmac.new(get_salt(session), b"maria@example.com", "sha256").hexdigest()[:24]
        return tickets.upsert_ticket(session, plugin="import", external_id="9", subject="", text="x", group_key=key).id

    ticket_id = keyless.write(add)
    found = await keyless.service.find(Subject(person="Maria@Example.com"))
    assert [(ticket.ticket_id, ticket.how) for ticket in found.tickets] == [(ticket_id, "customer")]


async def test_an_export_holds_every_row_unmasked_and_is_audited_without_the_name(site):
    first, _, _ = fill(site)
    export = json.loads(json.dumps(await site.service.export(MARIA, actor="ana")))
    assert export["is_unmasked"]
    (ticket,) = export["tickets"]
    assert ticket["ticket"]["text"] == "I am Maria Gonzalez and lost a badge."
    assert ticket["vault"]["values"] == [{"placeholder": "<PERSON_1>", "value": "Maria Gonzalez"}]
    assert [len(ticket[name]) for name in ("inferences", "feedback", "examples")] == [2, 2, 2]
    assert ticket["inferences"][1]["output"]["text"] == "Maria Gonzalez lost a badge"
    (audited,) = site.read(lambda s: list_audit(s, action="person.export"))
    assert audited.detail["tickets"] == [first]
    assert "Gonzalez" not in audited.model_dump_json()


async def test_an_export_without_the_key_says_that_it_is_masked(keyless):
    ticket_id, _, _ = fill(keyless)
    export = await keyless.service.export(Subject(ticket_ids=(ticket_id,)), actor="ana")
    assert not export["is_unmasked"]
    assert export["tickets"][0]["ticket"]["text"] == "I am <PERSON_1> and lost a badge."


async def test_an_erasure_leaves_nothing_of_the_person_in_any_table_and_others_alone(site):
    first, second, third = fill(site)
    site.write(
        lambda s: s.add(Audit(actor="x", action="y", subject_type="z", subject_id="1", detail={"reason": "Maria Gonzalez asked"}))
    )
    report = await site.service.erase(MARIA, actor="ana", reason="Maria Gonzalez asked for it")
    assert report.n_tickets == 1
    assert site.read(lambda s: set(s.exec(select(Ticket.id)))) == {second, third}
    assert (await site.service.find(MARIA)).tickets == ()
    dump = site.read(lambda s: str([s.connection().execute(table.select()).all() for table in Row.metadata.tables.values()]))
    assert "Gonzalez" not in dump
    (audited,) = site.read(lambda s: list_audit(s, action="person.erase"))
    assert (audited.actor, audited.detail["reason"]) == ("ana", "<PERSON_1> asked for it")
    assert [row.subject_id for row in site.read(lambda s: list_audit(s, action="ticket.erase"))] == [str(first)]
    for kind in (VaultEntry, Inference, FeedbackRow, Example):
        assert first not in site.read(lambda s, kind=kind: set(s.exec(select(kind.ticket_id))))


async def test_an_erasure_a_second_time_finds_nothing_left(site):
    fill(site)
    await site.service.erase(MARIA, actor="ana", reason="")
    report = await site.service.erase(MARIA, actor="ana", reason="")
    assert (report.n_tickets, report.rows) == (0, {})


async def test_a_name_that_stands_unmasked_in_a_ticket_is_erased_with_it(site):
    leaky = site.add_ticket("Bo Ek wrote.", external_id="T-9")
    assert (await site.service.erase(Subject(person="Bo Ek"), actor="ana", reason="")).n_tickets == 1
    assert site.read(lambda s: s.get(Ticket, leaky)) is None


async def test_no_byte_of_an_erased_text_is_left_in_the_files_of_sqlite(site):
    if is_postgres(site.db_engine):
        pytest.skip("PostgreSQL keeps its files to itself")
    site.add_ticket("Bo Ek wrote.", external_id="T-9")
    site.add_ticket("Another wrote.", external_id="T-8")
    path = Path(site.db_engine.url.database)
    assert b"Bo Ek" in read_files(path)
    await site.service.erase(Subject(person="Bo Ek"), actor="ana", reason="")
    left = read_files(path)
    assert b"Bo Ek" not in left
    assert b"Another wrote" in left


def read_files(path):
    return b"".join(file.read_bytes() for file in path.parent.glob(f"{path.name}*"))


def test_a_reader_in_the_way_leaves_the_log_to_the_next_time(site):
    if is_postgres(site.db_engine):
        pytest.skip("PostgreSQL has no such log")
    with transaction(site.db_engine, is_read_only=True) as session:
        session.exec(select(Ticket)).all()
        site.add_ticket("x", external_id="T-8")
        assert not drop_leftovers(site.db_engine)
    assert drop_leftovers(site.db_engine)


async def test_a_ticket_is_erased_by_where_it_lives_and_memory_forgets_it(site):
    first, _, _ = fill(site)
    await site.service.erase(Subject(source=SourceRef("desk", "T-1")), actor="ana", reason="")
    assert site.read(lambda s: s.get(Ticket, first)) is None
    assert first in site.service.similar._removed


async def test_what_plugins_keep_on_a_ticket_is_found_exported_and_erased(site, keys):
    first, _, _ = fill(site)
    sealer = Sealer(keys)

    def keep(session):
        seal = sealer.seal
        add_event(session, NewEvent("e1", "message", seal({"ticket": "T-1", "text": "Maria Gonzalez again"})), plugin="desk")
        add_event(session, NewEvent("e2", "message", seal({"ticket": "T-3"})), plugin="desk")
        put_value(session, plugin="desk", key="card:T-1", ciphertext=seal({"ts": "1.2"}))
        put_value(session, plugin="desk", key="card:T-3", ciphertext=seal({"ts": "1.3"}))

    site.write(keep)
    subject = Subject(ticket_ids=(first,))
    assert (await site.service.find(subject)).n_plugin_rows == 2
    export = await site.service.export(subject, actor="ana")
    assert export["plugin_events"][0]["payload"]["text"] == "Maria Gonzalez again"
    assert export["plugin_values"][0]["value"] == {"ts": "1.2"}
    await site.service.erase(subject, actor="ana", reason="")
    events = site.read(lambda s: s.exec(select(PluginEvent).order_by(PluginEvent.id)).all())
    assert [(e.status, bool(e.ciphertext)) for e in events] == [(EventStatus.DONE, False), (EventStatus.WAITING, True)]
    assert list(site.read(lambda s: get_values(s, plugin="desk"))) == ["card:T-3"]


@pytest.mark.parametrize("key", ["ticket/T-1", "pushed/T-1", "T-1", "summary:desk/T-1", "a/T-1/b"])
async def test_a_value_that_a_plugin_keeps_under_the_tickets_id_is_erased_with_it(site, keys, key):
    first, _, _ = fill(site)
    for name in (key, "ticket/T-11", "digest/2026-T-1"):
        site.write(
            lambda s, n=name: put_value(s, plugin="desk.pushed", key=n, ciphertext=Sealer(keys).seal({"text": "raw words"}))
        )
    await site.service.erase(Subject(ticket_ids=(first,)), actor="ana", reason="")
    assert sorted(site.read(lambda s: get_values(s, plugin="desk.pushed"))) == ["digest/2026-T-1", "ticket/T-11"]


async def test_what_plugins_keep_on_a_ticket_goes_too_where_only_its_text_gives_the_person_away(site, keys):
    site.add_ticket("Bo Ek wrote.", external_id="T-9")
    site.write(lambda s: put_value(s, plugin="desk", key="ticket/T-9", ciphertext=Sealer(keys).seal({"label": "vpn"})))
    await site.service.erase(Subject(person="Bo Ek"), actor="ana", reason="")
    assert not site.read(lambda s: get_values(s, plugin="desk"))


async def test_a_number_is_found_however_it_is_grouped(site):
    mapping = PlaceholderMap()
    mapping.placeholder("PHONE_NUMBER", "+44 20 7946-0958")
    ticket_id = site.add_ticket("x", external_id="T-5")
    site.write(lambda s: setattr(s.get(VaultEntry, ticket_id), "ciphertext", site.vault.encrypt(mapping)))
    for person in ("+442079460958", "44 (20) 7946 0958"):
        assert [ticket.ticket_id for ticket in (await site.service.find(Subject(person=person))).tickets] == [ticket_id]
    assert (await site.service.find(Subject(person="+442079460959"))).tickets == ()


async def test_rows_of_plugins_that_no_key_opens_are_counted_aloud(keyless):
    fill(keyless)
    sealed = Sealer([keyless_key()]).seal({"a": "b"})
    keyless.write(lambda s: put_value(s, plugin="desk", key="k", ciphertext=sealed))
    found = await keyless.service.find(MARIA)
    assert any("1 rows that plugins keep could not be opened" in note for note in found.notes)


def keyless_key():
    from bot.masking import Vault

    return Vault.new_key()


@pytest.mark.parametrize("subject", [Subject(), Subject(person=" "), Subject(person="x", ticket_ids=(1,)), Subject(person="ab")])
async def test_a_subject_that_names_nobody_is_refused(site, subject):
    with pytest.raises(BotError, match=r"whose data|at least three"):
        await site.service.find(subject)


async def test_a_subject_and_a_correction_show_nothing_of_the_person_when_printed():
    assert "Gonzalez" not in repr(MARIA)
    assert CorrectionKind.MASK.value == "mask"


async def test_the_data_map_names_every_table_with_its_rows_and_retention(site):
    fill(site)
    tables = {table.name: table for table in await site.service.get_map()}
    assert set(tables) == set(Row.metadata.tables)
    assert (tables["ticket"].n_rows, tables["vault_entry"].retention) == (
        3,
        "30 days after the ticket's last change (vault_days)",
    )
    assert tables["plugin_event"].retention == "7 days (retention.event_days)"
