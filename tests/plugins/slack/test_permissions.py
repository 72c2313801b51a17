"""Who may do what managers do."""

import logging

import pytest

from tests.plugins.slack.manager_helpers import MANAGER, ManagerSlack, click_home, run_managed, submit_form


@pytest.fixture
async def slack():
    fake = ManagerSlack()
    await fake.start()
    yield fake
    await fake.stop()
    assert fake.faults == []


@pytest.mark.parametrize("named", ["S1", MANAGER, "C77", "G77"])
async def test_group_person_and_channel_may(slack, named):
    slack.groups |= {"C77": [MANAGER], "G77": [MANAGER]}
    async with run_managed(slack, managers=(named,)) as bench:
        await bench.send_command("/pause", "", user=MANAGER)
        assert bench.bot.is_paused
        await bench.send_command("/resume", "", user="UNOBODY")
        assert bench.bot.is_paused


@pytest.mark.parametrize("command", ["/retrain", "/rollback", "/pause", "/resume"])
async def test_others_are_refused_politely_and_the_try_is_audited_without_text(slack, command, caplog):
    caplog.set_level(logging.INFO)
    async with run_managed(slack) as bench:
        await bench.send_command(command, "secret words", user="U9")
        assert "only managers may" in slack.ephemerals[-1]["text"]
        assert slack.views == []
        assert [(actor, what) for actor, what, _ in bench.bot.manager.audit] == [("slack:U9", "refused")]
        assert "secret words" not in str(bench.bot.manager.audit)
    assert "secret words" not in caplog.text


async def test_form_of_somebody_who_is_no_manager_any_more_starts_nothing(slack):
    async with run_managed(slack) as bench:
        await bench.send_command("/retrain", "", user=MANAGER)
        await submit_form(bench, slack.views[-1], user="U9")
        assert bench.bot.manager.runs == {}


async def test_nobody_named_means_nobody_may(slack):
    async with run_managed(slack, managers=()) as bench:
        await bench.send_command("/pause", "", user=MANAGER)
        assert "UNDERSTUDY_SLACK_MANAGERS" in slack.ephemerals[-1]["text"]
        assert not bench.bot.is_paused


@pytest.mark.parametrize("code", ["missing_scope", "no_such_subteam"])
async def test_group_that_cannot_be_read_has_no_members(slack, code):
    slack.refuse["usergroups.users.list"] = code
    async with run_managed(slack) as bench:
        await bench.send_command("/pause", "", user=MANAGER)
        assert not bench.bot.is_paused


async def test_members_are_asked_for_once_in_five_minutes(slack):
    async with run_managed(slack) as bench:
        for _ in range(3):
            await bench.send_command("/pause", "", user=MANAGER)
        assert slack.counts["usergroups.users.list"] == 1
        slack.groups["S1"] = []
        bench.bot.clock.advance(301)
        await bench.send_command("/resume", "", user=MANAGER)
        assert bench.bot.is_paused


async def test_outage_while_asking_brings_the_command_back_later(slack):
    async with run_managed(slack) as bench:
        slack.limit["usergroups.users.list"] = [1]
        await bench.send_command("/pause", "", user=MANAGER)
        assert not bench.bot.is_paused
        bench.plugin.desk.client._not_before.clear()
        bench.bot.clock.advance(2)
        await bench.settle()
        assert bench.bot.is_paused


async def test_buttons_of_managers_do_nothing_for_others(slack):
    async with run_managed(slack) as bench:
        bench.bot.manager.load_samples(bench.bot.clock.now())
        for action in ("home_dismiss", "home_withdraw"):
            await click_home(bench, action, user="U9", block_id="review/1", value="1")
        assert {what for _, what, _ in bench.bot.manager.audit} == {"refused"}
        assert "only managers may" in slack.get_own("DU9")[0]["text"]
