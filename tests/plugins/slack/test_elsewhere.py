"""What is decided outside of Slack shows on the card, and whoever clicks then is told."""

import pytest

from bot.plugin_api import Feedback, FeedbackKind
from tests.plugins.slack.slack_helpers import show_text

TS = "1700000000.000100"
VPN = "my vpn does not connect since the update"


@pytest.fixture
async def card(bench):
    await bench.plugin.decisions.look_once()
    bench.bot.answer = (bench.bot.label_set.names[0], 0.8)
    await bench.send_message(VPN, ts=TS)
    return bench.get_card()


async def decide(bench, kind=FeedbackKind.OVERRIDE, *, key="console-1", value=None):
    """Decide in the console, and let Slack hear of it."""
    ticket = next(iter(bench.bot.tickets.values()))
    value = value or (bench.bot.label_set.names[2] if kind is FeedbackKind.OVERRIDE else None)
    click = Feedback(ticket.classification.inference_id, kind, "Ana <the boss>", idempotency_key=key, value=value)
    receipt = await bench.bot.record_feedback(click)
    await bench.plugin.decisions.look_once()
    return receipt


async def test_a_decision_taken_elsewhere_shows_on_the_card_without_undo(bench, card):
    await decide(bench)
    await bench.settle()
    after = bench.get_card()
    assert f"Ana &lt;the boss&gt; chose *{bench.bot.label_set.names[2]}* instead of" in show_text(after["blocks"])
    assert "triage_undo" not in str(after["blocks"])
    assert "triage_accept" not in str(after["blocks"])
    assert [method for method, *_ in bench.slack.calls].count("chat.postMessage") == 1


async def test_a_click_after_it_is_told_who_was_first_and_may_decide_all_the_same(bench, card):
    await decide(bench)
    await bench.settle()
    await bench.click(card, "triage_accept", user="U7")
    assert "Ana &lt;the boss&gt; was first" in bench.slack.ephemerals[0]["text"]
    assert [given.actor for given in bench.bot.feedback] == ["Ana <the boss>"]


async def test_a_decision_taken_back_before_it_is_shown_changes_nothing(bench, card):
    receipt = await decide(bench)
    await bench.bot.withdraw_feedback(receipt.feedback_id, actor="Ana <the boss>")
    await bench.settle()
    assert bench.get_card() == card


async def test_a_click_in_slack_is_not_shown_a_second_time(bench, card):
    await bench.click(card, "triage_accept", user="U7")
    before = len(bench.slack.calls)
    await bench.plugin.decisions.look_once()
    await bench.settle()
    assert len(bench.slack.calls) == before


async def test_a_card_that_is_gone_is_no_fault(bench, card):
    bench.slack.messages.clear()
    await decide(bench, FeedbackKind.HANDOFF)
    await bench.settle()
    assert bench.plugin.queue.errors == []
