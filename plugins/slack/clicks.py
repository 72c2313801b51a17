"""Reads what a person did from clicks and forms: on which answer, to what effect, knowing of which earlier decision.

Pure functions over payloads; knows nothing of what is done about it.
"""

import json
from dataclasses import dataclass, replace
from typing import Any

from bot.plugin_api import BotError, Event, FeedbackKind
from plugins.slack import summaries
from plugins.slack.cards import read_buttons_id
from plugins.slack.modals import read_input
from plugins.slack.payloads import Asker, Place, get_dict, get_str, read_action, read_asker, read_metadata, read_team, read_user
from plugins.slack.text import cut

OLD_FORM = "This form is no longer known; open it again from the card."


@dataclass(frozen=True)
class Click:
    """What a person wants to do with one answer. `knows` is the feedback they saw on the card, 0 for none; `at` is in seconds."""

    prefix: str
    place: Place
    inference_id: int
    kind: FeedbackKind
    actor: str
    key: str
    at: float
    asker: Asker
    label: str | None = None
    text: str | None = None
    why: str | None = None
    knows: int = 0
    shown: str | None = None
    """The summary on the card that was clicked."""


def get_actor(user: str) -> str:
    """Return the name under which the core records what a person of Slack does."""
    return f"slack:{user}"


def read_click(event: Event, kind: FeedbackKind) -> Click | None:
    """Return the click on a card's button or menu; None where it is on no card of ours."""
    body = event.payload
    action = read_action(body)
    parts = read_buttons_id(get_str(action, "block_id"))
    user = read_user(body)
    if parts is None or not user:
        return None
    prefix, team, channel, ts, inference_id = parts
    thread_ts = get_str(body, "message", "thread_ts") or get_str(body, "container", "thread_ts") or ts
    action_ts = get_str(action, "action_ts")
    return Click(
        prefix=prefix,
        place=Place(team, channel, ts, thread_ts),
        inference_id=inference_id,
        kind=kind,
        actor=user,
        key=f"slack:{user}:{action_ts}:{inference_id}",
        at=_read_seconds(action_ts, event),
        asker=read_asker(body),
        knows=read_seen(get_str(action, "value")),
        shown=summaries.read_shown(get_dict(body, "message")) if prefix == "summary" else None,
    )


def read_seen(value: str) -> int:
    """Return which feedback a card showed when its button was clicked; 0 where it showed none."""
    seen = value.partition(":")[2]
    return int(seen) if seen.isdigit() else 0


def _read_seconds(action_ts: str, event: Event) -> float:
    try:
        return float(action_ts)
    except ValueError:
        return event.created_at.timestamp()


def read_form_click(event: Event, *, prefix: str) -> Click:
    """Return what a form says of who, where and why; the kind is left to whoever knows the form. Raises BotError."""
    body, meta = event.payload, read_metadata(event.payload)
    user = read_user(body)
    place = unpack_place(str(meta.get("ticket", "")), str(meta.get("thread_ts", "")))
    try:
        inference_id, knows = int(meta.get("inference", 0)), int(meta.get("knows", 0))
    except (TypeError, ValueError) as error:
        raise BotError(OLD_FORM) from error
    return Click(
        prefix=prefix,
        place=place,
        inference_id=inference_id,
        kind=FeedbackKind.OVERRIDE,
        actor=user,
        key=f"slack:{user}:{get_str(body, 'view', 'id')}:{inference_id}",
        at=event.created_at.timestamp(),
        asker=Asker(read_team(body), user, place.channel, place.thread_ts, ""),
        why=read_input(body, "why") or None,
        knows=knows,
    )


def unpack_place(external_id: str, thread_ts: str) -> Place:
    """Return the place behind a ticket's id. Raises BotError."""
    parts = external_id.split("/")
    if len(parts) != 3:
        raise BotError(OLD_FORM)
    return Place(parts[0], parts[1], parts[2], thread_ts or parts[2])


def pack_click(click: Click, *, knows: int) -> str:
    """Return a button's value that says a click again, with the knowledge of an earlier decision."""
    packed: dict[str, Any] = {
        "ticket": click.place.external_id,
        "channel": click.place.channel,
        "thread_ts": click.place.thread_ts,
        "inference": click.inference_id,
        "kind": click.kind.value,
        "label": click.label,
        "why": cut(click.why, 300) if click.why else None,
        "knows": knows,
    }
    return json.dumps(packed)


def read_packed_click(event: Event) -> Click:
    """Return the click that a button says again. Raises BotError."""
    action = read_action(event.payload)
    user, action_ts = read_user(event.payload), get_str(action, "action_ts")
    try:
        packed = json.loads(get_str(action, "value"))
        inference_id = int(packed["inference"])
        place = unpack_place(packed["ticket"], packed["thread_ts"])
        # The button is on a message that only its reader has: answers go to the thread, not below that.
        asker = replace(read_asker(event.payload), channel=place.channel, thread_ts=place.thread_ts)
        return Click(
            prefix="ticket",
            place=place,
            inference_id=inference_id,
            kind=FeedbackKind(packed["kind"]),
            actor=user,
            key=f"slack:{user}:{action_ts}:{inference_id}",
            at=_read_seconds(action_ts, event),
            asker=asker,
            label=packed["label"],
            why=packed["why"],
            knows=int(packed["knows"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise BotError("This button is no longer known; decide on the card instead.") from error
