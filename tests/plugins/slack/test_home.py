"""The home tab: what each person sees, and settling questions from it."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from bot.plugin_api import FeedbackKind, LabelRate, ReviewStatus
from bot.testing import FakeBot, FakeClock
from plugins.slack import home
from tests.plugins.slack.manager_helpers import MANAGER, ManagerSlack, click_home, run_managed
from tests.plugins.slack.slack_helpers import show_text

MASKED = "lost a laptop"


@pytest.fixture
async def slack():
    fake = ManagerSlack()
    await fake.start()
    yield fake
    await fake.stop()
    assert fake.faults == []


@pytest.fixture
async def managed(slack):
    clock = FakeClock(datetime.now(UTC))
    bot = FakeBot(clock=clock)
    bot.manager.load_samples(clock.now())
    async with run_managed(slack, bot=bot) as bench:
        yield bench


async def open_home(bench, user):
    await bench.send_event({"type": "app_home_opened", "user": user, "channel": "D1", "tab": "home", "event_ts": "1.1"})
    return show_text(bench.slack.homes[user]["blocks"])


async def test_home_shows_my_numbers_what_is_live_and_the_queue(managed):
    asked = []

    async def count(*, actor=None, days=30):
        asked.append((actor, days))
        return {FeedbackKind.ACCEPT: 7, FeedbackKind.OVERRIDE: 2}

    managed.bot.inbox.count_decisions = count
    shown = await open_home(managed, "U9")
    assert asked == [("slack:U9", 30)]
    assert "*7*\naccepted" in shown
    assert "*0*\nedited" in shown
    assert "Suggestions are *on*" in shown
    assert "Two people disagree: *Account access* or *Security incident*" in shown


async def test_masked_texts_rates_and_buttons_are_for_managers_alone(managed):
    shown, raw = await open_home(managed, "U9"), json.dumps(managed.slack.homes["U9"])
    assert MASKED not in raw
    assert "home_resolve" not in raw
    assert "Labels in the last 7 days" not in shown
    shown = await open_home(managed, MANAGER)
    assert f"&lt;PERSON_1&gt; {MASKED}" in shown
    assert "Labels in the last 7 days" in shown


async def test_rates_say_overrides_and_drift():
    rate = LabelRate("vpn", n_decided=8, n_overridden=2, n_suggested=10, share=0.5, share_before=0.3)
    shown = show_text(home.build_rates([rate, replace(rate, label="new", share_before=None), replace(rate, n_decided=0)]))
    assert "*vpn*: 25% overridden (2 of 8), suggested for 50% of tickets (+20 points)" in shown
    assert "(new)" in shown


async def test_manager_settles_a_question_with_a_label_and_the_tab_follows(managed):
    label = managed.bot.label_set.names[1]
    await open_home(managed, MANAGER)
    await click_home(managed, "home_resolve", user=MANAGER, block_id="review/1", selected_option={"value": label})
    item = managed.bot.manager.reviews[1]
    assert (item.status, item.resolution, item.resolved_by) == (ReviewStatus.RESOLVED, label, f"slack:{MANAGER}")
    assert "Two people disagree" not in show_text(managed.slack.homes[MANAGER]["blocks"])


@pytest.mark.parametrize(
    ("action", "status", "resolution"),
    [("home_withdraw", ReviewStatus.RESOLVED, "withdrawn"), ("home_dismiss", ReviewStatus.DISMISSED, None)],
)
async def test_manager_withdraws_or_leaves_a_question(managed, action, status, resolution):
    await click_home(managed, action, user=MANAGER, block_id="review/2", value="2")
    assert (managed.bot.manager.reviews[2].status, managed.bot.manager.reviews[2].resolution) == (status, resolution)


async def test_second_manager_is_told_who_was_first_and_sees_the_tab_as_it_is(managed):
    await managed.bot.manager.dismiss_review(1, actor="slack:UOTHER")
    await click_home(managed, "home_dismiss", user=MANAGER, block_id="review/1", value="1")
    assert "is dismissed already, by slack:UOTHER" in managed.slack.get_own(f"D{MANAGER}")[0]["text"]
    assert "Two people disagree" not in show_text(managed.slack.homes[MANAGER]["blocks"])


async def test_long_queue_and_large_label_set_stay_within_slacks_limits(managed):
    first = managed.bot.manager.reviews[1]
    sides = tuple(replace(side, text="word " * 2000) for side in first.sides)
    managed.bot.manager.reviews = {n: replace(first, id=n, sides=sides) for n in range(1, 60)}
    assert "more" in await open_home(managed, MANAGER)  # the fake Slack checks the limits


async def test_messages_tab_publishes_nothing(managed):
    await managed.send_event({"type": "app_home_opened", "user": "U9", "tab": "messages"})
    assert managed.slack.homes == {}


async def test_unmasked_text_of_a_ticket_never_reaches_the_home_tab(managed):
    await managed.send_message("call me at 0151 1234567 about the vpn", ts="1700000000.000100")
    await open_home(managed, MANAGER)
    assert "0151" not in json.dumps(managed.slack.homes)
