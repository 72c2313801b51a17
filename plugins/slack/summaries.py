"""Summaries of threads: read page by page, shown as they are written, in the thread they are about.

Knows nothing of what people make of a summary; `plugins.slack.decisions` does.
"""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import replace

from bot.plugin_api import BotError, BusyError, Event, NotFoundError, RetryLaterError, Summary, Turn
from plugins.slack.cards import CardLook, build_summary_card
from plugins.slack.desk import LONGEST_WAIT_S, Desk
from plugins.slack.modals import Block
from plugins.slack.payloads import Asker, Body, Place, find_permalink, get_str, read_asker, read_place
from plugins.slack.records import Record
from plugins.slack.text import read_text, to_plain, to_sentence

UPDATE_INTERVAL_S = 1.3  # Slack takes about fifty changes of messages a minute
LAST_TRIES = 3
USAGE = (
    "Write `/summarize` with a link to a message of the thread (⋮ › Copy link), "
    "or use the shortcut *Summarise thread* of one of its messages, or mention me there with *summarize*."
)
EMPTY = "There is nothing to summarise in that thread."


async def on_shortcut(desk: Desk, event: Event) -> None:
    """Summarise the thread of the message that the shortcut was used on."""
    place = read_place(event.payload)
    if place is not None:
        await summarise(desk, place.root, read_asker(event.payload))


async def on_command(desk: Desk, event: Event) -> None:
    """Summarise the thread that the command was typed in or that its text links to."""
    asker = read_asker(event.payload)
    place = find_permalink(get_str(event.payload, "text"), team=asker.team)
    if place is None and asker.thread_ts:
        place = Place(asker.team, asker.channel, asker.thread_ts, asker.thread_ts)
    if place is None:
        await desk.tell(asker, USAGE)
    else:
        await summarise(desk, place.root, asker)


async def summarise(desk: Desk, place: Place, asker: Asker) -> None:
    """Read the thread and show its summary as it grows."""
    turns, is_cut = await _read_turns(desk, place)
    if not turns:
        await desk.tell(asker, EMPTY)
        return
    note = f"Only the first {desk.settings.max_thread_messages} messages were read." if is_cut else ""
    name = f"summary/{place.external_id}"
    look = CardLook(low_confidence=desk.settings.low_confidence)
    await desk.show(name, place, text="Reading the thread…", blocks=build_summary_card(None, place, look=look))
    try:
        last = await _grow(desk, place, turns, look=look)
    except BusyError as error:
        raise RetryLaterError(type(error).__name__, after_s=error.retry_after_s) from error
    except BotError as error:
        blocks = build_summary_card(None, place, look=look, note=f"There is no summary. {to_sentence(error)}")
        await desk.show(name, place, text="There is no summary", blocks=blocks)
        return
    inference_id = None if last is None else last.inference_id
    record = None if inference_id is None else Record(inference_id=inference_id, shown_at=desk.clock())
    blocks = build_summary_card(last, place, look=look, note=note)
    await _show_at_last(desk, place, blocks=blocks, record=record)


async def _show_at_last(desk: Desk, place: Place, *, blocks: list[Block], record: Record | None) -> None:
    """Show the whole summary; a short pause that Slack asks for is waited out here, for a later try would write it anew."""
    name = f"summary/{place.external_id}"
    for n_left in reversed(range(LAST_TRIES)):
        try:
            await desk.show(name, place, text="A summary of the thread", blocks=blocks, record=record)
        except RetryLaterError as error:
            if not n_left or error.after_s > LONGEST_WAIT_S:
                raise
            await asyncio.sleep(error.after_s)
        else:
            return


async def _grow(desk: Desk, place: Place, turns: list[Turn], *, look: CardLook) -> Summary | None:
    """Show the summary about once per second while it is written; return the whole one."""
    last: Summary | None = None
    shown, shown_at = "", time.monotonic()
    async for summary in desk.bot.stream_summary("", source=place.source, turns=turns):
        last = summary
        is_due = summary.inference_id is None and summary.notice is None and time.monotonic() >= shown_at + UPDATE_INTERVAL_S
        if is_due and summary.text != shown:
            blocks = build_summary_card(summary, place, look=look)
            shown_at = time.monotonic()
            try:
                await desk.show(f"summary/{place.external_id}", place, text="A summary is being written", blocks=blocks)
                shown = summary.text
            except RetryLaterError as error:  # the next one shows more anyway; the last one must be shown
                shown_at += error.after_s
    return last


async def _read_turns(desk: Desk, place: Place) -> tuple[list[Turn], bool]:
    """Return what people wrote in a thread, who began it as the customer, and whether messages were left out."""
    turns: list[Turn] = []
    limit = desk.settings.max_thread_messages
    n_read, first_user = 0, ""
    async for message in desk.read_messages(place, max_messages=limit + 1):
        n_read += 1
        if n_read > limit:
            return turns, True
        user = get_str(message, "user") or get_str(message, "bot_id")
        first_user = first_user or user
        if _is_own(desk, message):
            continue
        if text := read_text(message):
            turns.append(Turn("customer" if user == first_user else "agent", text))
    return turns, False


def _is_own(desk: Desk, message: Body) -> bool:
    return any(desk.tokens.is_own(get_str(message, name)) for name in ("user", "bot_id"))


async def refresh(desk: Desk, place: Place, *, shown: str | None = None, may_post: bool = True) -> None:
    """Show a summary as it stands now, with the text that is `shown` where it is known.

    The stored text is masked where the bot has no vault key, so it is the second choice. Raises SlackRefusedError where the card cannot
    be changed, NotFoundError without a summary.
    """
    summary = (await desk.bot.inbox.find_ticket(place.source)).summary
    if summary is None:
        raise NotFoundError("this thread has no summary any more; ask for a new one")
    if shown is None:
        shown = await _find_shown(desk, place)
    record = await desk.records.get("summary", place)
    decision = None if record is None else record.decision
    can_undo = decision is not None and not decision.is_elsewhere and desk.clock() < decision.at + desk.settings.undo_minutes * 60
    look = CardLook(low_confidence=desk.settings.low_confidence, decision=decision, can_undo=can_undo)
    blocks = build_summary_card(replace(summary, text=shown or summary.text), place, look=look)
    name = f"summary/{place.external_id}"
    await desk.show(name, place, text="A summary of the thread", blocks=blocks, may_post=may_post)


async def _find_shown(desk: Desk, place: Place) -> str | None:
    """Return the text that the card in the thread shows."""
    ts, _ = await desk.records.get_ts(f"summary/{place.external_id}")
    message = await desk.fetch_message(replace(place, ts=ts)) if ts else None
    return None if message is None else read_shown(message)


def read_shown(message: Body) -> str | None:
    """Return the text of a summary's card; None where the message is no such card."""
    blocks = message.get("blocks")
    if not (isinstance(blocks, list) and len(blocks) > 1 and isinstance(blocks[1], Mapping)):
        return None
    return to_plain(get_str(blocks[1], "text", "text")) or None
