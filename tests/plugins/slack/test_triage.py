"""From a message to its card."""

import pytest

from bot.plugin_api import Label, LabelSet
from bot.testing import FakeBot, FakeClock
from tests.plugins.slack.slack_helpers import CHANNEL, run_bench, show_text

TS = "1700000000.000100"
VPN = "my vpn does not connect since the update"


async def test_new_message_of_a_named_channel_gets_one_card_in_its_thread(bench):
    answer = await bench.send_message(VPN, ts=TS)
    assert answer.status_code == 200
    card = bench.get_card()
    assert card["thread_ts"] == TS
    assert bench.bot.calls == [("classify", f"T1/{CHANNEL}/{TS}")]


async def test_card_shows_label_confidence_alternatives_reply_reason_and_who_answered(bench):
    bench.bot.answer = (bench.bot.label_set.names[0], 0.93)
    label = bench.bot.label_set.labels[0]
    await bench.send_message(VPN, ts=TS)
    card = bench.get_card()
    shown = show_text(card["blocks"])
    assert f"*{label.name}* (very sure, 93 %)" in shown
    assert "Shares words with" in shown
    assert "Answered by" in shown
    menu = bench.find_element(card, "triage_pick")[1]
    assert label.name not in [option["value"] for option in menu["options"]]
    for action in ("triage_accept", "triage_override", "triage_edit", "triage_handoff"):
        bench.find_element(card, action)


async def test_unsure_suggestion_is_asked_not_claimed(bench):
    name = bench.bot.label_set.names[0]
    bench.bot.answer = (name, 0.3)
    await bench.send_message(VPN, ts=TS)
    assert show_text(bench.get_card()["blocks"]).startswith(f"Is this *{name}*? I am not sure, 30 %.")


async def test_blind_ticket_hides_the_suggestion_until_somebody_has_chosen(bench):
    bench.bot.is_blind = True
    name = bench.bot.label_set.names[0]
    bench.bot.answer = (name, 0.9)
    await bench.send_message(VPN, ts=TS)
    card = bench.get_card()
    assert "very sure" not in show_text(card["blocks"])
    assert "triage_accept" not in str(card["blocks"])
    assert name not in card["text"]
    menu = bench.find_element(card, "triage_choose")[1]
    assert [option["value"] for option in menu["options"]] == list(bench.bot.label_set.names)
    other = bench.bot.label_set.names[1]
    await bench.click(card, "triage_choose", chosen=other)
    assert [(f.kind.value, f.value) for f in bench.bot.feedback] == [("override", other)]
    assert f"the model had said *{name}*" in show_text(bench.get_card()["blocks"])


async def test_event_delivered_three_times_makes_one_card(bench):
    for _ in range(3):
        answer = await bench.send_message(VPN, ts=TS, event_id="Ev-again")
        assert answer.status_code == 200
    bench.get_card()
    assert len(bench.bot.calls) == 1


@pytest.mark.parametrize(
    "event",
    [
        {"subtype": "message_changed", "hidden": True, "message": {"text": "edited"}},
        {"subtype": "bot_message", "bot_id": "B9"},
        {"bot_id": "B9"},
        {"user": "UBOT"},
        {"subtype": "channel_join"},
        {"thread_ts": "1690000000.000100"},
        {"channel": "C2"},
        {"text": "   "},
    ],
    ids=["edited", "bot message", "bot user", "own", "joined", "reply", "another channel", "no words"],
)
async def test_message_that_is_no_new_ticket_is_acknowledged_and_left_alone(bench, event):
    inner = {"type": "message", "channel": CHANNEL, "user": "U1", "text": VPN, "ts": TS, **event}
    assert (await bench.send_event(inner)).status_code == 200
    assert bench.bot.calls == []
    assert bench.slack.get_own(CHANNEL) == []


async def test_settings_open_replies_and_other_apps(slack):
    async with run_bench(slack, triage_replies=True, triage_bots=True) as bench:
        await bench.send_message(VPN, ts="1700000000.000200", thread_ts=TS)
        await bench.send_event(
            {"type": "message", "subtype": "bot_message", "bot_id": "B9", "channel": CHANNEL, "text": "mail: vpn", "ts": TS}
        )
        assert len(bench.bot.calls) == 2
        assert slack.get_own(CHANNEL)[0]["thread_ts"] == TS


async def test_own_message_is_never_triaged_even_where_other_apps_are(slack):
    async with run_bench(slack, triage_bots=True) as bench:
        inner = {"type": "message", "bot_id": "B5", "app_id": "A1", "channel": CHANNEL, "text": "a card", "ts": TS}
        await bench.send_event(inner)
        assert bench.bot.calls == []


async def test_channel_with_labels_of_its_own_chooses_among_them(slack):
    bot = FakeBot(clock=FakeClock())
    labels = bot.label_set.names[2:4]
    async with run_bench(slack, channels={CHANNEL: labels}) as bench:
        await bench.send_message(VPN, ts=TS)
        card = bench.get_card()
        options = bench.find_element(card, "triage_pick")[1]["options"]
        assert {option["value"] for option in options} < set(labels)


async def test_blind_ticket_of_such_a_channel_offers_its_labels_alone(slack):
    bot = FakeBot(clock=FakeClock())
    bot.is_blind = True
    labels = bot.label_set.names[2:5]
    async with run_bench(slack, bot=bot, channels={CHANNEL: labels}) as bench:
        await bench.send_message(VPN, ts=TS)
        options = bench.find_element(bench.get_card(), "triage_choose")[1]["options"]
        assert tuple(option["value"] for option in options) == labels


async def test_shortcut_triages_the_message_it_was_used_on(bench):
    bench.slack.add_message("C7", TS, VPN)
    await bench.send_shortcut("triage", bench.slack.messages["C7"][TS], channel="C7")
    assert bench.get_card("C7")["thread_ts"] == TS


async def test_shortcut_on_a_reply_answers_in_its_thread(bench):
    bench.slack.add_message("C7", "1700000000.000200", VPN, thread_ts=TS)
    await bench.send_shortcut("triage", bench.slack.messages["C7"]["1700000000.000200"], channel="C7")
    assert bench.get_card("C7")["thread_ts"] == TS
    assert bench.bot.calls == [("classify", "T1/C7/1700000000.000200")]


async def test_mention_in_a_thread_triages_its_first_message(bench):
    bench.slack.add_message("C7", TS, VPN)
    reply = "1700000000.000300"
    bench.slack.add_message("C7", reply, "<@UBOT> what is this?", thread_ts=TS)
    inner = {"type": "app_mention", "user": "U2", "text": "<@UBOT> what is this?", "ts": reply, "thread_ts": TS, "channel": "C7"}
    await bench.send_event(inner)
    assert bench.bot.calls == [("classify", f"T1/C7/{TS}")]
    assert bench.get_card("C7")["thread_ts"] == TS


async def test_mention_outside_of_a_thread_triages_what_it_says(bench):
    inner = {"type": "app_mention", "user": "U2", "text": f"<@UBOT> {VPN}", "ts": TS, "channel": "C7"}
    bench.slack.add_message("C7", TS, inner["text"])
    await bench.send_event(inner)
    assert bench.get_card("C7")["thread_ts"] == TS


async def test_message_that_mentions_the_bot_in_a_named_channel_gets_one_card(bench):
    await bench.send_message(f"<@UBOT> {VPN}", ts=TS)
    await bench.send_event({"type": "app_mention", "user": "U1", "text": f"<@UBOT> {VPN}", "ts": TS, "channel": CHANNEL})
    bench.get_card()


async def test_mention_that_asks_for_help_is_answered_to_the_person_alone(bench):
    await bench.send_event({"type": "app_mention", "user": "U2", "text": "<@UBOT> help", "ts": TS, "channel": "C7"})
    assert [e["user"] for e in bench.slack.ephemerals] == ["U2"]
    assert bench.slack.get_own("C7") == []


@pytest.mark.parametrize("query", ["", "?thread_ts=1700000000.000100&cid=C7"])
async def test_command_with_a_link_triages_the_linked_message_where_it_stands(bench, query):
    ts = "1700000000.000200" if query else TS
    bench.slack.add_message("C7", TS, "first")
    bench.slack.add_message("C7", ts, VPN, thread_ts=TS if query else None)
    link = f"https://x.slack.com/archives/C7/p{ts.replace('.', '')}{query}"
    await bench.send_command("/triage", f"<{link}>", channel="C1")
    assert bench.bot.calls == [("classify", f"T1/C7/{ts}")]
    assert bench.get_card("C7")["thread_ts"] == TS
    assert bench.slack.get_own("C1") == []


async def test_command_with_a_text_makes_a_card_of_its_own(bench):
    await bench.send_command("/triage", "our payload of the vpn is broken", trigger="t-once")
    await bench.send_command("/triage", "our payload of the vpn is broken", trigger="t-once")
    card = bench.get_card()
    assert "thread_ts" not in card
    assert bench.bot.calls == [("classify", f"T1/{CHANNEL}/{card['ts']}")]
    assert "Suggestion" in show_text(card["blocks"]) or "Is this" in show_text(card["blocks"])


async def test_command_without_words_explains_itself_to_the_person_alone(bench):
    await bench.send_command("/triage", "")
    assert "/triage" in bench.slack.ephemerals[0]["text"]
    assert bench.bot.calls == []


async def test_linked_message_that_is_gone_is_said(bench):
    bench.slack.add_message("C7", "1700000000.000999", "another", thread_ts=TS)
    await bench.send_command("/triage", f"https://x.slack.com/archives/C7/p{TS.replace('.', '')}")
    assert "deleted" in bench.slack.ephemerals[0]["text"]


async def test_channel_without_the_bot_is_said_at_the_address_of_the_command(bench):
    bench.slack.refuse = {"chat.postMessage": "not_in_channel", "chat.postEphemeral": "not_in_channel"}
    await bench.send_command("/triage", VPN)
    assert "/invite" in bench.slack.answers[0]["text"]


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("is_archived", "archived"),
        ("missing_scope", "permission"),
        ("restricted_action", "administrator"),
        ("odd_new_code", "odd_new_code"),
    ],
)
async def test_refusal_is_said_in_a_direct_message_where_nothing_else_reaches_the_person(bench, code, said):
    message = {"type": "message", "user": "U1", "text": VPN, "ts": TS}
    bench.slack.refuse = {"chat.postEphemeral": "channel_not_found"}
    original = bench.slack._chat_postMessage
    bench.slack._chat_postMessage = lambda a: original(a) if a["channel"].startswith("D") else {"ok": False, "error": code}
    await bench.send_shortcut("triage", message, channel="C7", response_url="")
    told = bench.slack.get_own("DU1")
    assert len(told) == 1
    assert said in told[0]["text"]


async def test_slack_outage_loses_nothing(bench):
    bench.slack.is_down = True
    assert (await bench.send_message(VPN, ts=TS)).status_code == 200
    bench.slack.is_down = False
    bench.bot.clock.advance(60)
    await bench.settle()
    bench.get_card()


async def test_rate_limit_is_waited_for_as_long_as_slack_asks(bench):
    bench.slack.limit["chat.postMessage"] = [7]
    await bench.send_message(VPN, ts=TS)
    assert bench.slack.get_own(CHANNEL) == []
    bench.plugin.client._not_before.clear()  # its clock is the machine's
    bench.bot.clock.advance(6)
    await bench.settle()
    assert bench.slack.get_own(CHANNEL) == []
    bench.bot.clock.advance(2)
    await bench.settle()
    bench.get_card()


async def test_answer_that_got_lost_on_the_way_makes_no_second_card(bench):
    bench.slack.lost["chat.postMessage"] = 1
    await bench.send_message(VPN, ts=TS)
    bench.bot.clock.advance(60)
    await bench.settle()
    bench.get_card()
    assert bench.slack.counts["chat.postMessage"] == 1


async def test_paused_bot_posts_nothing_by_itself_and_says_so_when_asked(bench):
    bench.bot.is_paused = True
    await bench.send_message(VPN, ts=TS)
    assert bench.slack.get_own(CHANNEL) == []
    bench.slack.add_message("C7", TS, VPN)
    await bench.send_shortcut("triage", bench.slack.messages["C7"][TS], channel="C7")
    assert "paused" in show_text(bench.get_card("C7")["blocks"])


async def test_ticket_that_could_not_be_masked_says_so_on_the_card(bench):
    bench.bot.is_masking_broken = True
    await bench.send_message(VPN, ts=TS)
    assert "could not be masked" in show_text(bench.get_card()["blocks"])


async def test_deleted_message_leaves_a_card_that_says_so(bench):
    await bench.send_message(VPN, ts=TS)
    await bench.send_event(
        {
            "type": "message",
            "subtype": "message_deleted",
            "hidden": True,
            "channel": CHANNEL,
            "ts": "1700000001.000001",
            "deleted_ts": TS,
            "previous_message": {"type": "message", "user": "U1", "ts": TS, "text": VPN},
        }
    )
    assert "was deleted" in show_text(bench.get_card()["blocks"])


async def test_deleted_card_comes_anew_when_asked_for(bench):
    await bench.send_message(VPN, ts=TS)
    card = bench.get_card()
    del bench.slack.messages[CHANNEL][card["ts"]]
    await bench.send_event(
        {
            "type": "message",
            "subtype": "message_deleted",
            "hidden": True,
            "channel": CHANNEL,
            "ts": "1700000001.000001",
            "deleted_ts": card["ts"],
            "previous_message": card,
        }
    )
    await bench.send_shortcut("triage", bench.slack.messages[CHANNEL][TS])
    assert bench.get_card()["ts"] != card["ts"]


async def test_long_reply_unfolds_and_folds(slack):
    macro = "Please restart the client.\n" * 20
    bot = FakeBot(clock=FakeClock(), label_set=LabelSet("x", "1", (Label("vpn", "vpn", macro=macro), Label("mail", "mail"))))
    async with run_bench(slack, bot=bot) as bench:
        await bench.send_message(VPN, ts=TS)
        assert macro not in show_text(bench.get_card()["blocks"])
        await bench.click(bench.get_card(), "triage_unfold")
        assert macro in show_text(bench.get_card()["blocks"])
        await bench.click(bench.get_card(), "triage_unfold")
        assert macro not in show_text(bench.get_card()["blocks"])


async def test_markup_in_the_models_words_becomes_plain_text(slack):
    label = Label("a <!channel> & b", "vpn <@U1>", queue="<https://x|click>", macro="<!here>")
    bot = FakeBot(clock=FakeClock(), label_set=LabelSet("x", "1", (label, Label("mail", "mail"))))
    async with run_bench(slack, bot=bot) as bench:
        await bench.send_message(VPN, ts=TS)
        mrkdwn = [b["text"]["text"] for b in bench.get_card()["blocks"] if b.get("text", {}).get("type") == "mrkdwn"]
        assert any("a &lt;!channel&gt; &amp; b" in text for text in mrkdwn)
        assert not any("<!" in text for text in mrkdwn)


async def test_label_set_of_hundreds_still_fits_the_card(slack):
    labels = tuple(Label(f"label number {n} " + "x" * (n % 90), "vpn" if n == 0 else "words") for n in range(250))
    bot = FakeBot(clock=FakeClock(), label_set=LabelSet("big", "1", labels))
    bot.is_blind = True
    async with run_bench(slack, bot=bot) as bench:
        await bench.send_message(VPN, ts=TS)
        menu = bench.find_element(bench.get_card(), "triage_choose")[1]
        assert sum(len(group["options"]) for group in menu["option_groups"]) == 250
