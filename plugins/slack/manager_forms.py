"""Opens the forms of managers: what a training run would use, what a roll back goes back to; and reads the verb of `/understudy`.

Opening decides nothing, so it is not stored. Whoever is no manager is told so instead.
"""

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from bot.plugin_api import BASE, AdapterStatus, BotError, RetryLaterError, TaskKind
from plugins.slack.cards import build_section
from plugins.slack.client import SlackRefusedError
from plugins.slack.desk import Desk
from plugins.slack.forms import SLOW
from plugins.slack.modals import MAX_WHY_CHARS, Block, build_plain
from plugins.slack.payloads import Asker, Body, get_str, read_action, read_asker, read_metadata
from plugins.slack.permissions import require_manager
from plugins.slack.reports import TASK_WORDS, build_dry_run, find_previous, say_digest
from plugins.slack.text import to_sentence

COUNTING = "Counting what a run would use…"
NOTHING_BACK = "No adapter has been live for this, so there is nothing to go back to: the base model answers."
_COMMANDS = ("triage", "summarize", "retrain", "rollback")
_STORED_VERBS = ("adapters", "pause", "resume", "status", "help")


def read_task(text: str) -> TaskKind:
    """Return the task that a word names; labels where there is none."""
    word = text.strip().lower()
    return TaskKind.SUMMARY if word.startswith("summar") else TaskKind.CLASSIFICATION


async def open_retrain(desk: Desk, body: Body) -> None:
    """Show the dry run in a form that starts the run."""
    await _guard(desk, body, lambda: _open_retrain(desk, body, read_task(get_str(body, "text"))))


async def _open_retrain(desk: Desk, body: Body, task: TaskKind) -> None:
    asker = read_asker(body)
    await require_manager(desk, asker, "train")
    meta = {"channel": asker.channel, "thread_ts": "", "task": task.value}
    waiting = _build_retrain(meta, [build_section(COUNTING)], can_start=False)
    opened = await desk.client.call("views.open", team=asker.team, trigger_id=get_str(body, "trigger_id"), view=waiting)
    view = opened.get("view")
    await _fill(desk, asker, str(view.get("id", "")) if isinstance(view, Mapping) else "", meta)


async def change_task(desk: Desk, body: Body) -> None:
    """Show the dry run of the other task in the form that is open."""
    await _guard(desk, body, lambda: _change_task(desk, body))


async def _change_task(desk: Desk, body: Body) -> None:
    asker = read_asker(body)
    await require_manager(desk, asker, "train")
    task = read_task(get_str(read_action(body), "selected_option", "value"))
    meta = {**read_metadata(body), "task": task.value}
    view_id = get_str(body, "view", "id")
    waiting = _build_retrain(meta, [build_section(COUNTING)], can_start=False)
    await desk.client.call("views.update", team=asker.team, view_id=view_id, view=waiting)
    await _fill(desk, asker, view_id, meta)


async def _fill(desk: Desk, asker: Asker, view_id: str, meta: Mapping[str, Any]) -> None:
    try:
        dry = await desk.bot.manager.dry_run(TaskKind(str(meta["task"])))
        view = _build_retrain(meta, build_dry_run(dry), can_start=dry.is_enough)
    except BotError as error:
        view = _build_retrain(meta, [build_section(to_sentence(error)[:2000])], can_start=False)
    try:
        await desk.client.call("views.update", team=asker.team, view_id=view_id, view=view)
    except SlackRefusedError as error:
        if error.code != "not_found":  # closed in the meantime: nobody waits for it
            raise


def _build_retrain(meta: Mapping[str, Any], blocks: list[Block], *, can_start: bool) -> Block:
    options = [{"text": build_plain(words.capitalize()), "value": task.value} for task, words in TASK_WORDS.items()]
    chosen = next(option for option in options if option["value"] == meta["task"])
    menu = {"type": "static_select", "action_id": "retrain_task", "options": options, "initial_option": chosen}
    head = {**build_section("Train an adapter for"), "block_id": "task", "accessory": menu}
    view = _build_form("retrain_start", "Train", meta=meta, blocks=[head, *blocks])
    return {**view, "submit": build_plain("Start")} if can_start else view


def _build_form(callback_id: str, title: str, *, meta: Mapping[str, Any], blocks: list[Block]) -> Block:
    return {
        "type": "modal",
        "callback_id": callback_id,
        "title": build_plain(title),
        "close": build_plain("Cancel"),
        "private_metadata": json.dumps(dict(meta)),
        "blocks": blocks,
    }


async def open_rollback(desk: Desk, body: Body) -> None:
    """Ask whether to roll back, saying what to."""
    await _guard(desk, body, lambda: _open_rollback(desk, body, read_task(get_str(body, "text"))))


async def _open_rollback(desk: Desk, body: Body, task: TaskKind) -> None:
    asker = read_asker(body)
    await require_manager(desk, asker, "roll back")
    live = await find_live(desk, task)
    if live == BASE:
        await desk.tell(asker, NOTHING_BACK)
        return
    previous = find_previous(await desk.bot.manager.get_timeline(task=task))
    text = f"Now *{say_digest(live)}* answers for {TASK_WORDS[task]}. From then on *{say_digest(previous)}* does again."
    why: Block = {
        "type": "input",
        "block_id": "why",
        "optional": True,
        "label": build_plain("Why? (one line, optional)"),
        "element": {"type": "plain_text_input", "action_id": "why", "max_length": MAX_WHY_CHARS},
    }
    meta = {"channel": asker.channel, "thread_ts": "", "task": task.value, "live": live}
    view = _build_form("rollback_do", "Roll back", meta=meta, blocks=[build_section(text), why])
    view["submit"] = build_plain("Roll back")
    await desk.client.call("views.open", team=asker.team, trigger_id=get_str(body, "trigger_id"), view=view)


async def find_live(desk: Desk, task: TaskKind) -> str:
    """Return the digest of the active adapter, or "base"."""
    adapters = await desk.bot.manager.list_adapters(task=task)
    return next((adapter.digest for adapter in adapters if adapter.status is AdapterStatus.ACTIVE), BASE)


def route_understudy(body: Body) -> tuple[str, Body]:
    """Return the name of what the first word after `/understudy` asks for, and the command as if it had been typed by that name."""
    verb, _, rest = get_str(body, "text").strip().partition(" ")
    verb = verb.lower()
    if verb in _COMMANDS:
        return f"command:/{verb}", {**body, "text": rest.strip()}
    return f"later:{verb if verb in _STORED_VERBS else 'help'}", {**body, "text": rest.strip()}


async def _guard(desk: Desk, body: Body, work: Callable[[], Awaitable[None]]) -> None:
    """Say a refusal to whoever asked: nothing brings a form back."""
    try:
        await work()
    except (BotError, SlackRefusedError) as error:
        await desk.tell(read_asker(body), to_sentence(error))
    except RetryLaterError:
        await desk.tell(read_asker(body), SLOW)
