"""What managers do when Slack asks to wait in the middle, when a button is out of date, or when two decide: done once, and said truly."""

from dataclasses import replace

import pytest
from aiohttp import web

from bot.plugin_api import AdapterStatus, RetryLaterError, RunStatus, TaskKind
from plugins.slack.payloads import Place
from plugins.slack.runs import upload_image
from tests.plugins.slack.manager_helpers import MANAGER, ManagerSlack, click_home, run_managed, submit_form
from tests.plugins.slack.slack_helpers import show_text
from tests.plugins.slack.test_managers import make_bot_with_samples, prepare_candidate, start_run


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


async def wait(bench):
    """Let the pause pass that Slack asked for."""
    bench.plugin.client._not_before.clear()  # its clock is the machine's
    bench.bot.clock.advance(31)
    await bench.settle()


def get_done(bench, what):
    return [entry for entry in bench.bot.manager.audit if entry[1] == what]


async def test_run_whose_message_had_to_wait_is_started_once_and_followed(managed):
    managed.slack.limit["chat.postMessage"] = [30]
    await start_run(managed)
    assert managed.slack.ephemerals == []
    await wait(managed)
    assert len(get_done(managed, "start_run")) == 1
    assert managed.slack.ephemerals == []
    await managed.plugin.runs.join()
    assert "is live" in managed.get_card()["text"]


async def test_promotion_whose_message_had_to_wait_is_told_as_done(managed):
    card = await prepare_candidate(managed)
    managed.slack.limit["chat.update"] = [30]
    await managed.click(card, "run_promote", user=MANAGER)
    await wait(managed)
    assert managed.slack.ephemerals == []
    assert f"Promoted by <@{MANAGER}>" in show_text(managed.get_card()["blocks"])


async def test_rejection_whose_message_had_to_wait_is_told_as_done(managed):
    card = await prepare_candidate(managed)
    managed.slack.limit["chat.update"] = [30]
    await managed.click(card, "run_reject", user=MANAGER)
    await wait(managed)
    assert managed.slack.ephemerals == []
    assert f"Turned down by <@{MANAGER}>" in show_text(managed.get_card()["blocks"])


async def test_rollback_whose_answer_had_to_wait_is_done_once_and_told_as_done(slack):
    async with run_managed(slack, bot=make_bot_with_samples()) as bench:
        await bench.send_command("/rollback", "", user=MANAGER)
        slack.limit["chat.postEphemeral"] = [30]
        await submit_form(bench, slack.views[-1])
        await wait(bench)
        now = bench.bot.manager.live(TaskKind.CLASSIFICATION)
        assert len(get_done(bench, "rollback")) == 1
        assert [told["text"] for told in slack.ephemerals] == [
            f"Rolled back: {'the base model' if now == 'base' else f'adapter {now[:12]}'} answers for labels."
        ]


async def test_pause_whose_answer_had_to_wait_does_not_undo_what_another_manager_did_meanwhile(slack):
    slack.groups["S1"].append("UTWO")
    async with run_managed(slack) as bench:
        slack.limit["chat.postEphemeral"] = [30]
        await bench.send_command("/pause", "", user=MANAGER, response_url="")
        bench.plugin.client._not_before.clear()
        await bench.send_command("/resume", "", user="UTWO")
        await wait(bench)
        assert bench.bot.is_paused is False
        assert {told["user"] for told in slack.ephemerals} == {MANAGER, "UTWO"}


async def test_question_whose_tab_had_to_wait_is_settled_once_and_no_error_is_told(slack):
    async with run_managed(slack, bot=make_bot_with_samples()) as bench:
        item = next(iter(await bench.bot.manager.list_review())).id
        slack.limit["views.publish"] = [30]
        await click_home(bench, "home_dismiss", user=MANAGER, block_id=f"review/{item}", type="button", value=str(item))
        await wait(bench)
        assert slack.ephemerals == []
        assert slack.get_own(f"D{MANAGER}") == []
        assert MANAGER in slack.homes


@pytest.mark.parametrize("action", ["run_promote", "run_reject"])
async def test_button_of_a_run_decided_elsewhere_changes_nothing_and_its_message_says_how(managed, action):
    card = await prepare_candidate(managed)
    (digest,) = managed.bot.manager.adapters
    await managed.bot.manager.promote(digest, actor="console", reason="looks good")
    manager = managed.bot.manager
    manager.runs[1] = replace(manager.runs[1], status=RunStatus.PROMOTED)
    manager.adapters[digest] = replace(manager.adapters[digest], status=AdapterStatus.RETIRED, is_serving=False)
    await managed.click(card, action, user=MANAGER)
    assert managed.bot.manager.adapters[digest].status is AdapterStatus.RETIRED
    assert len(get_done(managed, "promote")) == 1
    assert "no longer waits for approval: it is live. Nothing was changed." in managed.slack.ephemerals[-1]["text"]
    assert "run_promote" not in str(managed.get_card()["blocks"])


async def test_refusal_that_had_to_wait_is_still_a_refusal_and_nothing_is_done(managed):
    card = await prepare_candidate(managed)
    manager = managed.bot.manager
    (digest,) = manager.adapters
    await manager.promote(digest, actor="console", reason="looks good")
    manager.runs[1] = replace(manager.runs[1], status=RunStatus.PROMOTED)
    await managed.send_command("/rollback", "", user=MANAGER)
    manager.adapters[digest] = replace(manager.adapters[digest], status=AdapterStatus.RETIRED, is_serving=False)
    for act in (
        lambda: managed.click(card, "run_promote", user=MANAGER, response_url=""),
        lambda: submit_form(managed, managed.slack.views[-1]),
    ):
        managed.slack.limit["chat.postEphemeral"] = [30]
        await act()
        await wait(managed)
    assert manager.adapters[digest].status is AdapterStatus.RETIRED
    assert (len(get_done(managed, "promote")), len(get_done(managed, "rollback"))) == (1, 0)
    assert [
        "Nothing was changed" in managed.slack.ephemerals[0]["text"],
        "nothing was rolled back" in managed.slack.ephemerals[1]["text"],
    ] == [
        True,
        True,
    ]


@pytest.mark.parametrize("callback_id", ["retrain_start", "rollback_do"])
async def test_form_of_another_version_is_refused_in_words(managed, callback_id):
    view = {"callback_id": callback_id, "private_metadata": '{"channel": "C1", "task": "poetry"}'}
    await submit_form(managed, view)
    assert "This form is no longer known" in managed.slack.ephemerals[-1]["text"]
    assert managed.plugin.queue.errors == []


class LimitedUploads(ManagerSlack):
    """Asks to wait at the first upload."""

    async def _serve(self, request):
        if request.match_info["method"] == "upload" and not self.uploads:
            self.uploads.append(b"")
            return web.Response(status=429, headers={"Retry-After": "7"})
        return await super()._serve(request)


async def test_picture_waits_as_long_as_slack_asks():
    slack = LimitedUploads()
    await slack.start()
    try:
        async with run_managed(slack) as bench:
            slack.add_message("C1", "1.1", "x")
            with pytest.raises(RetryLaterError) as caught:
                await upload_image(bench.plugin.desk, b"png", name="a.png", place=Place("T1", "C1", "1.1", "1.1"))
            assert caught.value.after_s == 7
    finally:
        await slack.stop()
