"""Opens the forms behind a card's buttons, within the three seconds that Slack gives a click.

Opening decides nothing, so it is not stored: it happens right after the acknowledgement, and a click that came too late is told so.
"""

from typing import Any

from bot.plugin_api import BotError, RetryLaterError
from plugins.slack import summaries
from plugins.slack.cards import read_buttons_id
from plugins.slack.clicks import read_seen
from plugins.slack.client import SlackRefusedError
from plugins.slack.desk import Desk
from plugins.slack.modals import build_decision_view, build_summary_view, find_label
from plugins.slack.payloads import Body, Place, get_dict, get_str, read_action, read_asker
from plugins.slack.text import to_sentence

SLOW = "Slack did not open the form in time. Please click again."


async def open_override(desk: Desk, body: Body) -> None:
    """Ask for another label and one line why."""
    await _open_decision(desk, body, "override")


async def open_pick(desk: Desk, body: Body) -> None:
    """Ask for one line why, with the label chosen on the card."""
    value = get_str(read_action(body), "selected_option", "value")
    await _open_decision(desk, body, "override", chosen=find_label(value, desk.bot.inbox.get_label_set()))


async def open_handoff(desk: Desk, body: Body) -> None:
    """Ask for one line why."""
    await _open_decision(desk, body, "handoff")


async def open_edit(desk: Desk, body: Body) -> None:
    """Offer the suggested reply for editing, with the label."""
    found = _read_place(body)
    if found is None:
        return
    try:
        card = (await desk.bot.inbox.find_ticket(found[0].source)).classification
    except BotError as error:
        await desk.tell(read_asker(body), to_sentence(error))
        return
    reply = (card.macro or "") if card is not None else ""
    await _open_decision(desk, body, "edit", chosen=card.label if card is not None else None, reply=reply)


async def open_summary(desk: Desk, body: Body) -> None:
    """Offer the summary for editing."""
    found = _read_place(body)
    if found is None:
        return
    place, inference_id = found
    text = summaries.read_shown(get_dict(body, "message"))
    await _open(desk, body, build_summary_view(text or "", meta=_build_meta(body, place, inference_id)))


async def _open_decision(desk: Desk, body: Body, kind: str, *, chosen: str | None = None, reply: str = "") -> None:
    found = _read_place(body)
    if found is None:
        return
    place, inference_id = found
    labels = desk.settings.channels.get(place.channel) or desk.bot.inbox.get_label_set().names
    meta = _build_meta(body, place, inference_id)
    await _open(desk, body, build_decision_view(kind, labels, meta=meta, chosen=chosen, reply=reply))


def _read_place(body: Body) -> tuple[Place, int] | None:
    parts = read_buttons_id(get_str(read_action(body), "block_id"))
    if parts is None:
        return None
    _, team, channel, ts, inference_id = parts
    thread_ts = get_str(body, "message", "thread_ts") or get_str(body, "container", "thread_ts") or ts
    return Place(team, channel, ts, thread_ts), inference_id


def _build_meta(body: Body, place: Place, inference_id: int) -> dict[str, Any]:
    return {
        "ticket": place.external_id,
        "channel": place.channel,
        "thread_ts": place.thread_ts,
        "inference": inference_id,
        "knows": read_seen(get_str(read_action(body), "value")),
    }


async def _open(desk: Desk, body: Body, view: dict[str, Any]) -> None:
    asker = read_asker(body)
    try:
        await desk.client.call("views.open", team=asker.team, trigger_id=get_str(body, "trigger_id"), view=view)
    except SlackRefusedError as error:
        await desk.tell(asker, to_sentence(error))
    except RetryLaterError:
        await desk.tell(asker, SLOW)
