"""What people decide on cards."""

import json

import pytest

from bot.plugin_api import BotError, Feedback, FeedbackKind, Label, LabelSet, SourceRef
from bot.testing import FakeBot, FakeClock
from tests.plugins.slack.slack_helpers import CHANNEL, run_bench, show_text

TS = "1700000000.000100"
VPN = "my vpn does not connect since the update"


@pytest.fixture
async def card(bench):
    bench.bot.answer = (bench.bot.label_set.names[0], 0.8)
    await bench.send_message(VPN, ts=TS)
    return bench.get_card()


def get_kinds(bench):
    return [(given.kind, given.value, given.actor) for given in bench.bot.feedback]


async def test_accept_is_recorded_with_its_time_and_shown_with_undo(bench, card):
    bench.bot.clock.advance(30)
    await bench.click(card, "triage_accept", user="U7")
    given = bench.bot.feedback[0]
    assert (given.kind, given.actor, given.value) == (FeedbackKind.ACCEPT, "slack:U7", None)
    assert 29_000 < given.decision_ms < 32_000
    after = bench.get_card()
    assert f"<@U7> accepted *{bench.bot.label_set.names[0]}*" in show_text(after["blocks"])
    bench.find_element(after, "triage_undo")
    assert "triage_accept" not in str(after["blocks"])


async def test_same_click_delivered_twice_is_one_feedback(bench, card):
    for _ in range(2):
        assert (await bench.click(card, "triage_accept", action_ts="1700000200.000100")).status_code == 200
    assert len(bench.bot.feedback) == 1


async def test_double_click_is_one_feedback(bench, card):
    await bench.click(card, "triage_accept", action_ts="1700000200.000100")
    await bench.click(card, "triage_accept", action_ts="1700000200.300100")
    assert len(bench.bot.feedback) == 1
    assert bench.slack.ephemerals == []


async def test_override_asks_for_the_label_and_why(bench, card):
    await bench.click(card, "triage_override")
    view = bench.slack.views[0]
    other = bench.bot.label_set.names[2]
    await bench.submit(view, {"label": other, "why": "they mean the other thing"})
    given = bench.bot.feedback[0]
    assert (given.kind, given.value, given.reason) == (FeedbackKind.OVERRIDE, other, "they mean the other thing")
    assert f"chose *{other}* instead of *{bench.bot.label_set.names[0]}*" in show_text(bench.get_card()["blocks"])


async def test_alternative_chosen_on_the_card_is_preset_in_the_form(bench, card):
    chosen = bench.find_element(card, "triage_pick")[1]["options"][1]["value"]
    await bench.click(card, "triage_pick", chosen=chosen)
    await bench.submit(bench.slack.views[0], {})
    assert get_kinds(bench) == [(FeedbackKind.OVERRIDE, chosen, "slack:U1")]


async def test_override_with_the_suggested_label_is_an_accept(bench, card):
    await bench.click(card, "triage_override")
    await bench.submit(bench.slack.views[0], {"label": bench.bot.label_set.names[0]})
    assert get_kinds(bench) == [(FeedbackKind.ACCEPT, None, "slack:U1")]


async def test_hand_off_takes_one_optional_line_why(bench, card):
    await bench.click(card, "triage_handoff")
    await bench.submit(bench.slack.views[0], {})
    assert get_kinds(bench) == [(FeedbackKind.HANDOFF, None, "slack:U1")]
    assert bench.bot.feedback[0].reason is None
    assert "handed this off" in show_text(bench.get_card()["blocks"])


async def test_edited_reply_is_posted_to_the_thread_and_the_label_accepted(slack):
    labels = (Label("vpn", "vpn", macro="Restart it."), Label("mail", "mail"))
    bot = FakeBot(clock=FakeClock(), label_set=LabelSet("x", "1", labels))
    async with run_bench(slack, bot=bot) as bench:
        await bench.send_message(VPN, ts=TS)
        await bench.click(bench.get_card(), "triage_edit")
        view = slack.views[0]
        assert "Restart it." in json.dumps(view)
        await bench.submit(view, {"reply": "Restart it, Ann."})
        assert get_kinds(bench) == [(FeedbackKind.ACCEPT, None, "slack:U1")]
        reply = slack.get_own(CHANNEL)[1]
        assert reply["thread_ts"] == TS
        assert "Restart it, Ann." in show_text(reply["blocks"])


async def test_form_that_comes_twice_posts_its_reply_once(bench, card):
    await bench.click(card, "triage_edit")
    for _ in range(2):
        await bench.submit(bench.slack.views[0], {"reply": "Restart it."}, view_id="V-same")
    assert len(bench.bot.feedback) == 1
    assert len(bench.slack.get_own(CHANNEL)) == 2


async def test_second_person_is_told_who_was_first_and_may_decide_all_the_same(bench, card):
    first, other = bench.bot.label_set.names[0], bench.bot.label_set.names[1]
    await bench.click(card, "triage_override", user="U2")
    await bench.click(card, "triage_accept", user="U1")
    await bench.submit(bench.slack.views[0], {"label": other, "why": "because"}, user="U2")
    assert get_kinds(bench) == [(FeedbackKind.ACCEPT, None, "slack:U1")]
    told = bench.slack.ephemerals[0]
    assert told["user"] == "U2"
    assert f"<@U1> was first: accepted *{first}*" in told["text"]
    await bench.click({**told, "ts": "1.1"}, "triage_anyway", user="U2")
    assert get_kinds(bench)[1:] == [(FeedbackKind.OVERRIDE, other, "slack:U2")]
    assert bench.bot.feedback[1].reason == "because"
    assert "<@U2> chose" in show_text(bench.get_card()["blocks"])
    assert [(e["user"], "decided differently" in e["text"]) for e in bench.slack.ephemerals[1:]] == [("U1", True)]


async def test_person_who_sees_the_decision_overrides_it_at_once(bench, card):
    await bench.click(card, "triage_accept", user="U1")
    await bench.click(bench.get_card(), "triage_override", user="U2")
    await bench.submit(bench.slack.views[0], {"label": bench.bot.label_set.names[1]}, user="U2")
    assert len(bench.bot.feedback) == 2


async def test_undo_takes_the_decision_back_and_opens_the_card(bench, card):
    await bench.click(card, "triage_accept")
    await bench.click(bench.get_card(), "triage_undo")
    assert bench.bot.withdrawn == [1]
    bench.find_element(bench.get_card(), "triage_accept")
    await bench.click(bench.get_card(), "triage_accept")
    assert len(bench.bot.feedback) == 2


async def test_undo_is_for_the_person_who_decided(bench, card):
    await bench.click(card, "triage_accept", user="U1")
    await bench.click(bench.get_card(), "triage_undo", user="U2")
    assert bench.bot.withdrawn == []
    assert "Only <@U1>" in bench.slack.ephemerals[0]["text"]


async def test_undo_goes_away_after_its_time(bench, card):
    await bench.click(card, "triage_accept")
    decided = json.loads(json.dumps(bench.get_card()))
    bench.bot.clock.advance(11 * 60)
    await bench.settle()
    assert "triage_undo" not in str(bench.get_card()["blocks"])
    await bench.click(decided, "triage_undo")
    assert bench.bot.withdrawn == []
    assert "time for undoing" in bench.slack.ephemerals[0]["text"]


async def test_undo_of_what_the_core_has_replaced_is_said(bench, card, monkeypatch):
    await bench.click(card, "triage_accept")

    async def refuse(feedback_id, *, actor):
        from bot.plugin_api import ConflictError

        raise ConflictError("another decision replaced it")

    monkeypatch.setattr(bench.bot, "withdraw_feedback", refuse)
    await bench.click(bench.get_card(), "triage_undo")
    assert "another decision replaced it" in bench.slack.ephemerals[0]["text"]


async def test_click_that_came_too_late_for_a_form_is_told_so(bench, card):
    await bench.click(card, "triage_override", trigger="expired")
    assert "three seconds" in bench.slack.ephemerals[0]["text"]
    assert bench.bot.feedback == []


async def test_form_that_slack_is_too_slow_to_open_is_told_so(bench, card):
    bench.slack.limit["views.open"] = [30]
    await bench.click(card, "triage_override")
    assert "click again" in bench.slack.ephemerals[0]["text"]


@pytest.mark.parametrize("code", ["is_archived", "message_not_found", "cant_update_message"])
async def test_decision_counts_where_the_card_cannot_be_changed(bench, card, code):
    if code == "message_not_found":
        del bench.slack.messages[CHANNEL][card["ts"]]
        await bench.click(card, "triage_accept")
        assert "accepted" in show_text(bench.get_card()["blocks"])  # posted anew
    else:
        bench.slack.refuse = {"chat.update": code}
        await bench.click(card, "triage_accept")
        assert "Your decision is recorded" in bench.slack.ephemerals[0]["text"]
    assert len(bench.bot.feedback) == 1


async def test_outage_while_deciding_records_once_and_shows_it_later(bench, card):
    bench.slack.is_down = True
    await bench.click(card, "triage_accept")
    bench.slack.is_down = False
    bench.bot.clock.advance(60)
    await bench.settle()
    assert len(bench.bot.feedback) == 1
    assert "accepted" in show_text(bench.get_card()["blocks"])


async def test_refusal_of_the_core_reaches_the_person_in_its_own_words(bench, card):
    bench.bot.fail_with = BotError("this text could not be masked safely, so it was not stored; shorten it and try again")
    await bench.click(card, "triage_accept")
    assert (
        bench.slack.ephemerals[0]["text"]
        == "This text could not be masked safely, so it was not stored; shorten it and try again."
    )


async def test_click_on_an_overtaken_suggestion_is_told_so(bench, card):
    old = json.loads(json.dumps(card))
    bench.slack.add_message(CHANNEL, TS, VPN + " and mail too")
    await bench.send_shortcut("triage", bench.slack.messages[CHANNEL][TS])
    await bench.click(old, "triage_accept")
    assert bench.bot.feedback == []
    assert "newer suggestion" in bench.slack.ephemerals[0]["text"]


async def test_suggestion_renewed_in_the_console_is_shown_on_the_card_at_the_next_click(bench, card):
    bench.bot.answer = (bench.bot.label_set.names[3], 0.9)
    await bench.bot.classify("", source=SourceRef("slack", f"T1/{CHANNEL}/{TS}"))
    await bench.click(card, "triage_accept")
    assert bench.bot.feedback == []
    assert bench.bot.label_set.names[3] in show_text(bench.get_card()["blocks"][0])
    await bench.click(bench.get_card(), "triage_accept")
    assert len(bench.bot.feedback) == 1


async def test_ticket_decided_in_the_console_is_not_silently_decided_again(bench, card):
    await bench.bot.record_feedback(Feedback(1, FeedbackKind.HANDOFF, "maria", "k"))
    await bench.click(card, "triage_accept")
    assert len(bench.bot.feedback) == 1
    told = bench.slack.ephemerals[0]
    assert "maria has decided this in another place. Yours has not been recorded." in told["text"]
    await bench.click({**told, "ts": "1.1"}, "triage_anyway")
    assert [given.actor for given in bench.bot.feedback] == ["maria", "slack:U1"]


async def test_card_deleted_after_a_decision_stays_away(bench, card):
    await bench.click(card, "triage_accept")
    bench.slack.messages[CHANNEL].pop(card["ts"])
    bench.bot.clock.advance(11 * 60)
    await bench.settle()
    assert bench.slack.get_own(CHANNEL) == []
    assert bench.plugin.queue.errors == []


async def test_decided_ticket_is_not_suggested_again(bench, card):
    await bench.click(card, "triage_accept", user="U3")
    await bench.send_shortcut("triage", bench.slack.messages[CHANNEL][TS])
    assert "<@U3> has already decided" in bench.slack.ephemerals[0]["text"]
    assert len(bench.bot.calls) == 1


async def test_cards_known_only_to_slack_can_still_be_decided(bench, card):
    bench.bot.stores["slack"]._values.clear()  # a restored database, say
    await bench.click(card, "triage_accept")
    assert len(bench.bot.feedback) == 1
