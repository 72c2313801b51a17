"""What happens around a card in real channels: deletions that leave a tombstone, apps without a text, mail, requests to the bot, people at once."""

import asyncio

import pytest

from bot.plugin_api import FeedbackKind
from plugins.slack.text import read_text
from tests.plugins.slack.slack_helpers import CHANNEL, run_bench, show_text

TS = "1700000000.000100"
VPN = "my vpn does not connect since the update"
DELETED = {"type": "message", "subtype": "tombstone", "text": "This message was deleted.", "user": "USLACKBOT", "hidden": True}


@pytest.fixture
async def card(bench):
    bench.bot.answer = (bench.bot.label_set.names[0], 0.8)
    await bench.send_message(VPN, ts=TS)
    return bench.get_card()


def build_tombstone(ts, *, channel=CHANNEL, previous=True):
    before = {"previous_message": {"type": "message", "user": "U1", "ts": ts, "thread_ts": ts, "text": VPN}} if previous else {}
    event = {"type": "message", "subtype": "message_changed", "hidden": True, "channel": channel, "ts": "1700000009.000001"}
    return {**event, "message": {**DELETED, "ts": ts, "thread_ts": ts}, **before}


@pytest.mark.parametrize("previous", [True, False])
async def test_deleted_message_with_its_card_below_leaves_a_card_that_says_so(bench, card, previous):
    await bench.send_event(build_tombstone(TS, previous=previous))
    assert "was deleted" in show_text(bench.get_card()["blocks"])
    assert "triage_accept" not in str(bench.get_card()["blocks"])


async def test_edited_message_is_no_new_ticket(bench, card):
    event = build_tombstone(TS)
    await bench.send_event({**event, "message": {"type": "message", "user": "U1", "ts": TS, "text": f"{VPN}!"}})
    assert len(bench.bot.calls) == 1


async def test_tombstone_is_never_a_ticket(bench):
    bench.slack.add_message("C7", TS, DELETED["text"], subtype="tombstone")
    link = f"https://x.slack.com/archives/C7/p{TS.replace('.', '')}"
    await bench.send_command("/triage", link)
    assert "it has been deleted" in bench.slack.ephemerals[-1]["text"]
    await bench.send_command("/summarize", link)
    assert "nothing to summarise" in bench.slack.ephemerals[-1]["text"]
    assert bench.bot.calls == []


@pytest.mark.parametrize("text", ["<@UBOT>", "<@UBOT> summarize", "<@UBOT|understudy>: help"])
async def test_message_that_only_asks_the_bot_for_something_is_no_ticket(bench, text):
    await bench.send_message(text, ts=TS)
    assert bench.bot.calls == []
    assert bench.slack.get_own(CHANNEL) == []


async def test_message_to_the_bot_or_to_somebody_else_is_a_ticket_all_the_same(bench):
    await bench.send_message("<@UBOT> my vpn is down", ts=TS)
    await bench.send_message("<@U2> summarize", ts="1700000000.000200")
    assert len(bench.bot.calls) == 2


async def test_mention_alone_explains_what_can_be_said(bench):
    await bench.send_event({"type": "app_mention", "channel": "C7", "user": "U1", "text": "<@UBOT>", "ts": TS})
    assert "Mention me in a thread" in bench.slack.ephemerals[-1]["text"]


async def test_reminder_of_slackbot_is_no_ticket(bench):
    await bench.send_message("Reminder: stand-up", ts=TS, user="USLACKBOT")
    assert bench.bot.calls == []


async def test_message_of_an_app_without_a_text_is_read_from_its_blocks(slack):
    section = {
        "type": "section",
        "text": {"type": "mrkdwn", "text": "*Printer* &amp; toner"},
        "fields": [{"type": "mrkdwn", "text": "empty"}],
    }
    blocks = [
        {"type": "header", "text": {"type": "plain_text", "text": "New"}},
        section,
        {"type": "divider"},
        "odd",
        {"type": "section", "text": 5},
    ]
    blocks.append({"type": "context", "elements": [{"type": "mrkdwn", "text": "by mail"}, {"type": "image", "alt_text": "x"}]})
    assert read_text({"text": "", "blocks": blocks}) == "New\n*Printer* & toner\nempty\nby mail"
    async with run_bench(slack, triage_bots=True) as bench:
        await bench.send_message("", ts=TS, subtype="bot_message", bot_id="B9", blocks=blocks)
        assert len(bench.bot.calls) == 1


def test_mail_that_slack_took_in_is_read():
    mail = {"mode": "email", "filetype": "email", "subject": "VPN", "plain_text": "It is down."}
    assert (
        read_text({"text": "", "subtype": "file_share", "files": [mail, {"mode": "hosted", "plain_text": "x"}, None]})
        == "VPN\nIt is down."
    )


async def test_edited_reply_of_the_second_person_is_given_back(bench, card):
    await bench.click(card, "triage_edit", user="U2")
    await bench.click(card, "triage_accept", user="U1")
    await bench.submit(bench.slack.views[0], {"reply": "Restart the client."}, user="U2")
    told = bench.slack.ephemerals[-1]
    assert (told["user"], "Restart the client." in show_text(told["blocks"])) == ("U2", True)
    assert len(bench.slack.get_own(CHANNEL)) == 1


async def test_reply_edited_after_the_same_label_was_chosen_is_posted(bench, card):
    other = bench.bot.label_set.names[1]
    await bench.click(card, "triage_edit", user="U2")
    await bench.click(card, "triage_override", user="U2")
    await bench.submit(bench.slack.views[1], {"label": other}, user="U2")
    await bench.submit(bench.slack.views[0], {"label": other, "reply": "Restart the client."}, user="U2")
    assert any("Restart the client." in show_text(message["blocks"]) for message in bench.slack.get_own(CHANNEL))


async def test_second_person_is_answered_in_the_thread_and_in_its_order(bench, card):
    await bench.click(card, "triage_override", user="U2")
    await bench.click(card, "triage_accept", user="U1")
    await bench.submit(bench.slack.views[0], {"label": bench.bot.label_set.names[1]}, user="U2")
    told = {key: value for key, value in bench.slack.ephemerals[0].items() if key != "thread_ts"}
    bench.slack.refuse["chat.update"] = "is_archived"
    # Slack names neither the message nor its thread where only one person sees it.
    container = {"type": "message", "message_ts": "9.9", "channel_id": CHANNEL, "is_ephemeral": True}
    await bench.click({**told, "ts": "9.9"}, "triage_anyway", user="U2", container=container)
    groups = {
        event.group for event in bench.plugin.queue.events if event.kind in {"action:triage_accept", "action:triage_anyway"}
    }
    assert groups == {f"{CHANNEL}/{TS}"}
    assert bench.slack.ephemerals[-1]["thread_ts"] == TS
    assert len(bench.bot.feedback) == 2


@pytest.mark.parametrize("second", ["triage_undo", "triage_override"])
async def test_decision_made_while_the_undo_button_is_taken_off_stays_on_the_card(bench, card, second):
    await bench.click(card, "triage_accept", user="U1")
    decided = bench.get_card()
    original, begun = bench.bot.inbox.find_ticket, []

    async def find_ticket(source):
        detail = await original(source)
        if not begun:
            begun.append(True)
            place = next(event for event in bench.plugin.queue.events if event.kind == "later:close_undo").payload["ticket"]
            name = f"ticket/{place}"
            value = dict(await bench.plugin.desk.store.get(name))
            other = {
                **value["decision"],
                "kind": "override",
                "label": bench.bot.label_set.names[1],
                "actor": "U2",
                "feedback_id": 99,
            }
            value["decision"] = None if second == "triage_undo" else other
            await bench.plugin.desk.store.put(name, value)
        return detail

    bench.bot.inbox.find_ticket = find_ticket
    bench.bot.clock.advance(601.5)
    await bench.settle()
    assert begun
    shown = show_text(bench.get_card()["blocks"])
    assert ("Suggestion:" in shown) if second == "triage_undo" else ("<@U2> chose" in shown)
    assert decided["ts"] == bench.get_card()["ts"]


async def test_undo_of_a_card_that_is_no_longer_remembered_is_answered(bench, card):
    await bench.click(card, "triage_accept")
    shown = bench.get_card()
    for key in await bench.plugin.desk.store.get_all("ticket/"):
        await bench.plugin.desk.store.delete(key)
    await bench.click(shown, "triage_undo")
    assert "click *Override*." in bench.slack.ephemerals[-1]["text"]


async def test_alternatives_say_how_likely_they_are(bench, card):
    _, menu = bench.find_element(card, "triage_pick")
    assert menu["placeholder"]["text"] == "Alternatives"
    assert all(option["text"]["text"].endswith(" %)") for option in menu["options"])


async def test_two_clicks_at_the_same_moment_are_one_decision_and_one_answer(bench, card):
    await asyncio.gather(bench.click(card, "triage_accept", user="U1"), bench.click(card, "triage_accept", user="U2"))
    assert [given.kind for given in bench.bot.feedback] == [FeedbackKind.ACCEPT]
    assert len(bench.slack.ephemerals) == 1


async def test_unsure_suggestion_is_a_question_in_notifications_as_well(bench):
    bench.bot.answer = (bench.bot.label_set.names[0], 0.3)
    await bench.send_message(VPN, ts=TS)
    assert bench.get_card()["text"] == f"Is this {bench.bot.label_set.names[0]}?"


@pytest.mark.parametrize("method", ["chat.update", "chat.postEphemeral"])
async def test_first_of_two_is_told_once_though_slack_asks_to_wait(bench, card, method):
    await bench.click(card, "triage_accept", user="U1")
    await bench.click(bench.get_card(), "triage_override", user="U2")
    bench.slack.limit[method] = [30]
    await bench.submit(bench.slack.views[0], {"label": bench.bot.label_set.names[1]}, user="U2")
    bench.plugin.client._not_before.clear()  # its clock is the machine's
    bench.bot.clock.advance(31)
    await bench.settle()
    assert [(told["user"], "decided differently" in told["text"]) for told in bench.slack.ephemerals] == [("U1", True)]
    assert "<@U2> chose" in show_text(bench.get_card()["blocks"])
    assert len(bench.bot.feedback) == 2
