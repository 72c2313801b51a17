"""What Slack sent others: every recorded payload goes through the real app with a real signature."""

import json
from urllib.parse import urlencode

import pytest

from plugins.slack.transports import parse_body
from tests.plugins.slack import contracts
from tests.plugins.slack.slack_helpers import URL, build_signed, run_bench

FORMS = (
    "block_actions",
    "block_suggestion",
    "dialog_cancellation",
    "dialog_submission",
    "dialog_suggestion",
    "interactive_message",
)
FORMS += ("message_action", "shortcut", "view_closed", "view_submission", "workflow_step_edit")
JSONS = ("event_callback", "url_verification")


def load_cases(kind):
    path = contracts.CONTRACTS / "inbound" / f"{kind}.json"
    if not path.is_file():
        return [pytest.param(kind, None, id=kind)]
    cases = json.loads(path.read_text(encoding="utf-8"))["cases"]
    return [pytest.param(kind, case, id=case["id"]) for case in cases]


ALL = [case for kind in (*FORMS, *JSONS, "slash_command") for case in load_cases(kind)]


def build_request(kind, case):
    if kind == "slash_command":
        return case["body"].encode(), case["content_type"]
    text = json.dumps(case["payload"])
    if kind in JSONS:
        return text.encode(), "application/json"
    return urlencode({"payload": text}).encode(), "application/x-www-form-urlencoded"


async def post(bench, raw, content_type):
    answer = await bench.client.post(URL, content=raw, headers=build_signed(raw, content_type=content_type))
    await bench.settle()
    return answer


@pytest.mark.parametrize(("kind", "case"), ALL)
async def test_recorded_payload_is_acknowledged_and_breaks_nothing(slack, kind, case):
    contracts.need(f"inbound/{kind}.json")
    async with run_bench(slack, channels={"C111": ()}, triage_bots=True) as bench:
        raw, content_type = build_request(kind, case)
        for _ in range(2):
            assert (await post(bench, raw, content_type)).status_code == 200
        assert bench.plugin.queue.errors == []
        assert len(bench.bot.calls) <= 1


@pytest.mark.parametrize(("kind", "case"), load_cases("message_action"))
@pytest.mark.parametrize("callback_id", ["triage", "summarise_thread"])
async def test_recorded_shortcut_under_our_name_is_handled(slack, kind, case, callback_id):
    contracts.need(f"inbound/{kind}.json")
    payload = {**case["payload"], "callback_id": callback_id}
    slack.add_message(payload["channel"]["id"], payload["message"]["ts"], payload["message"]["text"])
    async with run_bench(slack) as bench:
        raw, content_type = build_request(kind, {"payload": payload})
        assert (await post(bench, raw, content_type)).status_code == 200
        assert len(bench.bot.calls) == 1


@pytest.mark.parametrize(("kind", "case"), load_cases("slash_command"))
async def test_recorded_command_under_our_name_is_handled(slack, kind, case):
    contracts.need(f"inbound/{kind}.json")
    body = parse_body(case["body"].encode(), "application/x-www-form-urlencoded")
    async with run_bench(slack) as bench:
        raw = urlencode({**body, "command": "/triage", "text": "my vpn is down"}).encode()
        assert (await post(bench, raw, "application/x-www-form-urlencoded")).status_code == 200
        assert bench.bot.calls[0][0] == "classify"


def find_unknown_keys(body, shape, where=""):
    """Return the keys of a payload that Slack was never seen to send; what a form or a card holds is the app's own."""
    if where.rpartition(".")[2] in {"blocks", "values", "state", "elements"} or shape in ({}, None):
        return []
    if isinstance(body, list) and isinstance(shape, list):
        return [key for item in body for key in find_unknown_keys(item, shape[0] if shape else None, where)]
    if not (isinstance(body, dict) and isinstance(shape, dict)):
        return []
    unknown = [f"{where}.{name}" for name in body if name not in shape]
    return unknown + [
        key for name in body if name in shape for key in find_unknown_keys(body[name], shape[name], f"{where}.{name}")
    ]


async def test_helpers_send_no_key_that_slack_does_not(bench):
    shapes = contracts.load("shapes/inbound.json.gz")["shapes"]
    await bench.send_message("my vpn is down", ts="1700000000.000100")
    card = bench.get_card()
    await bench.click(card, "triage_override")
    await bench.submit(bench.slack.views[0], {"label": bench.bot.label_set.names[1]})
    await bench.send_shortcut("triage", bench.slack.messages["C1"]["1700000000.000100"])
    await bench.send_command("/summarize", "")
    assert {kind for kind, _ in bench.sent} == {
        "event/Message",
        "BlockAction",
        "ViewSubmission",
        "MessageShortcut",
        "SlashCommand",
    }
    # `n_updates` is the fake's own count; a click's element keys depend on the element.
    own = {".message.n_updates", ".event.channel_type"}
    faults = [f"{kind}{key}" for kind, body in bench.sent for key in find_unknown_keys(body, shapes[kind]) if key not in own]
    assert faults == []
