"""No words of a message reach a log line, not even at DEBUG, and none leaves its thread."""

import json
import logging

import pytest

from bot.plugin_api import BotError
from tests.plugins.slack.slack_helpers import CHANNEL

SECRETS = ("4111-1111-1111-1111", "ann.secret@x.test", "hunter2-password")
TEXT = f"vpn: {SECRETS[0]} {SECRETS[1]}"
TS = "1700000000.000100"


@pytest.fixture
def log(caplog):
    caplog.set_level(logging.DEBUG)
    for name in ("slack_bolt", "slack_sdk", "aiohttp", "plugins"):
        logging.getLogger(name)
    return caplog


def find_leaks(log):
    text = "\n".join(f"{record.getMessage()} {record.exc_text or ''} {record.__dict__}" for record in log.records)
    return [secret for secret in SECRETS if secret in text]


async def test_no_words_are_logged_whatever_happens_to_them(bench, log):
    await bench.send_message(TEXT, ts=TS)
    await bench.click(bench.get_card(), "triage_override")
    await bench.submit(bench.slack.views[0], {"label": bench.bot.label_set.names[1], "why": SECRETS[2]})
    await bench.send_command("/triage", TEXT)
    await bench.send_command("/summarize", f"https://x.slack.com/archives/{CHANNEL}/p{TS.replace('.', '')}")
    await bench.send_command("/nothing", TEXT)
    bench.bot.fail_with = BotError(f"refused: {TEXT}")
    await bench.send_message(TEXT, ts="1700000000.000200")
    bench.bot.fail_with = RuntimeError(f"broken: {TEXT}")
    await bench.send_message(TEXT, ts="1700000000.000300")
    bench.slack.refuse = {"chat.postMessage": "not_in_channel", "chat.postEphemeral": "user_not_in_channel"}
    await bench.send_message(TEXT, ts="1700000000.000400")
    bench.slack.is_down = True
    await bench.send_message(TEXT, ts="1700000000.000500")
    raw = json.dumps({"type": "event_callback", "text": TEXT}).encode()
    await bench.client.post("/plugins/slack/events", content=raw, headers={})
    assert log.records
    assert find_leaks(log) == []


async def test_words_of_a_ticket_go_to_its_own_channel_alone(bench):
    bench.slack.add_message("C7", TS, TEXT)
    await bench.send_command("/summarize", f"https://x.slack.com/archives/C7/p{TS.replace('.', '')}", channel="C8")
    elsewhere = [a for method, a in bench.slack.calls if method.startswith("chat.") and a["channel"] != "C7"]
    assert SECRETS[1] not in json.dumps(elsewhere)
    assert SECRETS[1] in json.dumps(bench.slack.get_own("C7"))


async def test_store_holds_no_words(bench):
    await bench.send_message(TEXT, ts=TS)
    await bench.click(bench.get_card(), "triage_handoff")
    await bench.submit(bench.slack.views[0], {"why": SECRETS[2]})
    stored = json.dumps({key: dict(value) for key, value in (await bench.plugin.desk.store.get_all()).items()})
    assert [secret for secret in SECRETS if secret in stored] == []
