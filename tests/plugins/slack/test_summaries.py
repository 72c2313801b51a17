"""Summaries of threads."""

from dataclasses import replace

import pytest

from bot.plugin_api import FeedbackKind, RetryLaterError
from plugins.slack import summaries
from tests.plugins.slack.slack_helpers import CHANNEL, show_text

ROOT = "1700000000.000100"
LINK = f"https://x.slack.com/archives/{CHANNEL}/p{ROOT.replace('.', '')}"


@pytest.fixture
def thread(bench):
    bench.slack.add_message(CHANNEL, ROOT, "The printer <https://p.test|on floor 2> is broken. It smokes.", user="U1")
    bench.slack.add_message(CHANNEL, "1700000000.000200", "Is it plugged in?", user="U2", thread_ts=ROOT)
    bench.slack.add_message(CHANNEL, "1700000000.000300", "Yes &amp; it is hot.", user="U1", thread_ts=ROOT)


async def test_command_with_a_link_shows_the_summary_in_the_thread(bench, thread):
    await bench.send_command("/summarize", LINK, channel="C9")
    card = bench.get_card()
    assert card["thread_ts"] == ROOT
    shown = show_text(card["blocks"])
    assert "The printer on floor 2 (https://p.test) is broken." in shown
    assert "in the thread's own words" in shown
    assert bench.slack.get_own("C9") == []


async def test_command_in_a_thread_needs_no_link(bench, thread):
    await bench.send_command("/summarize", "", thread_ts=ROOT)
    assert bench.get_card()["thread_ts"] == ROOT


async def test_command_without_a_link_explains_itself(bench, thread):
    await bench.send_command("/summarize", "please")
    assert "Summarise thread" in bench.slack.ephemerals[0]["text"]


async def test_shortcut_on_a_reply_summarises_the_whole_thread(bench, thread):
    await bench.send_shortcut("summarise_thread", bench.slack.messages[CHANNEL]["1700000000.000300"])
    assert bench.bot.calls == [("summarize", f"T1/{CHANNEL}/{ROOT}")]
    turns = bench.bot.tickets[1].turns
    assert [turn.speaker for turn in turns] == ["customer", "agent", "customer"]
    assert turns[2].text == "Yes & it is hot."


async def test_mention_that_asks_for_a_summary_gets_one(bench, thread):
    inner = {"type": "app_mention", "user": "U2", "text": "<@UBOT> summarize", "ts": "1700000000.000400", "thread_ts": ROOT}
    await bench.send_event({**inner, "channel": CHANNEL})
    assert bench.bot.calls == [("summarize", f"T1/{CHANNEL}/{ROOT}")]


async def test_long_thread_is_read_page_by_page_through_rate_limits(bench, thread):
    bench.slack.page_size = 40
    for n in range(150):
        bench.slack.add_message(CHANNEL, f"1700000001.{n:06d}", f"line {n}", user="U2", thread_ts=ROOT)
    bench.slack.limit["conversations.replies"] = []
    original = bench.slack._conversations_replies

    def limit_the_third(arguments):
        if arguments.get("cursor") == "80" and not bench.slack.limit["done"]:
            bench.slack.limit["done"] = [1]
            bench.slack.limit["conversations.replies"] = [0.1]
        return original(arguments)

    bench.slack._conversations_replies = limit_the_third
    await bench.send_command("/summarize", LINK)
    assert len(bench.bot.tickets[1].turns) == 153
    assert bench.slack.counts["conversations.replies"] == 5


async def test_thread_longer_than_the_setting_is_cut_and_says_so(bench, thread):
    bench.plugin.desk.settings = bench.plugin.settings.model_copy(update={"max_thread_messages": 2})
    await bench.send_command("/summarize", LINK)
    assert len(bench.bot.tickets[1].turns) == 2
    assert "Only the first 2 messages" in show_text(bench.get_card()["blocks"])


async def test_own_cards_are_no_part_of_the_summary(bench, thread):
    await bench.send_command("/summarize", LINK)
    await bench.send_command("/summarize", LINK)
    assert len(bench.bot.tickets[1].turns) == 3
    bench.get_card()


async def test_summary_grows_in_place(bench, thread, monkeypatch):
    monkeypatch.setattr(summaries, "UPDATE_INTERVAL_S", 0.0)
    await bench.send_command("/summarize", LINK)
    shown = [show_text(a["blocks"]) for method, a in bench.slack.calls if method == "chat.update"]
    assert len(shown) == 3
    assert "Still writing" in shown[0]
    assert "Still writing" not in shown[2]


async def test_updates_are_at_least_a_second_apart(bench, thread):
    await bench.send_command("/summarize", LINK)
    assert bench.slack.counts["chat.update"] == 1


async def test_limit_on_updates_skips_one_and_still_shows_the_end(bench, thread, monkeypatch):
    monkeypatch.setattr(summaries, "UPDATE_INTERVAL_S", 0.0)
    bench.slack.limit["chat.update"] = [0.1]
    await bench.send_command("/summarize", LINK)
    bench.plugin.client._not_before.clear()
    bench.bot.clock.advance(5)
    await bench.settle()
    assert "it is hot" in show_text(bench.get_card()["blocks"])


async def test_limit_on_the_last_update_is_waited_out_and_the_model_asked_once(bench, thread):
    original, told = bench.plugin.client.call, []

    async def call(method, **arguments):
        if method == "chat.update" and not told:
            told.append(method)
            raise RetryLaterError(method, after_s=0.01)
        return await original(method, **arguments)

    bench.plugin.client.call = call
    await bench.send_command("/summarize", LINK)
    assert told
    assert len(bench.bot.calls) == 1
    bench.find_element(bench.get_card(), "summary_accept")


async def test_edit_opens_a_form_with_the_text_and_records_it(bench, thread):
    await bench.send_command("/summarize", LINK)
    await bench.click(bench.get_card(), "summary_edit", user="U5")
    view = bench.slack.views[0]
    assert "on floor 2" in view["blocks"][0]["element"]["initial_value"]
    await bench.submit(view, {"text": "Printer on fire <now>."}, user="U5")
    given = bench.bot.feedback[0]
    assert (given.kind, given.value, given.actor) == (FeedbackKind.EDIT, "Printer on fire <now>.", "slack:U5")
    shown = show_text(bench.get_card()["blocks"])
    assert "Printer on fire &lt;now&gt;." in shown
    assert "Edited by <@U5>" in shown


async def test_empty_edit_is_refused_in_the_form(bench, thread):
    await bench.send_command("/summarize", LINK)
    await bench.click(bench.get_card(), "summary_edit")
    answer = await bench.submit(bench.slack.views[0], {"text": "  "})
    assert answer.json()["response_action"] == "errors"
    assert set(answer.json()["errors"]) == {"text"}
    assert bench.bot.feedback == []


async def test_second_editor_gets_their_text_back_and_is_told_who_was_first(bench, thread):
    await bench.send_command("/summarize", LINK)
    card = bench.get_card()
    await bench.click(card, "summary_edit", user="U1")
    await bench.click(card, "summary_edit", user="U2")
    await bench.submit(bench.slack.views[0], {"text": "Mine."}, user="U1")
    await bench.submit(bench.slack.views[1], {"text": "Yours."}, user="U2")
    assert [given.value for given in bench.bot.feedback] == ["Mine."]
    told = bench.slack.ephemerals[0]
    assert "<@U1> was first" in told["text"]
    assert "Yours." in show_text(told["blocks"])


async def test_accepted_summary_keeps_its_words_though_the_core_stores_them_masked(bench, thread):
    await bench.send_command("/summarize", LINK)
    ticket = bench.bot.tickets[1]
    ticket.summary = replace(ticket.summary, text="The printer <URL_1> is broken.")
    await bench.click(bench.get_card(), "summary_accept")
    shown = show_text(bench.get_card()["blocks"])
    assert "on floor 2" in shown
    assert "Accepted by <@U1>" in shown
    bench.bot.clock.advance(11 * 60)
    await bench.settle()
    assert "on floor 2" in show_text(bench.get_card()["blocks"])
    assert "summary_undo" not in str(bench.get_card()["blocks"])


async def test_undo_of_a_summary_opens_it_again(bench, thread):
    await bench.send_command("/summarize", LINK)
    await bench.click(bench.get_card(), "summary_accept")
    await bench.click(bench.get_card(), "summary_undo")
    assert bench.bot.withdrawn == [1]
    bench.find_element(bench.get_card(), "summary_accept")


async def test_paused_bot_says_so_in_place_of_a_summary(bench, thread):
    bench.bot.is_paused = True
    await bench.send_command("/summarize", LINK)
    assert "paused" in show_text(bench.get_card()["blocks"])


async def test_thread_that_is_gone_is_said(bench):
    await bench.send_command("/summarize", LINK)
    assert "deleted" in bench.slack.ephemerals[0]["text"]
