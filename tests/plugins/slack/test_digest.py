"""The weekly digest: when it is due, what it says, and that it comes once."""

from datetime import UTC, datetime, timedelta

import pytest

from bot.plugin_api import FeedbackKind, LabelRate
from bot.testing import FakeBot, FakeClock
from plugins.slack import digest
from tests.plugins.slack.fake_slack import FakeSlack
from tests.plugins.slack.slack_helpers import make_settings, run_bench, show_text

MONDAY = datetime(2026, 3, 2, 9, 5, tzinfo=UTC)
CHANNEL = "C9"


@pytest.fixture
async def slack():
    fake = FakeSlack()
    await fake.start()
    yield fake
    await fake.stop()
    assert fake.faults == []


def rate(label, n_decided, n_overridden):
    return LabelRate(label, n_decided, n_overridden, n_decided, 0.1, 0.1)


@pytest.mark.parametrize(
    ("now", "due", "week"),
    [
        (MONDAY, "2026-03-02T09:00", "2026-W10"),
        (MONDAY - timedelta(minutes=6), "2026-02-23T09:00", "2026-W09"),
        (datetime(2027, 1, 3, 12, tzinfo=UTC), "2026-12-28T09:00", "2026-W53"),
    ],
)
def test_last_due_time_and_week(now, due, week):
    found = digest.find_last_due(make_settings("http://x"), now)
    assert found.isoformat(timespec="minutes").startswith(due)
    assert digest.name_week(found) == week


def test_due_time_follows_the_time_zone():
    found = digest.find_last_due(make_settings("http://x", timezone="Asia/Tokyo"), MONDAY)
    assert found.astimezone(UTC).hour == 0


def test_repair_target_is_the_label_with_the_worst_rate_among_those_with_some_decisions():
    found = digest.find_repair_target([rate("rare", 1, 1), rate("vpn", 10, 4), rate("email", 30, 9), rate("good", 9, 0)])
    assert found.label == "vpn"
    assert digest.find_repair_target([rate("good", 9, 0)]) is None


async def test_digest_is_posted_once_though_two_processes_have_it_due(slack):
    bot = FakeBot(clock=FakeClock(MONDAY))
    async with run_bench(slack, bot=bot, digest_channel=CHANNEL) as bench:
        await bench.settle()
        assert len(slack.get_own(CHANNEL)) == 1
    async with run_bench(slack, bot=bot, digest_channel=CHANNEL) as bench:
        assert await bench.plugin.digest.put_due() is False
        await bench.settle()
        assert len(slack.get_own(CHANNEL)) == 1
        bot.clock.advance(7 * 86400)
        assert await bench.plugin.digest.put_due() is True
        await bench.settle()
        assert len(slack.get_own(CHANNEL)) == 2


async def test_digest_says_target_examples_quality_and_time_as_an_estimate(slack):
    bot = FakeBot(clock=FakeClock(MONDAY))

    async def list_rates(*, days=7):
        return [rate("<vpn>", 10, 4)] if days == 7 else []

    async def count(*, actor=None, days=30):
        return {FeedbackKind.ACCEPT: 30, FeedbackKind.OVERRIDE: 10} if (actor, days) == (None, 7) else {}

    bot.inbox.list_label_rates, bot.inbox.count_decisions = list_rates, count
    async with run_bench(slack, bot=bot, digest_channel=CHANNEL, minutes_per_accepted=2) as bench:
        await bench.settle()
    shown = show_text(slack.get_own(CHANNEL)[0]["blocks"])
    assert "*&lt;vpn&gt;*, overridden in 4 of 10 decisions (40%)" in shown
    assert "75% of 40 decisions accepted" in shown
    assert "about 60 minutes, an estimate: 30 accepted × 2 min each" in shown
    assert "*Examples collected:*" in shown


async def test_second_week_says_how_many_examples_are_new(slack):
    bot = FakeBot(clock=FakeClock(MONDAY))
    async with run_bench(slack, bot=bot, digest_channel=CHANNEL) as bench:
        await bench.settle()
        bot.clock.advance(7 * 86400)
        await bench.plugin.digest.put_due()
        await bench.settle()
    assert "more than a week ago" in show_text(slack.get_own(CHANNEL)[1]["blocks"])


@pytest.mark.parametrize("changes", [{}, {"digest_channel": CHANNEL, "digest_at": "thu 09:00"}])
async def test_no_digest_without_a_channel_or_long_after_its_time(slack, changes):
    async with run_bench(slack, bot=FakeBot(clock=FakeClock(MONDAY)), **changes) as bench:
        await bench.settle()
        assert slack.get_own(CHANNEL) == []


async def test_digest_waits_for_slack(slack):
    bot = FakeBot(clock=FakeClock(MONDAY))
    async with run_bench(slack, bot=bot, digest_channel=CHANNEL) as bench:
        await bench.settle()
        bot.clock.advance(7 * 86400)
        slack.limit["chat.postMessage"] = [1]
        await bench.plugin.digest.put_due()
        await bench.settle()
        assert len(slack.get_own(CHANNEL)) == 1
        bench.plugin.client._not_before.clear()
        bot.clock.advance(5)
        await bench.settle()
        assert len(slack.get_own(CHANNEL)) == 2


@pytest.mark.parametrize(("name", "value"), [("digest_at", "monday 9"), ("timezone", "Mars/One"), ("digest_channel", "#team")])
def test_wrong_setting_is_refused(name, value):
    with pytest.raises(ValueError, match=r"must be|time zone"):
        make_settings("http://x", **{name: value})
