"""The privacy pages: corrections from a ticket to their review, what is held on somebody, and the data map."""

import json

import pytest
from starlette.requests import Request

from bot.plugin_api import CorrectionKind, CorrectionStatus
from plugins.console.forms import FormError
from plugins.console.guard import Guard
from plugins.console.privacy import parse_subject
from plugins.console.settings import ConsoleSettings
from tests.plugins.console.console_helpers import MOUNT


async def report(console, **changes):
    form = {"kind": "mask", "phrase": "Bo Ek", "entity": "PERSON", **changes}
    return await console.submit("/tickets/1", "/tickets/1/correction", changes=form)


async def test_a_correction_is_sent_from_the_tickets_page(console, bot):
    response = await report(console)
    assert response.headers["location"] == f"{MOUNT}/tickets/1?done=correction"
    (info,) = bot.privacy.corrections.values()
    assert (info.kind, info.entity, info.phrase, info.ticket_id, info.actor) == (
        CorrectionKind.MASK,
        "PERSON",
        "Bo Ek",
        1,
        "console",
    )


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"kind": "x"}, "Say whether it should"),
        ({"phrase": " "}, "text in question is empty"),
        ({"entity": "x"}, "is not a type"),
    ],
)
async def test_a_correction_that_says_nothing_is_one_sentence(console, bot, changes, sentence):
    form = {"kind": "mask", "phrase": "Bo Ek", "entity": "PERSON", **changes}
    response = await console.submit("/tickets/1", "/tickets/1/correction", status=400, changes=form)
    assert sentence in response.text
    assert bot.privacy.corrections == {}


@pytest.mark.parametrize(("answer", "status"), [("approve", CorrectionStatus.APPROVED), ("reject", CorrectionStatus.REJECTED)])
async def test_a_correction_is_reviewed_under_the_persons_name(console, bot, answer, status):
    await report(console)
    assert "Bo Ek" in await console.get("/privacy")
    response = await console.submit("/privacy", "/privacy/corrections/1", changes={"answer": answer, "reason": "seen"})
    assert response.headers["location"].startswith(f"{MOUNT}/privacy?done=correction-")
    assert bot.privacy.corrections[1].status is status
    assert bot.privacy.audit == [("console", answer, "1 seen")]
    assert "Nothing to review" in await console.get("/privacy")
    assert status.value.capitalize() in await console.get("/privacy?show=all")


async def test_an_approved_correction_can_be_taken_back_and_a_review_needs_an_answer(console, bot):
    await report(console)
    await console.submit("/privacy", "/privacy/corrections/1", status=400)
    await console.submit("/privacy", "/privacy/corrections/1", changes={"answer": "approve"})
    await console.submit("/privacy?show=all", "/privacy/corrections/1", changes={"answer": "reject"})
    assert bot.privacy.corrections[1].status is CorrectionStatus.REJECTED


async def test_what_is_held_is_shown_exported_and_erased_without_a_name_in_any_address(console, bot):
    name = bot.tickets[1].turns[0].text[:20]
    found = await console.submit("/privacy/people", "/privacy/people", status=200, changes={"person": name})
    assert "Ticket 1</a>" in found.text
    assert "Fakes have no vault." in found.text
    csrf = found.text.split('name="csrf" value="')[1].split('"')[0]
    form = {"csrf": csrf, "person": name}
    unsure = await console.client.post(f"{MOUNT}/privacy/people/export", data=form)
    assert (unsure.status_code, "Tick the box" in unsure.text) == (400, True)
    await console.submit("/privacy/people", "/actor", changes={"actor": "Kim"})
    export = await console.client.post(f"{MOUNT}/privacy/people/export", data={**form, "sure": "yes"})
    assert export.headers["content-disposition"] == 'attachment; filename="understudy-export.json"'
    assert export.headers["cache-control"] == "no-store"
    assert json.loads(export.text)["tickets"][0]["id"] == 1
    refused = await console.client.post(f"{MOUNT}/privacy/people/erase", data={**form, "reason": "asked for"})
    assert (refused.status_code, 1 in bot.tickets) == (400, True)
    done = await console.client.post(f"{MOUNT}/privacy/people/erase", data={**form, "reason": "asked for", "sure": "yes"})
    assert done.headers["location"] == f"{MOUNT}/privacy/people?done=erased"
    assert 1 not in bot.tickets
    assert [(actor, verb) for actor, verb, _ in bot.privacy.audit] == [("Kim", "export"), ("Kim", "erase")]


@pytest.mark.parametrize("action", ["export", "erase"])
async def test_nothing_is_exported_or_erased_by_nobody_in_particular(console, bot, action):
    changes = {"ticket": "1", "reason": "asked for", "sure": "yes"}
    found = await console.submit("/privacy/people", "/privacy/people", status=200, changes={"ticket": "1"})
    assert "Say who you are first" in found.text
    csrf = found.text.split('name="csrf" value="')[1].split('"')[0]
    refused = await console.client.post(f"{MOUNT}/privacy/people/{action}", data={"csrf": csrf, **changes})
    assert (refused.status_code, "Say who you are first" in refused.text) == (400, True)
    assert (1 in bot.tickets, bot.privacy.audit) == (True, [])


def test_a_name_in_the_settings_is_a_name_too(bot):
    for settings, wanted in ((ConsoleSettings(), False), (ConsoleSettings(actor="Kim"), True)):
        request = Request({"type": "http", "headers": []})
        assert Guard(settings).is_named(request) is wanted


async def test_a_post_without_the_forms_token_erases_nothing(console, bot):
    await console.get("/privacy/people")
    form = {"ticket": "1", "reason": "x", "sure": "yes"}
    response = await console.client.post(f"{MOUNT}/privacy/people/erase", data=form)
    assert (response.status_code, 1 in bot.tickets) == (403, True)


def test_a_subject_is_one_of_a_person_a_number_or_plugin_and_id():
    assert parse_subject({"person": " Ana "}).person == "Ana"
    assert parse_subject({"ticket": "#12"}).ticket_ids == (12,)
    assert parse_subject({"plugin": "desk", "external_id": "9"}).source.external_id == "9"
    for form in ({}, {"person": "a", "ticket": "1"}, {"plugin": "desk"}, {"ticket": "x"}):
        with pytest.raises(FormError):
            parse_subject(form)


async def test_the_data_map_shows_each_table_and_column(console):
    html = await console.get("/privacy/map")
    assert "Tickets as they came in, masked." in html
    assert '<th scope="row">text</th><td>masked</td>' in html
