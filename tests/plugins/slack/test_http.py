"""The HTTP endpoint: signature, replay, shapes, and the order of storing and acknowledging."""

import asyncio
import json
import logging
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

import pytest

from bot.plugin_api import BotError
from plugins.slack.signature import is_genuine, sign
from plugins.slack.transports import BodyError, parse_body
from tests.plugins.slack import contracts
from tests.plugins.slack.slack_helpers import CHANNEL, SECRET, URL, build_signed, run_bench

PLANTED = "my card is 4111 1111 1111 1111"


def build_event(text=PLANTED, **more):
    event = {"type": "message", "channel": CHANNEL, "user": "U1", "text": text, "ts": "1700000000.000100"}
    return json.dumps({"type": "event_callback", "team_id": "T1", "event_id": "Ev1", "event": event, **more}).encode()


def test_signature_of_slacks_own_example_is_accepted():
    for case in contracts.load("signature_vectors.json")["cases"]:
        given = {"timestamp": case["timestamp"], "signature": case["signature"], "body": case["body"].encode()}
        assert is_genuine(case["signing_secret"], now=float(case["timestamp"]), **given)
        assert not is_genuine(case["signing_secret"] + "x", now=float(case["timestamp"]), **given)


@pytest.mark.parametrize("age_s", [301, -301])
def test_signature_outside_of_five_minutes_is_refused(age_s):
    given = {"timestamp": "1700000000", "signature": sign(SECRET, timestamp="1700000000", body=b"x"), "body": b"x"}
    assert is_genuine(SECRET, now=1700000000.0 + 299, **given)
    assert not is_genuine(SECRET, now=1700000000.0 + age_s, **given)


@pytest.mark.parametrize("timestamp", ["", "abc", "-5", "1e9", "١٧٠٠", "9" * 40])
def test_timestamp_that_is_no_number_is_refused(timestamp):
    signature = sign(SECRET, timestamp=timestamp, body=b"x")
    assert not is_genuine(SECRET, timestamp=timestamp, signature=signature, body=b"x", now=1700000000.0)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        build_signed(build_event(), secret="another"),
        build_signed(build_event(), now=datetime.now(UTC) - timedelta(minutes=6)),
        {**build_signed(build_event()), "X-Slack-Signature": "v0=é".encode("latin-1")},
        build_signed(build_event() + b" "),
    ],
    ids=["none", "wrong secret", "old", "odd characters", "another body"],
)
async def test_request_that_is_not_slacks_is_refused_and_nothing_called_or_logged(bench, headers, caplog):
    caplog.set_level(logging.DEBUG)
    answer = await bench.client.post(URL, content=build_event(), headers=headers)
    assert answer.status_code == 401
    assert bench.plugin.queue.events == ()
    assert bench.bot.calls == []
    assert "4111" not in caplog.text + answer.text


async def test_endpoint_is_closed_without_a_signing_secret(slack):
    from pydantic import SecretStr

    async with run_bench(slack, signing_secret=None, app_token=SecretStr("xapp-1")) as bench:
        answer = await bench.client.post(URL, content=build_event(), headers=build_signed(build_event(), secret=""))
        assert answer.status_code == 401
        assert bench.plugin.queue.events == ()


async def test_challenge_is_answered(bench):
    answer = await bench.send({"type": "url_verification", "challenge": "abc", "token": "x"})
    assert (answer.status_code, answer.json()) == (200, {"challenge": "abc"})


@pytest.mark.parametrize(
    "raw", [b"", b"[1]", b"{", b"\xff\xfe", b"payload=%7B", b"payload=[1]", b'{"type": "event_callback"}', b"a=" + b"&b=" * 200]
)
async def test_signed_nonsense_is_answered_and_stores_nothing(bench, raw):
    answer = await bench.client.post(URL, content=raw, headers=build_signed(raw, content_type="text/plain"))
    assert answer.status_code in {200, 400}
    assert bench.plugin.queue.events == ()


async def test_overlong_request_is_refused_before_it_is_read(bench):
    raw = b"{" + b" " * 2_000_001
    assert (await bench.client.post(URL, content=raw, headers=build_signed(raw))).status_code == 413


def test_command_about_payloads_keeps_its_text():
    raw = urlencode({"command": "/triage", "text": "our payload is lost"}).encode()
    assert parse_body(raw, "application/x-www-form-urlencoded")["text"] == "our payload is lost"


def test_deep_nesting_is_no_crash():
    with pytest.raises(BodyError):
        parse_body(b"[" * 100_000, "application/json")


async def test_event_is_stored_before_it_is_acknowledged(bench, monkeypatch):
    order = []
    put = bench.plugin.queue.put

    async def note_put(*args, **kwargs):
        stored = await put(*args, **kwargs)
        order.append("stored")
        return stored

    monkeypatch.setattr(bench.plugin.queue, "put", note_put)
    raw = build_event()
    answer = await bench.client.post(URL, content=raw, headers=build_signed(raw))
    order.append(answer.status_code)
    assert order == ["stored", 200]


async def test_event_that_cannot_be_stored_is_not_acknowledged(bench, monkeypatch, caplog):
    async def refuse(*args, **kwargs):
        raise BotError(f"the database is busy with {PLANTED}")

    monkeypatch.setattr(bench.plugin.queue, "put", refuse)
    raw = build_event()
    answer = await bench.client.post(URL, content=raw, headers=build_signed(raw))
    assert answer.status_code == 503
    assert "4111" not in caplog.text + answer.text
    assert "BotError" in caplog.text


async def test_acknowledgement_asks_neither_model_nor_slack(bench):
    before = dict(bench.slack.counts)
    bench.plugin.queue._handle = None  # nothing is handled now
    raw = build_event()
    assert (await bench.client.post(URL, content=raw, headers=build_signed(raw))).status_code == 200
    assert bench.bot.calls == []
    assert dict(bench.slack.counts) == before


async def test_unknown_command_is_answered_and_counted(bench):
    answer = await bench.send_command("/unknown", "x")
    assert (answer.status_code, answer.text) == (200, "I do not know this command.")
    assert bench.plugin.intake.counts["unknown"] == 1


async def test_stored_event_holds_neither_verification_token_nor_trigger(bench):
    bench.slack.add_message("C7", "1.000001", "vpn")
    await bench.send_shortcut("triage", bench.slack.messages["C7"]["1.000001"], channel="C7", token="verify-me")
    stored = json.dumps([dict(event.payload) for event in bench.plugin.queue.events])
    assert "verify-me" not in stored
    assert "trigger_id" not in stored


async def test_refused_token_is_named_for_health_until_it_is_right(slack, monkeypatch, caplog):
    monkeypatch.setattr("plugins.slack.app.RECHECK_INTERVAL_S", 0.02)
    slack.refuse = {"auth.test": "invalid_auth"}
    async with run_bench(slack) as bench:
        async with asyncio.timeout(5):
            while bench.plugin.find_trouble() is None:  # noqa: ASYNC110  it is found out in the background
                await asyncio.sleep(0.01)
        assert "set a new one" in bench.plugin.find_trouble()
        slack.refuse = {}
        async with asyncio.timeout(5):
            while bench.plugin.find_trouble() is not None:  # noqa: ASYNC110  as above
                await asyncio.sleep(0.01)
    assert caplog.text.count("refuses the bot's token") == 1
