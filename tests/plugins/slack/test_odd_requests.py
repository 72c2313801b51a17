"""Requests that Slack might send one day, or never: each is answered so that Slack does not send it for ever, and none stops the others."""

import copy
import json
from urllib.parse import urlencode

import pytest

from plugins.slack.payloads import find_group, find_key, make_storable
from tests.plugins.slack import contracts
from tests.plugins.slack.slack_helpers import CHANNEL, URL, build_signed

FORM = "application/x-www-form-urlencoded"
ODD = (None, [], {}, 5, True, "", "x\0\ud800", [None], ["x"])
USER, TEAM = {"id": "U1", "team_id": "T1"}, {"id": "T1"}


def build_action(**more):
    action = {
        "type": "button",
        "action_id": "triage_accept",
        "block_id": "ticket-do/T1/C1/1.1/5",
        "action_ts": "1.2",
        "value": "5",
    }
    return {
        "type": "block_actions",
        "team": TEAM,
        "user": USER,
        "channel": {"id": CHANNEL},
        "container": {"type": "message", "message_ts": "1.1", "channel_id": CHANNEL},
        "message": {"ts": "1.1", "text": "x", "blocks": []},
        "actions": [action],
        **more,
    }


def build_event(event, **more):
    return {"type": "event_callback", "team_id": "T1", "api_app_id": "A1", "event_id": "Ev1", "event": event, **more}


MESSAGE = {"type": "message", "channel": CHANNEL, "user": "U1", "text": "my vpn is down", "ts": "1700000000.000100"}
META = {"ticket": "T1/C1/1.1", "channel": CHANNEL, "thread_ts": "1.1", "inference": 5, "knows": 0, "kind": "override"}
VIEW = {"id": "V1", "type": "modal", "callback_id": "triage_decide", "hash": "1.a", "private_metadata": json.dumps(META)}
BASES = {
    "message": build_event(MESSAGE),
    "mention": build_event({**MESSAGE, "type": "app_mention"}),
    "click": build_action(),
    "form": {"type": "view_submission", "team": TEAM, "user": USER, "view": {**VIEW, "state": {"values": {}}}},
    "shortcut": {
        "type": "message_action",
        "callback_id": "triage",
        "action_ts": "1.3",
        "team": TEAM,
        "user": USER,
        "channel": {"id": CHANNEL},
        "message": {"ts": "1.1", "text": "my vpn is down"},
    },
}


def find_paths(node, path=()):
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from find_paths(value, (*path, key))


def build_variants(base):
    """Return the payload with each part of it missing, and with each replaced by each odd value."""
    for path in find_paths(base):
        for odd in (..., *ODD):
            changed = copy.deepcopy(base)
            inner = changed
            for key in path[:-1]:
                inner = inner[key]
            if odd is ...:
                del inner[path[-1]]
            else:
                inner[path[-1]] = odd
            yield ".".join(map(str, path)), odd, changed


async def post(bench, raw, content_type):
    return await bench.client.post(URL, content=raw, headers=build_signed(raw, content_type=content_type))


async def send(bench, body):
    if body.get("type") == "event_callback":
        return await post(bench, json.dumps(body).encode(), "application/json")
    return await post(bench, urlencode({"payload": json.dumps(body)}).encode(), FORM)


@pytest.mark.parametrize("name", BASES)
async def test_payload_with_any_part_missing_or_odd_is_answered_and_breaks_nothing(bench, name):
    bad = []
    for path, odd, body in build_variants(BASES[name]):
        if "type" in body:  # without one it is a form of another kind
            answer = await send(bench, body)
            if answer.status_code != 200:
                bad.append((path, odd, answer.status_code))
    await bench.settle()
    assert bad == []
    assert bench.plugin.queue.errors == []


@pytest.mark.parametrize(
    "event", ["text", [], None, 5, {"type": None}, {"type": ["message"]}, {"type": "brand_new", "channel": {"id": "C1"}}]
)
async def test_event_of_an_unknown_shape_is_left_alone_and_not_asked_for_again(bench, event):
    answer = await send(bench, build_event(event))
    assert answer.status_code == 200
    assert bench.plugin.queue.events == ()


@pytest.mark.parametrize("name", ["blank", "filled"])
async def test_every_shape_that_slack_was_seen_to_send_is_acknowledged(bench, name):
    shapes = contracts.load("shapes/inbound.json.gz")["shapes"]
    for kind, shape in shapes.items():
        body = fill(shape) if name == "filled" else shape
        if kind == "SlashCommand":
            answer = await post(bench, urlencode(body).encode(), FORM)
        elif kind.startswith("event/"):
            answer = await send(bench, build_event(body, event_id=f"Ev-{kind}") if body.get("type") != "event_callback" else body)
        else:
            answer = await send(bench, body)
        assert answer.status_code == 200, kind
    await bench.settle()
    assert bench.plugin.queue.errors == []


def fill(node, key=""):
    if isinstance(node, dict):
        return {name: fill(value, name) for name, value in node.items()}
    if isinstance(node, list):
        return [fill(value, key) for value in node]
    known = {"channel": CHANNEL, "team": "T1", "team_id": "T1", "user": "U7", "ts": "1700000000.000100"}
    return known.get(key, f"a {key}") if node == "" else node


def test_text_that_some_database_refuses_is_made_storable():
    body = make_storable(build_action(user={"id": "U\0\ud800"}, channel={"id": "C\ud800"}, odd=["\udfff", {"\0": 5}, "grüße 😀"]))
    assert json.dumps(body, ensure_ascii=False).encode()
    assert "\\u0000" not in json.dumps(body)
    assert body["odd"] == ["?", {"": 5}, "grüße 😀"]


def test_ids_of_any_length_make_keys_that_fit():
    body = build_action(user={"id": "U" * 900}, channel={"id": "C" * 900})
    assert max(len(find_key("action:triage_accept", body)), len(find_group(body))) <= 250
    assert find_key("action:x", body) != find_key("action:x", build_action(user={"id": "U" * 901}))


@pytest.mark.parametrize("meta", [{**META, "inference": None}, {**META, "knows": "x"}, {**META, "ticket": 5}, [], 5])
@pytest.mark.parametrize("callback_id", ["triage_decide", "summary_edit"])
async def test_form_with_odd_memory_is_refused_in_words_and_not_tried_again(bench, meta, callback_id):
    state = {name: {name: {"value": "x"}} for name in ("text", "why")}
    state["label"] = {"label": {"selected_option": {"value": bench.bot.label_set.names[0]}}}
    view = {**VIEW, "callback_id": callback_id, "private_metadata": json.dumps(meta), "state": {"values": state}}
    assert (await send(bench, {**BASES["form"], "view": view})).status_code == 200
    await bench.settle()
    assert bench.plugin.queue.errors == []
    said = [told["text"] for told in bench.slack.ephemerals] + [told["text"] for told in bench.slack.get_own("DU1")]
    assert said == ["This form is no longer known; open it again from the card."]


async def test_look_at_the_certificate_is_answered_unsigned_and_does_nothing(bench):
    for raw, status in (
        (b"ssl_check=1&token=x", 200),
        (b"token=x&ssl_check=1", 200),
        (b"ssl_check=1&token=x&command=%2Fpause&user_id=UBOSS", 401),
    ):
        answer = await bench.client.post(URL, content=raw, headers={"Content-Type": FORM})
        assert answer.status_code == status
    assert bench.plugin.queue.events == ()
    assert (await post(bench, b"ssl_check=1&token=x", FORM)).status_code == 200


async def test_workspace_of_an_organisation_is_known_by_its_authorization_or_its_organisation(bench):
    grid = {"enterprise_id": "E1", "is_ext_shared_channel": True, "authorizations": [{"enterprise_id": "E1", "team_id": "T5"}]}
    await send(bench, {**build_event({**MESSAGE, "team": "T9"}), **grid, "team_id": "T9"})
    await send(bench, build_action(team=None, enterprise={"id": "E1"}, user={"id": "U1"}, is_enterprise_install=True))
    await bench.settle()
    assert bench.get_card()["blocks"][0]["block_id"] == f"ticket/T5/{CHANNEL}/{MESSAGE['ts']}"
    assert [event.key.split("/")[1] for event in bench.plugin.queue.events if event.kind == "action:triage_accept"] == ["E1"]


async def test_command_of_a_whole_organisation_without_a_workspace_is_handled(bench):
    answer = await bench.send_command("/triage", "my vpn is down", team_id="", enterprise_id="E1", is_enterprise_install="true")
    assert answer.status_code == 200
    assert bench.bot.calls[0][0] == "classify"


async def test_command_of_all_verbs_is_stored_before_it_is_acknowledged(bench):
    bench.plugin.queue._handle = None  # nothing is handled now
    await bench.send_command("/understudy", "status")
    assert [event.kind for event in bench.plugin.queue.events] == ["later:status"]


async def test_events_that_slack_holds_back_are_named_in_the_log(bench, caplog):
    body = {"type": "app_rate_limited", "team_id": "T1", "minute_rate_limited": 1518467820, "api_app_id": "A1"}
    assert (await post(bench, json.dumps(body).encode(), "application/json")).status_code == 200
    assert "holds events back" in caplog.text
