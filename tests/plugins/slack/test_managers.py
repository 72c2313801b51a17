"""Training, promoting, rolling back and pausing from Slack."""

import asyncio
import dataclasses
import json
from datetime import UTC, datetime
from urllib.parse import urlencode

import pytest

from bot.plugin_api import AdapterStatus, RunStatus, TaskKind
from bot.testing import FakeBot, FakeClock
from plugins.slack import reports
from plugins.slack.transports import parse_body
from tests.plugins.slack import contracts
from tests.plugins.slack.manager_helpers import MANAGER, ManagerSlack, run_managed, submit_form
from tests.plugins.slack.slack_helpers import CHANNEL, run_bench, show_text
from tests.plugins.slack.test_recorded import load_cases, post


@pytest.fixture
async def slack():
    fake = ManagerSlack()
    await fake.start()
    yield fake
    await fake.stop()
    assert fake.faults == []


@pytest.fixture
async def managed(slack):
    async with run_managed(slack) as bench:
        yield bench


def make_bot_with_samples():
    clock = FakeClock(datetime.now(UTC))
    bot = FakeBot(clock=clock)
    bot.manager.load_samples(clock.now())
    return bot


async def start_run(bench, *, user=MANAGER, command="/retrain", text=""):
    await bench.send_command(command, text, user=user)
    await submit_form(bench, bench.slack.views[-1], user=user)


@pytest.mark.parametrize(("command", "text"), [("/retrain", ""), ("/understudy", "retrain")])
async def test_retrain_shows_what_would_be_used_and_what_not(managed, command, text):
    await managed.send_command(command, text, user=MANAGER)
    waiting, view = managed.slack.views
    assert "submit" not in waiting
    shown = show_text(view["blocks"])
    assert "23 × near-duplicate of another ticket" in shown
    assert all(name[:30] in shown for name in managed.bot.label_set.names)
    assert view["submit"]["text"] == "Start"


async def test_retrain_for_summaries_counts_summaries(managed):
    await managed.send_command("/retrain", "summaries", user=MANAGER)
    assert json.loads(managed.slack.views[-1]["private_metadata"])["task"] == "summary"


async def test_nothing_to_train_on_is_said_and_cannot_be_started(managed):
    managed.bot.manager.is_enough = False
    await managed.send_command("/retrain", "", user=MANAGER)
    assert "Too few examples: 3 of the 20" in show_text(managed.slack.views[-1]["blocks"])
    assert "submit" not in managed.slack.views[-1]


async def test_run_is_followed_in_place_to_the_verdict_with_table_and_plot(managed):
    await start_run(managed)
    assert "waits for its turn" in managed.get_card()["text"]
    await managed.plugin.runs.join()
    card = managed.get_card()
    assert card["n_updates"] > 5
    assert "is live" in card["text"]
    shown = show_text(card["blocks"])
    assert "Accuracy rose from 82.3 %" in shown
    assert "82.3%    87.2%" in shown
    assert len(managed.slack.uploads) == 1
    assert managed.slack.uploads[0].startswith(b"\x89PNG")
    assert managed.bot.manager.runs[1].actor == f"slack:{MANAGER}"
    assert await managed.plugin.desk.store.get_all("followed/") == {}


async def test_submission_delivered_twice_starts_one_run(managed):
    await managed.send_command("/retrain", "", user=MANAGER)
    await submit_form(managed, managed.slack.views[-1])
    _, body = managed.sent[-1]
    await managed.send(body, form=True)
    assert len(managed.bot.manager.runs) == 1
    assert managed.slack.ephemerals == []


async def test_second_run_is_refused_while_one_is_going(managed):
    await start_run(managed)
    await start_run(managed)
    assert "A training run is already going" in managed.slack.ephemerals[-1]["text"]


async def test_run_is_taken_up_again_after_a_restart_on_the_same_message(slack):
    bot = FakeBot(clock=FakeClock(datetime.now(UTC)))
    async with run_managed(slack, bot=bot) as bench:
        await start_run(bench)
    async with run_managed(slack, bot=bot) as bench:
        await bench.plugin.runs.join()
        assert "is live" in bench.get_card()["text"]
        assert len(slack.uploads) == 1


async def test_start_of_the_plugin_takes_up_what_was_followed(slack):
    bot = FakeBot(clock=FakeClock(datetime.now(UTC)))
    async with run_managed(slack, bot=bot) as bench:
        await start_run(bench)
    bot.clock.advance(60)
    async with run_bench(slack, bot=bot) as bench, asyncio.timeout(30):
        while await bench.plugin.desk.store.get_all("followed/"):  # noqa: ASYNC110  nothing tells when it has ended
            await asyncio.sleep(0.01)
        assert "is live" in bench.get_card()["text"]


async def test_run_that_another_process_follows_is_left_to_it(managed):
    await start_run(managed)
    await managed.plugin.desk.store.add("follow-lease/1", {"owner": "other"}, expires_in_s=15)
    await managed.plugin.runs.join()
    assert "waits for its turn" in managed.get_card()["text"]
    managed.bot.clock.advance(16)
    await managed.plugin.runs.join()
    assert "is live" in managed.get_card()["text"]


async def test_rate_limit_of_updates_is_waited_out_and_the_end_is_shown(managed):
    await start_run(managed)
    managed.bot.clock.advance(60)
    managed.slack.limit["chat.update"] = [1]
    managed.plugin.desk.client._not_before.clear()

    async def wait(_):
        managed.plugin.desk.client._not_before.clear()

    managed.plugin.runs._sleep = wait
    await managed.plugin.runs.join()
    assert "is live" in managed.get_card()["text"]


async def test_verdict_reaches_the_starter_directly_where_the_message_is_out_of_reach(managed):
    await start_run(managed)
    managed.slack.refuse["chat.update"] = "is_archived"
    await managed.plugin.runs.join()
    assert "is live" in managed.slack.get_own(f"D{MANAGER}")[0]["text"]


async def test_run_started_where_the_bot_is_not_is_shown_directly(managed):
    original = managed.slack._chat_postMessage
    managed.slack._chat_postMessage = lambda a: (
        {"ok": False, "error": "not_in_channel"} if a["channel"] == CHANNEL else original(a)
    )
    await start_run(managed)
    assert "waits for its turn" in managed.slack.get_own(f"D{MANAGER}")[0]["text"]


async def prepare_candidate(bench):
    bench.bot.manager.outcome = RunStatus.AWAITING_APPROVAL
    await start_run(bench)
    await bench.plugin.runs.join()
    return bench.get_card()


async def test_promote_makes_the_candidate_live_and_says_by_whom(managed):
    card = await prepare_candidate(managed)
    await managed.click(card, "run_promote", user=MANAGER)
    assert managed.bot.manager.live(TaskKind.CLASSIFICATION) != "base"
    assert f"Promoted by <@{MANAGER}>" in show_text(managed.get_card()["blocks"])


async def test_two_person_approval_says_who_is_missing_and_keeps_the_buttons(slack):
    slack.groups["S1"].append("UTWO")
    async with run_managed(slack) as bench:
        bench.bot.manager.approvers_needed = 2
        card = await prepare_candidate(bench)
        await bench.click(card, "run_promote", user=MANAGER)
        card = bench.get_card()
        assert "one more person is needed" in show_text(card["blocks"])
        await bench.click(card, "run_promote", user="UTWO")
        assert bench.bot.manager.live(TaskKind.CLASSIFICATION) != "base"
        assert "Promoted by <@UTWO>" in show_text(bench.get_card()["blocks"])


async def test_a_rejected_candidate_ends_its_run_and_nothing_goes_live(managed):
    card = await prepare_candidate(managed)
    await managed.click(card, "run_reject", user=MANAGER)
    (run,) = [run for run in managed.bot.manager.runs.values() if run.status is RunStatus.REJECTED]
    assert managed.bot.manager.audit[-1] == (f"slack:{MANAGER}", "reject", run.adapter_digest)
    assert f"Turned down by <@{MANAGER}>" in show_text(managed.get_card()["blocks"])
    assert managed.bot.manager.live(TaskKind.CLASSIFICATION) == "base"


async def test_rollback_says_what_it_goes_back_to_and_does_it(slack):
    async with run_managed(slack, bot=make_bot_with_samples()) as bench:
        live = bench.bot.manager.live(TaskKind.CLASSIFICATION)
        await bench.send_command("/rollback", "", user=MANAGER)
        view = slack.views[-1]
        assert live[:12] in show_text(view["blocks"])
        await submit_form(bench, view, why="worse on vpn")
        now = bench.bot.manager.live(TaskKind.CLASSIFICATION)
        assert now != live
        assert now[:12] in show_text(view["blocks"])
        assert now[:12] in slack.ephemerals[-1]["text"]
        assert bench.bot.manager.audit[-1][:2] == (f"slack:{MANAGER}", "rollback")


async def test_rollback_of_what_is_no_longer_live_is_refused(slack):
    async with run_managed(slack, bot=make_bot_with_samples()) as bench:
        await bench.send_command("/rollback", "", user=MANAGER)
        await bench.bot.manager.rollback(TaskKind.CLASSIFICATION, actor="other", reason="x")
        live = bench.bot.manager.live(TaskKind.CLASSIFICATION)
        await submit_form(bench, slack.views[-1])
        assert "nothing was rolled back" in slack.ephemerals[-1]["text"]
        assert bench.bot.manager.live(TaskKind.CLASSIFICATION) == live


async def test_rollback_without_an_adapter_is_answered_without_a_form(managed):
    await managed.send_command("/rollback", "", user=MANAGER)
    assert managed.slack.views == []
    assert "nothing to go back to" in managed.slack.ephemerals[-1]["text"]


@pytest.mark.parametrize(("command", "text"), [("/pause", ""), ("/understudy", "pause")])
async def test_pause_and_resume(managed, command, text):
    await managed.send_command(command, text, user=MANAGER)
    assert managed.bot.is_paused
    await managed.send_command("/resume", "", user=MANAGER)
    assert not managed.bot.is_paused
    assert [entry[:2] for entry in managed.bot.manager.audit] == [(f"slack:{MANAGER}", "pause"), (f"slack:{MANAGER}", "resume")]


@pytest.mark.parametrize(("text", "said"), [("status", "Suggestions are *on*"), ("help", "*Managers:*"), ("", "*Managers:*")])
async def test_understudy_answers_everybody(managed, text, said):
    await managed.send_command("/understudy", text, user="U9")
    assert said in show_text(managed.slack.ephemerals[-1]["blocks"])


async def test_understudy_triage_does_what_triage_does(managed):
    await managed.send_command("/understudy", "triage my vpn is down", user="U9")
    assert managed.bot.calls[0][0] == "classify"


async def test_adapters_lists_what_is_live(slack):
    async with run_managed(slack, bot=make_bot_with_samples()) as bench:
        await bench.send_command("/adapters", "")
        shown = show_text(slack.ephemerals[-1]["blocks"])
        assert ":large_green_circle:" in shown
        assert bench.bot.manager.live(TaskKind.CLASSIFICATION)[:12] in shown


async def test_previous_of_a_rolled_back_adapter_is_the_one_before_both(slack):
    async with run_managed(slack, bot=make_bot_with_samples()) as bench:
        periods = await bench.bot.manager.get_timeline(task=TaskKind.CLASSIFICATION)
    named = [dataclasses.replace(periods[0], digest=d, is_rollback=r) for d, r in ((None, False), ("a", False), ("b", False))]
    assert reports.find_previous(named) == "a"
    assert reports.find_previous([*named, dataclasses.replace(named[1], is_rollback=True)]) is None


async def test_promoting_what_a_crashed_try_has_promoted_is_no_error(managed):
    card = await prepare_candidate(managed)
    digest = next(iter(managed.bot.manager.adapters))
    original, failed = managed.bot.manager.promote, []

    async def promote(*args, **kwargs):
        result = await original(*args, **kwargs)
        if not failed:
            failed.append(True)
            raise RuntimeError("killed")
        return result

    managed.bot.manager.promote = promote
    await managed.click(card, "run_promote", user=MANAGER)
    managed.bot.clock.advance(10)
    await managed.settle()
    assert managed.bot.manager.adapters[digest].status is AdapterStatus.ACTIVE
    assert f"Promoted by <@{MANAGER}>" in show_text(managed.get_card()["blocks"])


@pytest.mark.parametrize(("kind", "case"), load_cases("slash_command"))
@pytest.mark.parametrize("command", ["/retrain", "/rollback", "/adapters", "/pause", "/resume", "/understudy"])
async def test_recorded_command_under_our_name_is_answered(slack, kind, case, command):
    contracts.need(f"inbound/{kind}.json")
    form = "application/x-www-form-urlencoded"
    body = {**parse_body(case["body"].encode(), form), "command": command, "text": ""}
    async with run_managed(slack, managers=(body["user_id"],)) as bench:
        assert (await post(bench, urlencode(body).encode(), form)).status_code == 200
        assert bench.plugin.queue.errors == []
        assert len(slack.views) + len(slack.ephemerals) >= 1
