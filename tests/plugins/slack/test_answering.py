"""Where people are told things when a way is closed, what limits and stops do to that, and to which addresses answers may go."""

import asyncio

import pytest

from bot.plugin_api import BotError, Event
from plugins.slack.client import SlackClient
from plugins.slack.text import to_sentence
from plugins.slack.tokens import SingleToken
from tests.plugins.slack.slack_helpers import CHANNEL, make_settings
from tests.plugins.slack.test_odd_requests import MESSAGE, build_event


async def test_answer_that_cannot_be_given_at_its_address_is_given_directly(bench):
    bench.slack.refuse = {"chat.postEphemeral": "channel_not_found"}
    await bench.send_command("/triage", "", response_url="https://hooks.slack.com.invalid/x")
    bench.plugin.client._web.proxy = None
    await bench.send_command("/triage", "", response_url="http://127.0.0.1:9/x")
    assert len(bench.slack.get_own("DU1")) == 2


async def test_limit_on_answers_in_the_channel_leaves_the_address_of_the_command(bench):
    bench.slack.limit["chat.postEphemeral"] = [30]
    await bench.send_command("/triage", "")
    assert len(bench.slack.answers) == 1


async def test_limit_of_one_workspace_does_not_slow_another(bench):
    client = bench.plugin.client
    bench.slack.limit["chat.postMessage"] = [30]
    await bench.send_message("my vpn is down", ts=MESSAGE["ts"])
    assert [method for method, _ in client._not_before] == ["chat.postMessage"]
    posted = await client._call("chat.postMessage", "xoxb-two", {"channel": "C9", "text": "hello"})
    assert posted["channel"] == "C9"


async def test_missing_permission_is_named(bench):
    bench.slack._conversations_replies = lambda _: {
        "ok": False,
        "error": "missing_scope",
        "needed": "groups:history",
        "provided": "x",
    }
    await bench.send_command("/summarize", "https://x.slack.com/archives/G1/p1700000000000100")
    assert "lacks the permission groups:history for this;" in bench.slack.ephemerals[-1]["text"]


async def test_card_that_was_being_posted_when_the_bot_was_stopped_is_found_again(bench):
    arrived = asyncio.Event()
    original = bench.plugin.client.call

    async def call(method, **arguments):
        answer = await original(method, **arguments)
        if method == "chat.postMessage" and not arrived.is_set():
            arrived.set()
            await asyncio.sleep(60)
        return answer

    bench.plugin.client.call = call
    work = asyncio.create_task(bench.plugin.intake.handle(build_stored(bench)))
    await arrived.wait()
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
    await bench.plugin.intake.handle(build_stored(bench))
    bench.get_card()


def build_stored(bench):
    bench.slack.messages[CHANNEL].setdefault(MESSAGE["ts"], dict(MESSAGE))
    return Event("event/Ev1", "event:message", "g", build_event(MESSAGE), 1, bench.bot.clock.now())


async def test_form_that_fails_to_open_for_any_reason_is_told_so(bench):
    bench.bot.answer = (bench.bot.label_set.names[0], 0.8)
    await bench.send_message("my vpn is down", ts=MESSAGE["ts"])
    card = bench.get_card()

    async def break_down(source):
        raise RuntimeError("the database went away")

    bench.bot.inbox.find_ticket = break_down
    await bench.click(card, "triage_edit")
    assert bench.slack.ephemerals[-1]["text"] == "The form could not be opened. Please click or type it again."


@pytest.mark.parametrize(
    ("said", "sentence"), [("run 3 has <ended>", "Run 3 has &lt;ended&gt;."), ("Is it gone?", "Is it gone?"), ("", ".")]
)
def test_error_becomes_a_sentence(said, sentence):
    assert to_sentence(BotError(said)) == sentence


@pytest.mark.parametrize(
    ("api_url", "url", "is_known"),
    [
        ("https://slack.com/api/", "https://hooks.slack.com/commands/1", True),
        ("https://slack.com/api/", "https://slack.com.evil.test/commands/1", False),
        ("https://slack.com/api/", "http://127.0.0.1/commands/1", False),
        ("https://slack-gov.com/api/", "https://hooks.slack-gov.com/commands/1", True),
        ("http://127.0.0.1:9/", "http://localhost:8/commands/1", True),
        ("http://127.0.0.1:9/", "http://10.0.0.1/commands/1", False),
    ],
)
def test_answers_go_to_slack_alone(api_url, url, is_known):
    settings = make_settings("http://127.0.0.1").model_copy(update={"api_url": api_url})
    assert SlackClient(settings, SingleToken("xoxb-1")).is_slack(url) is is_known
