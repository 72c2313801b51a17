"""Socket Mode against a WebSocket server on this machine."""

import asyncio
import itertools
import json

import pytest
from pydantic import SecretStr

from tests.plugins.slack import contracts
from tests.plugins.slack.fake_slack import TEAM
from tests.plugins.slack.slack_helpers import CHANNEL, run_bench

_numbers = itertools.count(1)


async def wait_for(check, *, limit_s=10.0):
    async with asyncio.timeout(limit_s):
        while not check():  # noqa: ASYNC110  the condition changes in a foreign library
            await asyncio.sleep(0.01)


@pytest.fixture
async def bench(slack):
    async with run_bench(slack, signing_secret=None, app_token=SecretStr("xapp-1")) as built:
        await wait_for(lambda: slack.sockets and built.plugin.find_trouble() is None)
        yield built


def build_envelope(payload, kind="events_api"):
    return {"envelope_id": f"e{next(_numbers)}", "type": kind, "accepts_response_payload": False, "payload": payload}


def build_message(event_id="Ev1"):
    event = {"type": "message", "channel": CHANNEL, "user": "U1", "text": "my vpn is down", "ts": "1700000000.000100"}
    return {"type": "event_callback", "team_id": TEAM, "api_app_id": "A1", "event_id": event_id, "event": event}


async def deliver(bench, envelope):
    """Send an envelope and wait for its acknowledgement."""
    await bench.slack.sockets[-1].send_json(envelope)
    await wait_for(lambda: any(sent["envelope_id"] == envelope["envelope_id"] for sent in bench.slack.envelopes))
    await bench.settle()


async def test_event_is_acknowledged_and_gets_its_card(bench):
    await deliver(bench, build_envelope(build_message()))
    bench.get_card()


async def test_event_delivered_again_counts_once(bench):
    for _ in range(2):
        await deliver(bench, build_envelope(build_message()))
    bench.get_card()
    assert len(bench.bot.calls) == 1


async def test_event_that_cannot_be_stored_is_not_acknowledged(bench, monkeypatch):
    async def refuse(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(bench.plugin.queue, "put", refuse)
    envelope = build_envelope(build_message())
    await bench.slack.sockets[-1].send_json(envelope)
    await wait_for(lambda: bench.plugin.intake.counts["event:message"] == 1)
    await bench.slack.sockets[-1].send_json(build_envelope({"type": "event_callback", "event": {"type": "nothing"}}))
    await wait_for(lambda: len(bench.slack.envelopes) == 1)
    assert bench.slack.envelopes[0]["envelope_id"] != envelope["envelope_id"]


async def test_connection_that_breaks_is_made_anew(bench):
    await bench.slack.sockets[0].send_json({"type": "disconnect", "reason": "refresh_requested"})
    await wait_for(lambda: len(bench.slack.sockets) == 2 and bench.plugin.find_trouble() is None)
    await deliver(bench, build_envelope(build_message()))
    bench.get_card()


async def test_recorded_envelopes_are_acknowledged(bench):
    cases = contracts.load("inbound/socket_mode.json")["cases"]
    envelopes = [case["payload"] for case in cases if case["direction"] == "from_slack"]
    envelopes = [json.loads(one) if isinstance(one, str) else one for one in envelopes]
    sent = {one["envelope_id"] for one in envelopes if "envelope_id" in one}
    for envelope in envelopes:
        if "envelope_id" in envelope:
            await bench.slack.sockets[-1].send_json(envelope)
    await wait_for(lambda: sent <= {one["envelope_id"] for one in bench.slack.envelopes})
    assert sent


async def test_bot_starts_without_slack_and_connects_when_it_is_there(slack, caplog, monkeypatch):
    monkeypatch.setattr("plugins.slack.app.RECHECK_INTERVAL_S", 0.05)
    monkeypatch.setattr("plugins.slack.transports.PING_INTERVAL_S", 0.3)
    slack.is_down = True
    async with run_bench(slack, signing_secret=None, app_token=SecretStr("xapp-1")) as bench:
        await wait_for(lambda: bench.plugin.client.trouble is not None)
        assert "it is tried again" in bench.plugin.find_trouble()
        slack.is_down = False
        await wait_for(lambda: bench.plugin.find_trouble() is None)
        assert [record for record in caplog.records if record.exc_info] == []
