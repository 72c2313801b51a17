"""What is Zendesk's alone: its webhooks, drop-down tags, merges, side conversations, scopes and credentials."""

import asyncio
import json

import httpx
import pytest
from typer.testing import CliRunner

from bot.plugin_api import BotError, FeedbackKind
from bot.testing import FakeBot
from plugins.zendesk.app import encode_option
from plugins.zendesk.cli import build_commands
from plugins.zendesk.settings import ZendeskSettings
from tests.plugins.helpdesk.conformance import Harness, desk
from tests.plugins.zendesk.zendesk_double import AGENT_ID, LABEL_FIELD, OWN_ID, SECRET, ZendeskDouble

__all__ = ["desk"]


@pytest.fixture
def double():
    return ZendeskDouble()


async def start(double, **settings):
    harness = Harness(double, **settings)
    await harness.plugin.desk.start()
    return harness


async def stop(harness):
    await harness.plugin.stop()
    await harness.http.aclose()


def build_trigger_body(ticket_id, **more):
    return json.dumps({"type": "understudy.ticket_changed", "ticket_id": ticket_id} | more).encode()


async def test_trigger_webhook_is_taken_like_an_event(desk):
    ticket_id = desk.double.open_ticket("VPN down", "The VPN does not connect.")
    assert await desk.post(*desk.double.sign(build_trigger_body(ticket_id))) == 200
    await desk.settle()
    assert desk.double.get_label(ticket_id) == desk.get_suggested(ticket_id)


async def test_two_changes_in_one_minute_are_two_though_their_bodies_are_alike(desk):
    ticket_id = await desk.suggest()
    body = build_trigger_body(ticket_id, updated_at="2026-03-02T09:02+0000")
    for number in range(2):
        signed, headers = desk.double.sign(body)
        await desk.post(signed, headers | {"X-Zendesk-Webhook-Invocation-Id": f"invocation-{number}"})
    assert len([event for event in desk.plugin.desk.queue.events if event.key.startswith("trigger:")]) == 2


async def test_repeated_delivery_of_a_trigger_counts_once(desk):
    ticket_id = desk.double.open_ticket("VPN down", "The VPN does not connect.")
    body, headers = desk.double.sign(build_trigger_body(ticket_id, updated_at="2026-03-02T09:02+0000"))
    for _ in range(2):
        await desk.post(body, headers | {"X-Zendesk-Webhook-Invocation-Id": "invocation-1"})
    assert len(desk.plugin.desk.queue.events) == 1


@pytest.mark.parametrize(
    "message",
    [
        {"type": "zen:event-type:ticket.followers_changed", "id": "1", "detail": {"id": "5000"}},
        {"type": "zen:event-type:user.created", "id": "2", "detail": {"id": "5000"}},
        {"type": "something else"},
        {"ticket_id": "../users/1"},
        {"ticket_id": None},
        {"type": "zen:event-type:ticket.created", "id": "3", "detail": None, "subject": "zen:ticket:abc"},
        [1, 2],
    ],
)
async def test_what_says_nothing_about_a_ticket_is_acknowledged_and_left(desk, message):
    assert await desk.post(*desk.double.sign(json.dumps(message).encode())) == 200
    assert desk.plugin.desk.queue.events == ()


async def test_body_that_is_not_json_or_too_large_is_refused(desk):
    assert await desk.post(*desk.double.sign(b"{")) == 400
    assert await desk.post(*desk.double.sign(b" " * 1_000_001)) == 413


async def test_busy_database_asks_zendesk_to_send_again(desk, monkeypatch):
    async def refuse(*args, **kwargs):
        raise BotError("busy")

    monkeypatch.setattr(desk.plugin.desk.queue, "put", refuse)
    ticket_id = desk.double.open_ticket("VPN down", "The VPN does not connect.")
    body, headers = desk.double.build_webhook(ticket_id)
    answer = await desk.http.post("/plugins/zendesk/webhook", content=body, headers=headers)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")


async def test_without_a_signing_secret_every_webhook_is_refused(double):
    harness = await start(double, webhook_secret=None)
    ticket_id = double.open_ticket("VPN down", "The VPN does not connect.")
    assert await harness.post(*double.build_webhook(ticket_id)) == 401
    await stop(harness)


async def test_webhook_of_our_own_change_is_left_but_not_of_our_own_ticket(desk):
    ticket_id = await desk.suggest()
    desk.double.solve(ticket_id)
    await desk.tell(ticket_id)  # from now on our own number is known
    before = len(desk.plugin.desk.queue.events)
    for kind in ("ticket.tags_changed", "ticket.created"):
        message = {"type": f"zen:event-type:{kind}", "id": kind, "detail": {"id": ticket_id, "actor_id": str(OWN_ID)}}
        await desk.post(*desk.double.sign(json.dumps(message).encode()))
    assert [event.key for event in desk.plugin.desk.queue.events[before:]] == ["event:ticket.created"]


async def test_drop_down_keeps_its_tag_and_the_others_stay(desk):
    ticket_id = desk.double.open_ticket("VPN down", "The VPN does not connect.", tags=["vip"])
    await desk.tell(ticket_id)
    tags = desk.double.tickets[ticket_id]["tags"]
    assert set(tags) == {"vip", "understudy_suggested", encode_option(desk.get_suggested(ticket_id))}


async def test_ticket_changed_while_it_is_written_is_looked_at_again(desk):
    ticket_id = desk.double.open_ticket("VPN down", "The VPN does not connect.")
    other = desk.bot.label_set.names[-1]
    show, shown = desk.double._show_ticket, []

    def show_then_change(*args):
        response = show(*args)
        shown.append(response.json()["ticket"]["updated_at"])
        if len(shown) == 2:  # the outbox has looked; now a person is quicker
            desk.double.clock.advance(1)
            desk.double.choose(ticket_id, other)
        return response

    desk.double.routes["show"] = show_then_change
    await desk.tell(ticket_id)
    await desk.wait(30, step_s=5)
    assert desk.double.get_label(ticket_id) == other
    assert len(desk.double.get_notes(ticket_id)) == 1


@pytest.mark.parametrize(
    "ticket",
    [
        {"tags": ["closed_by_merge"], "status": "closed"},
        {"via": {"channel": "side_conversation"}},
        {"tags": ["created_for_side_conversation"]},
        {"status": "solved"},
        {"status": "closed"},
    ],
)
async def test_merged_side_and_ended_tickets_get_no_suggestion(desk, ticket):
    ticket_id = desk.double.open_ticket("VPN down", "The VPN does not connect.", **ticket)
    await desk.tell(ticket_id)
    assert (desk.bot.calls, desk.double.get_notes(ticket_id)) == ([], [])


async def test_merging_a_ticket_is_no_feedback(desk):
    ticket_id = await desk.suggest()
    desk.double.tickets[ticket_id]["tags"].append("closed_by_merge")
    desk.double.solve(ticket_id)
    await desk.tell(ticket_id)
    assert desk.get_feedback() == []


async def test_private_comments_never_reach_the_bot(desk):
    ticket_id = desk.double.open_ticket("VPN down", "The VPN does not connect.")
    desk.double._add_comment(ticket_id, "internal gossip", AGENT_ID, is_public=False)
    await desk.tell(ticket_id)
    [ticket] = desk.bot.tickets.values()
    assert [turn.text for turn in ticket.turns] == ["The VPN does not connect."]


async def test_brand_and_form_narrow_the_labels(double):
    first, second, third = FakeBot().label_set.names[:3]
    harness = await start(double, brand_labels={"11": [first, second]}, form_labels={"22": [second, third]})
    ticket_id = await harness.suggest()
    assert harness.get_suggested(ticket_id) == second
    await stop(harness)


async def test_suggest_only_writes_a_note_and_no_field(double):
    harness = await start(double, mode="suggest_only")
    ticket_id = await harness.suggest()
    assert (double.get_label(ticket_id), len(double.get_notes(ticket_id))) == ("", 1)
    double.choose(ticket_id, harness.get_suggested(ticket_id))
    await harness.tell(ticket_id)
    assert harness.get_feedback() == [(FeedbackKind.ACCEPT, None)]
    await stop(harness)


@pytest.mark.parametrize(("confidence", "is_written"), [(0.95, True), (0.85, False)])
async def test_auto_writes_label_queue_and_priority_from_the_threshold_on(double, confidence, is_written):
    label = next(label for label in FakeBot().label_set.labels if label.queue and label.priority)
    harness = await start(
        double,
        mode="auto",
        auto_threshold=0.5,
        label_thresholds={label.name: 0.9},
        queue_field="group_id",
        queue_values={label.queue: "15"},
        priority_field="priority",
    )
    harness.bot.answer = (label.name, confidence)
    ticket_id = await harness.suggest()
    ticket = double.tickets[ticket_id]
    expected = (label.name, 15, label.priority) if is_written else ("", None, None)
    assert (double.get_label(ticket_id), ticket["group_id"], ticket["priority"]) == expected
    assert len(double.get_notes(ticket_id)) == 1
    await stop(harness)


async def test_a_customers_new_words_that_change_the_label_replace_our_value_and_nobody_elses(desk):
    names = desk.bot.label_set.names
    desk.bot.answer = (names[0], 0.9)
    ticket_id = await desk.suggest()
    desk.bot.answer = (names[1], 0.9)
    desk.double.say(ticket_id, "In truth it is something else.")
    await desk.tell(ticket_id, event="said")
    assert (desk.double.get_label(ticket_id), len(desk.double.get_notes(ticket_id))) == (names[1], 2)
    desk.double.clock.advance(60)
    desk.double.solve(ticket_id)
    await desk.tell(ticket_id, event="solved")
    assert desk.get_feedback() == [(FeedbackKind.ACCEPT, None)]


async def test_changes_through_the_api_are_a_persons_where_the_settings_say_so(double):
    harness = await start(double, api_is_person=True)
    ticket_id = await harness.suggest()
    other = harness.get_other(ticket_id)
    double._add_audit(ticket_id, [double._set_field(ticket_id, LABEL_FIELD, encode_option(other))], "person")
    double.audits[ticket_id][-1]["via"]["channel"] = "api"
    await harness.tell(ticket_id)
    assert harness.get_feedback() == [(FeedbackKind.OVERRIDE, other)]
    await stop(harness)


async def test_our_own_write_with_a_persons_token_is_no_feedback(desk):
    desk.double.own_id = AGENT_ID
    ticket_id = await desk.suggest()
    await desk.tell(ticket_id, event="echo")
    assert desk.get_feedback() == []


async def test_paused_bot_writes_nothing_and_suggests_when_asked_again(desk):
    desk.bot.is_paused = True
    ticket_id = desk.double.open_ticket("VPN down", "The VPN does not connect.")
    await desk.tell(ticket_id, event="first")
    assert desk.double.get_notes(ticket_id) == []
    desk.bot.is_paused = False
    await desk.tell(ticket_id, event="second")
    assert len(desk.double.get_notes(ticket_id)) == 1


async def test_oauth_token_goes_before_the_api_token(double):
    seen = []
    harness = Harness(double, oauth_token="an-oauth-token")
    harness.plugin.desk.client._api._http._transport = httpx.MockTransport(
        lambda request: (seen.append(request.headers["authorization"]), httpx.Response(404))[1]
    )
    await harness.plugin.desk.client.find_label_field()
    assert seen == ["Bearer an-oauth-token"]
    await harness.plugin.desk.client.close()
    await harness.http.aclose()


def test_account_is_read_from_the_usual_names_and_secrets_stay_hidden(monkeypatch):
    for name, value in {
        "BASE_URL": "http://127.0.0.1:9/", "EMAIL": "a@b.c", "API_TOKEN": "s3cret", "WEBHOOK_SECRET": "s3cret",
    }.items():  # fmt: skip
        monkeypatch.setenv(f"ZENDESK_{name}", value)
    settings = ZendeskSettings()
    assert settings.get_base_url() == "http://127.0.0.1:9"
    assert "s3cret" not in repr(settings)
    monkeypatch.setenv("UNDERSTUDY_ZENDESK_BASE_URL", "http://127.0.0.1:8")
    assert ZendeskSettings().get_base_url() == "http://127.0.0.1:8"


@pytest.mark.parametrize("missing", ["API_TOKEN", "EMAIL", "SUBDOMAIN"])
def test_missing_credentials_are_named(monkeypatch, missing):
    for name in {"API_TOKEN", "EMAIL", "SUBDOMAIN"} - {missing}:
        monkeypatch.setenv(f"ZENDESK_{name}", "x")
    with pytest.raises(ValueError, match=f"ZENDESK_{missing}"):
        ZendeskSettings()


def test_set_up_shows_first_asks_and_does_nothing_the_second_time(double, monkeypatch, tmp_path):
    for name in ("API_TOKEN", "EMAIL", "SUBDOMAIN"):
        monkeypatch.setenv(f"ZENDESK_{name}", "x")
    labels = tmp_path / "labels.yaml"
    labels.write_text("name: team\nlabels:\n  - name: VPN\n  - name: Printer\n")
    double.fields.clear()
    app, runner = build_commands(transport=double.transport()), CliRunner()
    arguments = ["setup", "--url", "https://bot.example.com", "--labels", str(labels)]
    dry = runner.invoke(app, [*arguments, "--dry-run"])
    assert "4. create the trigger" in dry.output
    refused = runner.invoke(app, arguments, input="n\n")
    assert "Nothing was done." in refused.output
    assert {method for method, _, _ in double.requests} == {"GET"}
    done = runner.invoke(app, [*arguments, "--yes", "--show-secret"])
    assert (done.exit_code, f"ZENDESK_WEBHOOK_SECRET={SECRET}" in done.output) == (0, True)
    assert [hook["endpoint"] for hook in double.webhooks] == ["https://bot.example.com/plugins/zendesk/webhook"]
    again = runner.invoke(app, arguments)
    assert (again.exit_code, "nothing to do" in again.output) == (0, True)


def test_set_up_without_credentials_or_labels_ends_with_one_sentence(monkeypatch, tmp_path):
    result = CliRunner().invoke(build_commands(), ["setup", "--url", "https://b.example", "--labels", str(tmp_path / "no.yaml")])
    assert (result.exit_code, "is not a label set file" in result.output) == (1, True)


async def test_past_ticket_that_cannot_be_read_does_not_hold_up_the_others(double):
    past = Harness(double, backfill_days=30)
    tickets = [double.open_ticket(f"Old {name}", "An old ticket.") for name in "ab"]
    for ticket_id in tickets:
        double.choose(ticket_id, double.labels[0])
        double.solve(ticket_id)
    double.clock.advance(3600)
    show = double.routes["show"]
    double.routes["show"] = lambda *rest: httpx.Response(403) if rest[-1] == tickets[0] else show(*rest)
    assert await past.plugin.backfill.step()
    assert [key[1] for key in past.bot.manager.past] == [tickets[1]]
    await past.plugin.desk.client.close()
    await past.http.aclose()


async def test_history_is_learned_from_beside_the_webhooks_after_the_start(double):
    ticket_id = double.open_ticket("Old", "An old ticket.")
    double.choose(ticket_id, double.labels[0])
    double.solve(ticket_id)
    double.clock.advance(3600)
    harness = Harness(double, backfill_days=30)
    await harness.plugin.start()
    for _ in range(200):
        await asyncio.sleep(0)
        if harness.bot.manager.past:
            break
    assert [key[1] for key in harness.bot.manager.past] == [ticket_id]
    await stop(harness)


async def test_ticket_without_a_history_keeps_its_suggestion(desk):
    ticket_id = await desk.suggest()
    desk.double.routes["audits"] = lambda *_: httpx.Response(404)
    desk.double.say(ticket_id, "It still does not connect.")
    await desk.tell(ticket_id, event="said")
    assert len(desk.double.get_notes(ticket_id)) == 1
