"""From a message to its card: the shortcut, the command, mentions, new messages in the channels that the settings name.

Knows nothing of what people decide on the card.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

from bot.plugin_api import Classification, Event, NotFoundError
from plugins.slack import summaries
from plugins.slack.cards import UNFOLD, CardLook, build_card, build_gone, build_section, render_fallback
from plugins.slack.desk import Desk
from plugins.slack.payloads import (
    Asker,
    Body,
    Place,
    find_permalink,
    get_dict,
    get_str,
    read_action,
    read_asker,
    read_place,
    read_team,
)
from plugins.slack.records import Record
from plugins.slack.settings import SlackSettings
from plugins.slack.text import read_text, split_mention, to_plain

USAGE = (
    "Write `/triage` with the ticket's text or with a link to its message (⋮ › Copy link). "
    "In a thread, use the shortcut *Triage* of a message, or mention me."
)
EMPTY = "There are no words in that message, so there is nothing to triage."
GONE = "That message is no longer there; it has been deleted."
HELP = (
    "Mention me in a thread and I suggest a label for its first message; mention me with *summarize* and I summarise the thread. "
    "The shortcuts *Triage* and *Summarise thread* of a message, `/triage` and `/summarize` do the same."
)
_NEW_MESSAGES = frozenset({"", "file_share", "thread_broadcast", "me_message"})


def is_deletion(event: Body) -> bool:
    """Whether a message was deleted. One with replies, such as a card, leaves a tombstone, and Slack says that it was changed."""
    subtype = get_str(event, "subtype")
    return subtype == "message_deleted" or (subtype == "message_changed" and get_str(event, "message", "subtype") == "tombstone")


def is_wanted(settings: SlackSettings, body: Body) -> bool:
    """Whether a message event can matter: decided before it is stored, for most messages do not."""
    event = get_dict(body, "event")
    subtype = get_str(event, "subtype")
    if is_deletion(event):
        return True
    if get_str(event, "channel") not in settings.channels or event.get("hidden") is True:
        return False
    is_bot = subtype == "bot_message" or bool(event.get("bot_id")) or get_str(event, "user") == "USLACKBOT"
    is_reply = get_str(event, "thread_ts") not in {"", get_str(event, "ts")}
    if is_bot and not settings.triage_bots:
        return False
    if is_reply and not (settings.triage_replies or subtype == "thread_broadcast"):
        return False
    return subtype in _NEW_MESSAGES or (is_bot and subtype == "bot_message")


def _is_own(desk: Desk, body: Body) -> bool:
    event = get_dict(body, "event")
    app_id = get_str(event, "app_id")
    ids = (get_str(event, "user"), get_str(event, "bot_id"))
    return (bool(app_id) and app_id == get_str(body, "api_app_id")) or any(desk.tokens.is_own(one) for one in ids)


def _is_request(desk: Desk, message: Body) -> bool:
    """Whether a message says nothing but what the bot is to do: it is no ticket, and its mention is handled as such."""
    mentioned, words = split_mention(get_str(message, "text"))
    return desk.tokens.is_own(mentioned) and (not words or _wants_summary(words) or _wants_help(words))


def _wants_summary(words: str) -> bool:
    return words.lower().startswith(("summary", "summari"))


def _wants_help(words: str) -> bool:
    return words.lower() in {"help", "?"}


async def on_message(desk: Desk, event: Event) -> None:
    """Triage a new message of a channel that the settings name; forget the card of a deleted one."""
    body = event.payload
    message = get_dict(body, "event")
    if is_deletion(message):
        await _on_deleted(desk, body)
        return
    place = read_place(body)
    if place is None or _is_own(desk, body) or not is_wanted(desk.settings, body):
        return
    text = read_text(message)
    if text and not _is_request(desk, message):
        await suggest(desk, place, text=text)


async def on_mention(desk: Desk, event: Event) -> None:
    """Triage the thread in which the bot is mentioned, or the message itself outside of one; or summarise, or help."""
    body = event.payload
    message = get_dict(body, "event")
    place = read_place(body)
    if place is None or _is_own(desk, body):
        return
    asker = read_asker(body)
    words = split_mention(get_str(message, "text"))[1]
    if _wants_summary(words):
        await summaries.summarise(desk, place.root, asker)
    elif _wants_help(words) or (not words and place.thread_ts == place.ts):
        await desk.tell(asker, HELP)
    elif place.thread_ts != place.ts:
        await _suggest_fetched(desk, place.root, asker)
    else:
        await _suggest_or_tell(desk, place, asker, text=words)


async def on_shortcut(desk: Desk, event: Event) -> None:
    """Triage the message that the shortcut was used on."""
    body = event.payload
    place = read_place(body)
    if place is not None:
        await _suggest_or_tell(desk, place, read_asker(body), text=read_text(get_dict(body, "message")))


async def on_command(desk: Desk, event: Event) -> None:
    """Triage the text typed after the command, or the message it links to."""
    body = event.payload
    asker = read_asker(body)
    text = get_str(body, "text").strip()
    linked = find_permalink(text, team=asker.team)
    if linked is not None:
        await _suggest_fetched(desk, linked, asker)
    elif text:
        await _suggest_pasted(desk, asker, event.key, text=to_plain(text))
    elif asker.thread_ts:
        await _suggest_fetched(desk, Place(asker.team, asker.channel, asker.thread_ts, asker.thread_ts), asker)
    else:
        await desk.tell(asker, USAGE)


async def _suggest_or_tell(desk: Desk, place: Place, asker: Asker, *, text: str) -> None:
    if text:
        await suggest(desk, place, text=text, asker=asker)
    else:
        await desk.tell(asker, EMPTY)


async def _suggest_fetched(desk: Desk, place: Place, asker: Asker) -> None:
    message = await desk.fetch_message(place)
    if message is None:
        await desk.tell(asker, GONE)
    else:
        await _suggest_or_tell(desk, place, asker, text=read_text(message))


async def _suggest_pasted(desk: Desk, asker: Asker, key: str, *, text: str) -> None:
    """Make a card of its own for a pasted text: its message comes first, for its time stamp is the ticket's id."""
    name = f"pasted/{hashlib.sha256(key.encode()).hexdigest()[:32]}"
    nowhere = Place(asker.team, asker.channel, "", "")
    first = build_section(f"<@{asker.user}> asks about a ticket…", block_id=name)
    ts = await desk.show(name, nowhere, text="A ticket to decide", blocks=[first])
    place = Place(asker.team, asker.channel, ts, ts)
    await desk.records.keep(f"ticket/{place.external_id}", ts, await desk.records.get("ticket", place))
    await suggest(desk, place, text=text, asker=asker)


async def suggest(desk: Desk, place: Place, *, text: str, asker: Asker | None = None) -> None:
    """Ask for a suggestion and show its card. A ticket that has been decided on the card stays as it is."""
    record = await desk.records.get("ticket", place)
    if record is not None and record.decision is not None:
        if asker is not None:
            await desk.tell(asker, f"<@{record.decision.actor}> has already decided this; the card in the thread says how.")
        return
    card = await desk.bot.classify(text, source=place.source, labels=desk.settings.channels.get(place.channel, ()))
    if asker is None and card.inference_id is None and (await desk.bot.inbox.get_overview()).is_paused:
        return  # nobody asked, and a card below every message that says "paused" helps nobody
    await _show(desk, place, card, record=record)


async def _show(desk: Desk, place: Place, card: Classification, *, record: Record | None, may_post: bool = True) -> None:
    look = get_look(desk, place, record)
    blocks = build_card(card, place, desk.bot.inbox.get_label_set(), look=look)
    new = None  # what is known of the same answer is left as it stands: somebody may decide at this moment
    if card.inference_id is not None and (record is None or record.inference_id != card.inference_id):
        new = Record(inference_id=card.inference_id, shown_at=desk.clock())
    name, text = f"ticket/{place.external_id}", render_fallback(card, look)
    await desk.show(name, place, text=text, blocks=blocks, record=new, may_post=may_post)


def get_look(desk: Desk, place: Place, record: Record | None) -> CardLook:
    """Return how a card is to be shown now."""
    decision = None if record is None else record.decision
    return CardLook(
        low_confidence=desk.settings.low_confidence,
        decision=decision,
        can_undo=decision is not None
        and not decision.is_elsewhere
        and desk.clock() < decision.at + desk.settings.undo_minutes * 60,
        is_expanded=record is not None and record.is_expanded,
        labels=desk.settings.channels.get(place.channel, ()),
    )


async def refresh(desk: Desk, place: Place, *, may_post: bool = True) -> None:
    """Show a card as it stands now. Raises SlackRefusedError where it cannot be changed, NotFoundError without a ticket."""
    detail = await desk.bot.inbox.find_ticket(place.source)
    card = detail.classification
    if card is None:
        raise NotFoundError("this ticket has no suggestion any more; use the shortcut Triage on its message")
    await _show(desk, place, card, record=await desk.records.get("ticket", place), may_post=may_post)


async def on_unfold(desk: Desk, event: Event) -> None:
    """Show the whole suggested reply, or fold it again."""
    place = find_ticket_place(event.payload)
    record = None if place is None else await desk.records.get("ticket", place)
    if place is not None and record is not None:
        is_expanded = get_str(read_action(event.payload), "text", "text") == UNFOLD
        await desk.records.change("ticket", place, record, is_expanded=is_expanded)
        await refresh(desk, place)


def find_ticket_place(body: Body) -> Place | None:
    """Return which ticket a click on a card is about: the first block of the card says it."""
    blocks = get_dict(body, "message").get("blocks")
    thread_ts = get_str(body, "message", "thread_ts") or get_str(body, "message", "ts")
    return _read_title(blocks, thread_ts)


def _read_title(blocks: Any, thread_ts: str) -> Place | None:
    first = blocks[0] if isinstance(blocks, list) and blocks and isinstance(blocks[0], Mapping) else {}
    parts = get_str(first, "block_id").split("/")
    return Place(parts[1], parts[2], parts[3], thread_ts) if len(parts) == 4 and parts[0] == "ticket" else None


async def _on_deleted(desk: Desk, body: Body) -> None:
    """Forget a card that was deleted; say on the card that its message was."""
    event = get_dict(body, "event")
    previous = get_dict(event, "previous_message")
    deleted_ts = get_str(event, "deleted_ts") or get_str(previous, "ts") or get_str(event, "message", "ts")
    own = _read_title(previous.get("blocks"), get_str(previous, "thread_ts") or deleted_ts)
    if own is not None:
        await desk.records.forget("ticket", own)
        return
    thread_ts = get_str(previous, "thread_ts") or deleted_ts
    place = Place(read_team(body), get_str(event, "channel"), deleted_ts, thread_ts)
    record = await desk.records.get("ticket", place)
    if record is not None and record.decision is None:
        name = f"ticket/{place.external_id}"
        await desk.show(name, place, text="The message was deleted", blocks=build_gone(place))
        await desk.records.forget("ticket", place)
