"""What managers do: start a run, promote or reject its candidate, roll back, pause and resume; and what everybody may ask about.

Handled from the durable queue. Everything that changes something asks `permissions` first and is audited by the core under "slack:U...".
"""

import logging

from bot.plugin_api import AdapterStatus, BotError, ConflictError, Event, RunInfo, RunStatus, TaskKind
from plugins.slack import runs
from plugins.slack.cards import build_section
from plugins.slack.client import SlackRefusedError
from plugins.slack.desk import Desk
from plugins.slack.manager_forms import find_live
from plugins.slack.modals import read_input
from plugins.slack.payloads import Asker, Body, get_str, read_action, read_asker, read_metadata, read_user
from plugins.slack.permissions import require_manager
from plugins.slack.reports import RUNNING, TASK_WORDS, render_adapters, render_status, say_digest, say_status
from plugins.slack.text import cut_escaped

logger = logging.getLogger(__name__)
PAUSED = "Suggestions are paused; tickets are still taken in. `/resume` starts them again."
RESUMED = "Suggestions are on."
HELP = "\n".join(
    (
        "*Everybody:* `/triage`, `/summarize`, the shortcuts of a message, `/adapters`, `/understudy status`; my home tab has your numbers.",
        "*Managers:* `/retrain [labels|summaries]`, `/rollback [labels|summaries]`, `/pause`, `/resume`.",
        "Each also works as `/understudy retrain`, `/understudy pause` and so on.",
    )
)
CHANGED = "Another adapter has gone live since this form was opened; nothing was rolled back. Look again with /adapters."


async def on_start(desk: Desk, event: Event) -> None:
    """Start a training run and show how it goes."""
    asker = read_asker(event.payload)
    actor = await require_manager(desk, asker, "train")
    task = read_form_task(event.payload)
    run = await _find_started(desk, event, actor, task) if await desk.has_begun(event) else None
    if run is None:
        await desk.begin(event)
        run = await desk.bot.manager.start_run(task, actor=actor)
    await runs.begin(desk, run, asker)


async def _find_started(desk: Desk, event: Event, actor: str, task: TaskKind) -> RunInfo | None:
    """Return the run that an earlier try of the same event has started, before it broke off."""
    for run in await desk.bot.manager.list_runs(limit=5):
        if (run.actor, run.task) == (actor, task) and run.created_at >= event.created_at:
            return run
    return None


async def on_promote(desk: Desk, event: Event) -> None:
    """Approve a candidate; where two people are needed, say who is missing."""
    asker, run = read_asker(event.payload), await _find_run(desk, event)
    actor = await require_manager(desk, asker, "promote")
    digest = run.adapter_digest or ""
    has_begun = await desk.has_begun(event)
    if run.status is not RunStatus.AWAITING_APPROVAL and not (has_begun and await find_live(desk, run.task) == digest):
        await _tell_overtaken(desk, asker, run)
        return
    await desk.begin(event)
    try:
        adapter = await desk.bot.manager.promote(digest, actor=actor, reason=f"approved in Slack after run {run.run_id}")
        is_live, missing = adapter.status is AdapterStatus.ACTIVE, adapter.reason
    except ConflictError:
        if not has_begun or await find_live(desk, run.task) != digest:
            raise
        is_live, missing = True, ""  # an earlier try of this click has done it
    if is_live:
        note = f"Promoted by <@{asker.user}>: {say_digest(digest)} answers."
    else:
        note = f"<@{asker.user}> agrees. Not live yet: {cut_escaped(missing, 300)}."
    await _tell_on_run(desk, asker, run.run_id, note)


async def on_reject(desk: Desk, event: Event) -> None:
    """Turn a candidate down for good."""
    asker, run = read_asker(event.payload), await _find_run(desk, event)
    actor = await require_manager(desk, asker, "reject")
    if run.status is RunStatus.REJECTED and await desk.has_begun(event):  # an earlier try has done it
        await _tell_on_run(desk, asker, run.run_id, f"Turned down by <@{asker.user}>: what is live stays.")
        return
    if run.status is not RunStatus.AWAITING_APPROVAL or not run.adapter_digest:
        await _tell_overtaken(desk, asker, run)
        return
    await desk.begin(event)
    await desk.bot.manager.reject(run.adapter_digest, actor=actor, reason="turned down in Slack")
    await _tell_on_run(desk, asker, run.run_id, f"Turned down by <@{asker.user}>: what is live stays.")


async def _tell_overtaken(desk: Desk, asker: Asker, run: RunInfo) -> None:
    """Say that a button is out of date: the run was decided in another place. Its message then shows how."""
    try:
        await runs.refresh(desk, run)
    except SlackRefusedError as error:
        logger.info("a run's message cannot be changed any more: %s", error.code)
    await desk.tell(asker, f"Run {run.run_id} no longer waits for approval: it {say_status(run.status)}. Nothing was changed.")


async def _find_run(desk: Desk, event: Event) -> RunInfo:
    value = get_str(read_action(event.payload), "value")
    if not value.isdigit():
        raise BotError("This button is no longer known.")
    return await desk.bot.manager.get_run(int(value))


async def _tell_on_run(desk: Desk, asker: Asker, run_id: int, note: str) -> None:
    """Say on the run's message what was decided, or to the person alone where it cannot be changed any more."""
    try:
        await runs.refresh(desk, await desk.bot.manager.get_run(run_id), note=note)
    except SlackRefusedError as error:
        await desk.tell(asker, f"{note} ({error})")


def read_form_task(body: Body) -> TaskKind:
    """Return the task that a form is about. Raises BotError."""
    try:
        return TaskKind(str(read_metadata(body).get("task", "")))
    except ValueError:
        raise BotError("This form is no longer known; type the command again.") from None


async def on_rollback(desk: Desk, event: Event) -> None:
    """Go back to what was live before, if what is live is still what the form showed."""
    asker, meta = read_asker(event.payload), read_metadata(event.payload)
    actor = await require_manager(desk, asker, "roll back")
    task = read_form_task(event.payload)
    if await find_live(desk, task) != meta.get("live"):
        if not await desk.has_begun(event):
            raise BotError(CHANGED)
        now = await find_live(desk, task)  # an earlier try has done it
        await desk.tell(asker, f"Rolled back: {say_digest(now)} answers for {TASK_WORDS[task]}.")
        return
    await desk.begin(event)
    reason = read_input(event.payload, "why") or "rolled back in Slack"
    adapter = await desk.bot.manager.rollback(task, actor=actor, reason=reason)
    digest = None if adapter is None else adapter.digest
    await desk.tell(asker, f"Rolled back: {say_digest(digest)} answers for {TASK_WORDS[task]}.")


async def on_pause(desk: Desk, event: Event) -> None:
    """Stop suggestions."""
    await _set_paused(desk, event, is_paused=True)


async def on_resume(desk: Desk, event: Event) -> None:
    """Start suggestions again."""
    await _set_paused(desk, event, is_paused=False)


async def _set_paused(desk: Desk, event: Event, *, is_paused: bool) -> None:
    asker = read_asker(event.payload)
    actor = await require_manager(desk, asker, "pause suggestions" if is_paused else "resume suggestions")
    if not await desk.has_begun(event):
        await desk.bot.manager.set_paused(is_paused=is_paused, actor=actor)
        await desk.begin(event)  # a later try only tells: somebody else may have decided differently by then
    await desk.tell(asker, PAUSED if is_paused else RESUMED)


async def on_adapters(desk: Desk, event: Event) -> None:
    """List adapters with what is live."""
    text = render_adapters(await desk.bot.manager.list_adapters())
    await desk.tell(read_asker(event.payload), "Adapters", blocks=[build_section(text[:3000])])


async def on_status(desk: Desk, event: Event) -> None:
    """Say what is live and how it goes."""
    overview = await desk.bot.inbox.get_overview()
    running = next((run for run in await desk.bot.manager.list_runs(limit=5) if run.status in RUNNING), None)
    await desk.tell(read_asker(event.payload), "Status", blocks=[build_section(render_status(overview, running)[:3000])])


async def on_help(desk: Desk, event: Event) -> None:
    """Say what there is."""
    if read_user(event.payload):
        await desk.tell(read_asker(event.payload), "Help", blocks=[build_section(HELP)])
