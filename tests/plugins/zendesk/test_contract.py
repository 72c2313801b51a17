"""What the plugin sends fits Zendesk's document, and it reads what Zendesk was recorded to answer."""

import json
import re

import httpx
import pytest

from bot.plugin_api import RetryLaterError
from bot.testing import FakeClock
from plugins.helpdesk.client import GoneError, HelpdeskError
from plugins.helpdesk.policy import build_slug
from plugins.helpdesk.values import Author, TicketState, Update
from plugins.zendesk.client import ZendeskClient, build_api
from plugins.zendesk.reading import read_audit, read_macro, read_ticket
from plugins.zendesk.settings import ZendeskSettings
from plugins.zendesk.setup import SetUp
from plugins.zendesk.webhook import read_notice, sign
from tests.plugins.helpdesk.conformance import Harness, HelpdeskConformance, desk
from tests.plugins.zendesk.vendor_contract import Contract, load_recorded, need
from tests.plugins.zendesk.zendesk_double import ZendeskDouble

__all__ = ["desk"]
SETTINGS = ZendeskSettings(subdomain="peer", email="bot@example.com", api_token="t")


@pytest.fixture
def contract():
    need("openapi", "normalise.py")
    return Contract()


@pytest.fixture
def double(contract):
    double = ZendeskDouble(check=contract.check)
    yield double
    assert contract.checked, "nothing was sent"


class TestEveryRequestOfTheSuiteFitsTheDocument(HelpdeskConformance):
    test_webhook_that_is_not_genuine_is_refused_and_nothing_is_asked = None  # it sends nothing that could be checked


async def test_all_kinds_of_values_are_written_as_the_document_wants_them(double):
    double.fields.append({"id": 77, "type": "text", "title": "Confidence"})
    ticket_id = double.open_ticket("VPN", "It is down")
    double.tickets[ticket_id]["custom_fields"].append({"id": 77, "value": None})
    client = build_client(double.transport())
    ticket = await client.fetch_ticket(ticket_id)
    fields = {"360001": "understudy_vpn", "77": "0.91", "priority": "high", "group_id": "15"}
    await client.write(Update(ticket_id, "m", fields, ("t",), "A note", ticket.updated_at), ticket)
    body = double.requests[-1][2]["ticket"]
    assert (body["priority"], body["group_id"], body["comment"]) == ("high", 15, {"body": "A note", "public": False})
    assert set(body["tags"]) == {"understudy_vpn", "t"}
    await client.close()


async def test_set_up_sends_what_the_document_allows_and_then_finds_nothing_to_do(contract):
    double = ZendeskDouble(check=contract.check)
    double.fields.clear()
    api = build_api(SETTINGS, double.clock, double.transport())
    work = SetUp(api, public_url="https://bot.example.com/", labels=["VPN access", "Printer"])
    account = await work.plan()
    assert [step.sentence.split()[0] for step in account.steps] == ["create"] * 4
    assert {method for method, _, _ in double.requests} == {"GET"}, "a plan changes nothing"
    for step in account.steps:
        await step.run()
    assert await work.fetch_secret(account)
    assert (await work.plan()).steps == []
    more = SetUp(api, public_url="https://other.example.com", labels=["VPN access", "Printer", "Screen"])
    account = await more.plan()
    assert len(account.steps) == 2
    for step in account.steps:
        await step.run()
    assert [option["value"] for option in double.fields[0]["custom_field_options"]] == [
        f"understudy_{build_slug(name)}" for name in ("VPN access", "Printer", "Screen")
    ]
    assert (await more.plan()).steps == []
    await api.close()


def build_client(transport):
    clock = FakeClock()
    return ZendeskClient(build_api(SETTINGS, clock, transport), SETTINGS, clock)


def serve_recorded(request):
    """Answer from the recordings: the same method and path, whatever the page."""
    for item in load_recorded():
        if item["method"] == request.method and re.sub(r"\?.*", "", item["path"]) == request.url.path:
            headers = {k: v for k, v in item["response_headers"].items() if k != "content-type"}
            return httpx.Response(item["status"], json=item["response_body"], headers=headers)
    return httpx.Response(404, json={"error": "RecordNotFound"})


@pytest.fixture
async def recorded():
    need("recorded_api.json.gz")
    client = build_client(httpx.MockTransport(serve_recorded))
    yield client
    await client.close()


async def test_recorded_ticket_is_read_with_its_description(recorded):
    ticket = await recorded.fetch_ticket("4017")
    assert (ticket.state, ticket.subject, [turn.text for turn in ticket.turns]) == (TicketState.OPEN, "test", ["test"])
    assert ticket.updated_at is not None
    assert (ticket.fields["priority"], ticket.fields["group_id"]) == ("", "")


async def test_recorded_export_goes_on_at_its_cursor(recorded):
    page = await recorded.list_changed("")
    assert (len(page.tickets), page.is_last) == (1, False)
    assert page.cursor.endswith("=")
    assert page.tickets[0].ticket_id.isdecimal()


async def test_recorded_refusals_say_that_nothing_is_there(recorded):
    with pytest.raises(GoneError):
        await recorded.write(Update("9223372036854775807", "m", {"priority": "high"}), await recorded.fetch_ticket("4017"))
    assert await recorded.fetch_history("1") == []


def find_all(node, key):
    """Every object that stands under `key`, alone or in a list, anywhere in a recorded answer."""
    if isinstance(node, dict):
        for name, value in node.items():
            if name == key:
                yield from value if isinstance(value, list) else [value]
            yield from find_all(value, key)
    elif isinstance(node, list):
        for item in node:
            yield from find_all(item, key)


@pytest.fixture
def answers():
    return [item["response_body"] for item in load_recorded()]


def test_every_recorded_ticket_is_read(answers):
    tickets = [ticket for key in ("ticket", "tickets") for ticket in find_all(answers, key) if isinstance(ticket, dict)]
    read = [read_ticket(ticket, [], ticket_id=str(ticket["id"])) for ticket in tickets if "subject" in ticket]
    assert len(read) > 20
    assert {ticket.state for ticket in read} <= set(TicketState)
    assert all(ticket.updated_at and ticket.customer for ticket in read)


def test_every_recorded_audit_is_read_with_its_author(answers):
    audits = [audit for key in ("audit", "audits") for audit in find_all(answers, key) if "events" in audit]
    changes = [change for audit in audits for change in read_audit(audit, own_id="1", requester="2", api_is_person=True)]
    assert len(changes) == len(audits) > 5
    assert {change.author for change in changes} == {Author.PERSON}
    assert any(change.state is TicketState.OPEN for change in changes)
    assert any(change.fields.get("priority") == "normal" for change in changes)


def test_every_recorded_comment_and_macro_is_read(answers):
    comments = list(find_all(answers, "comments"))
    [turn] = read_ticket({"id": 1, "requester_id": 2}, comments, ticket_id="1").turns
    assert (turn.speaker, turn.text) == ("agent", "Some comment")
    macros = [read_macro(macro) for macro in find_all(answers, "macros")]
    assert {macro.title for macro in macros} >= {"TestMacro"}


def test_published_signature_vectors_are_met():
    vectors = json.loads(need("webhooks", "signature_vectors.json").read_text())
    assert vectors["cases"]
    for case in vectors["cases"]:
        assert sign(case["secret"], case["timestamp"], case["body"].encode()) == case["signature"]


def test_published_webhook_bodies_name_their_ticket():
    cases = json.loads(need("webhooks", "events.json").read_text())["cases"]
    found = [read_notice(case["payload"], json.dumps(case["payload"]).encode(), {}) for case in cases]
    assert [notice[0] for notice in found] == ["5158", "5158", "12345"]
    assert len({notice[1] for notice in found}) == 3


async def test_published_errors_are_read_as_pause_and_refusal():
    cases = {case["status"]: case["body"] for case in json.loads(need("errors.json").read_text())["cases"]}
    expected = {429: RetryLaterError, 422: HelpdeskError}
    assert set(cases) == set(expected)
    for status, body in cases.items():
        client = build_client(httpx.MockTransport(lambda _, status=status, body=body: httpx.Response(status, json=body)))
        with pytest.raises(expected[status]) as caught:
            await client.fetch_ticket("1")
        assert "closed prevents" not in str(caught.value)
        await client.close()


async def test_against_a_mock_made_from_the_document_a_webhook_ends_in_a_note(contract):
    sent = []

    def answer(request):
        body = json.loads(request.content) if request.content else None
        contract.check(request, body)
        sent.append((request.method, request.url.path, body))
        status, example = contract.answer(request)
        return httpx.Response(status, json=example)

    double = ZendeskDouble()
    double.transport = lambda: httpx.MockTransport(answer)
    harness = Harness(double)
    await harness.plugin.start()
    cases = json.loads(need("webhooks", "events.json").read_text())["cases"]
    for case in cases:
        assert await harness.post(*double.sign(json.dumps(case["payload"]).encode())) == 200
    await harness.settle()
    written = {path: body["ticket"] for method, path, body in sent if method == "PUT"}
    assert set(written) == {"/api/v2/tickets/5158.json", "/api/v2/tickets/12345.json"}
    assert all(body["comment"]["public"] is False for body in written.values())
    assert await harness.plugin.poller.look() > 0
    await harness.plugin.stop()
    await harness.http.aclose()
