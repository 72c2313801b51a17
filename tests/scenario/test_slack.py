"""Slack on the real bot: a signed request becomes a suggestion, a click becomes a feedback row; what is not signed becomes nothing."""

import json
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI
from sqlmodel import Session, select

from bot.app import App
from bot.plugin_api import SourceRef
from db.tables import FeedbackRow, Ticket
from db.types import FeedbackKind
from plugins.slack.app import SlackPlugin
from tests.plugins.slack.fake_slack import FakeSlack
from tests.plugins.slack.slack_helpers import CHANNEL, URL, Bench, build_signed, make_settings, show_text

TS = "1700000000.000100"
TEXT = "The laptop of Ann Miller (ann.miller@example.test) cannot connect to the office VPN since the update."


@pytest.fixture
async def slack() -> AsyncIterator[FakeSlack]:
    fake = FakeSlack()
    await fake.start()
    yield fake
    await fake.stop()
    assert fake.faults == []


async def run_plugin(app: App, slack: FakeSlack) -> AsyncIterator[Bench]:
    plugin = SlackPlugin(app.bot, make_settings(slack.url))
    web = FastAPI()
    web.include_router(plugin.router, prefix="/plugins/slack")
    await plugin.start()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=web), base_url="http://bot") as client:
        yield Bench(app.bot, slack, plugin, client)
    await plugin.stop()


@pytest.fixture
async def bench(app: App, slack: FakeSlack) -> AsyncIterator[Bench]:
    async for built in run_plugin(app, slack):
        yield built


@pytest.fixture
async def vault_bench(vault_app: App, slack: FakeSlack) -> AsyncIterator[Bench]:
    async for built in run_plugin(vault_app, slack):
        yield built


def read_rows(app: App, table: type) -> list:
    with Session(app.db_engine) as session:
        return list(session.exec(select(table)))


async def test_signed_message_is_suggested_for_clicked_and_recorded(app: App, bench: Bench):
    for _ in range(2):
        await bench.send_message(TEXT, ts=TS, event_id="Ev1")
    card = bench.get_card()
    await bench.click(card, "triage_override", user="U7", action_ts="1800000100.000100")
    menu = bench.slack.views[0]["blocks"][0]["element"]["options"]
    await bench.submit(bench.slack.views[0], {"label": menu[1]["value"], "why": "asked Ann Miller"}, user="U7")
    rows = read_rows(app, FeedbackRow)
    assert len(rows) == 1
    assert rows[0].kind in {FeedbackKind.OVERRIDE, FeedbackKind.ACCEPT}
    assert (rows[0].actor, rows[0].value) == ("slack:U7", menu[1]["value"])
    assert "Miller" not in (rows[0].reason or "")
    ticket = read_rows(app, Ticket)[0]
    assert (ticket.plugin, ticket.external_id) == ("slack", f"T1/{CHANNEL}/{TS}")
    assert "ann.miller" not in ticket.text
    assert "<@U7>" in show_text(bench.get_card()["blocks"])


async def test_undo_opens_the_ticket_again(app: App, bench: Bench):
    await bench.send_message(TEXT, ts=TS)
    await bench.click(bench.get_card(), "triage_accept")
    await bench.click(bench.get_card(), "triage_undo")
    detail = await app.bot.inbox.find_ticket(SourceRef("slack", f"T1/{CHANNEL}/{TS}"))
    assert detail.decision is None
    await bench.click(bench.get_card(), "triage_accept")
    rows = read_rows(app, FeedbackRow)
    assert [row.withdrawn_at is not None for row in rows] == [True, False]


async def test_summary_names_people_in_their_thread_though_they_are_stored_masked(vault_app: App, vault_bench: Bench):
    bench = vault_bench
    bench.slack.add_message(CHANNEL, TS, TEXT)
    bench.slack.add_message(CHANNEL, "1700000000.000200", "Did it work before the update?", user="U2", thread_ts=TS)
    await bench.send_command("/summarize", f"https://x.slack.com/archives/{CHANNEL}/p{TS.replace('.', '')}")
    assert "ann.miller@example.test" in show_text(bench.get_card()["blocks"])
    await bench.click(bench.get_card(), "summary_edit")
    await bench.submit(bench.slack.views[0], {"text": "Ann Miller has no VPN since the update."})
    assert "Ann Miller has no VPN" in show_text(bench.get_card()["blocks"])
    rows = read_rows(vault_app, FeedbackRow)
    assert [row.kind for row in rows] == [FeedbackKind.EDIT]
    assert "Miller" not in rows[0].value


async def test_wrong_signature_is_refused_and_nothing_happens(app: App, bench: Bench):
    event = {"type": "message", "channel": CHANNEL, "user": "U1", "text": TEXT, "ts": TS}
    raw = json.dumps({"type": "event_callback", "event_id": "Ev1", "event": event}).encode()
    answer = await bench.client.post(URL, content=raw, headers=build_signed(raw, secret="wrong"))
    await bench.settle()
    assert answer.status_code == 401
    assert read_rows(app, Ticket) == []
    assert bench.slack.get_own(CHANNEL) == []
