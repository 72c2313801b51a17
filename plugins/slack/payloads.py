"""Reads Slack's payloads: who, where, which message, and the key under which an event counts once.

Pure functions over JSON that came from outside: nothing is trusted to be there. Knows nothing of what is done with it.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bot.plugin_api import SourceRef

Body = Mapping[str, Any]
MAX_KEY_CHARS = 250
_PERMALINK = re.compile(r"https?://[^\s/<>|]+/archives/([A-Z0-9]+)/p(\d{10})(\d{6})(?:\?[^\s<>|]*?thread_ts=(\d{10}\.\d{6}))?")


@dataclass(frozen=True)
class Place:
    """One message: its workspace, channel and time stamp, and the time stamp of its thread's first message (its own without a thread)."""

    team: str
    channel: str
    ts: str
    thread_ts: str

    @property
    def external_id(self) -> str:
        """The ticket's id towards the core."""
        return f"{self.team}/{self.channel}/{self.ts}"

    @property
    def source(self) -> SourceRef:
        """The ticket towards the core."""
        return SourceRef(plugin="slack", external_id=self.external_id)

    @property
    def group(self) -> str:
        """Events of one thread are handled in order."""
        return f"{self.channel}/{self.thread_ts}"

    @property
    def root(self) -> "Place":
        """The first message of the thread."""
        return Place(self.team, self.channel, self.thread_ts, self.thread_ts)


@dataclass(frozen=True)
class Asker:
    """The person behind an event and where to answer them. `thread_ts` and `response_url` may be empty."""

    team: str
    user: str
    channel: str
    thread_ts: str
    response_url: str


def get_dict(body: Body, *names: str) -> Body:
    """Follow names into nested objects; an empty object where one is missing."""
    found: Any = body
    for name in names:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def get_str(body: Body, *names: str) -> str:
    """Follow names into nested objects; an empty text where the last is missing or no text."""
    found = get_dict(body, *names[:-1]).get(names[-1])
    return found if isinstance(found, str) else ""


def read_team(body: Body) -> str:
    """Return the workspace that the app is installed in; in a shared channel that may be another than the person's."""
    authorizations = body.get("authorizations")
    first = authorizations[0] if isinstance(authorizations, list) and authorizations else {}
    team = body.get("team")
    return (
        get_str(body, "view", "app_installed_team_id")
        or (get_str(first, "team_id") if isinstance(first, Mapping) else "")
        or (team if isinstance(team, str) else get_str(body, "team", "id"))
        or get_str(body, "team_id")
        or get_str(body, "user", "team_id")
        or get_str(body, "enterprise", "id")
    )


def read_user(body: Body) -> str:
    """Return the id of the person who acted."""
    return get_str(body, "user", "id") or get_str(body, "user_id") or get_str(body, "event", "user")


def read_channel(body: Body) -> str:
    """Return the channel it happened in."""
    for names in (
        ("channel", "id"),
        ("container", "channel_id"),
        ("channel_id",),
        ("event", "channel"),
        ("event", "item", "channel"),
    ):
        if found := get_str(body, *names):
            return found
    return ""


def read_place(body: Body) -> Place | None:
    """Return the message an event, a click or a shortcut is about; None where it is about none."""
    event = get_dict(body, "event")
    message = event if event.get("type") in {"message", "app_mention"} else get_dict(body, "message")
    ts = get_str(message, "ts") or get_str(body, "container", "message_ts")
    channel = read_channel(body)
    if not (ts and channel):
        return None
    thread_ts = get_str(message, "thread_ts") or get_str(body, "container", "thread_ts") or ts
    return Place(read_team(body), channel, ts, thread_ts)


def read_asker(body: Body) -> Asker:
    """Return who is to be told how it went."""
    meta = read_metadata(body)
    if meta:
        return Asker(read_team(body), read_user(body), str(meta.get("channel", "")), str(meta.get("thread_ts", "")), "")
    place = read_place(body)
    thread_ts = place.thread_ts if place is not None else get_str(body, "thread_ts")
    return Asker(read_team(body), read_user(body), read_channel(body), thread_ts, get_str(body, "response_url"))


def read_metadata(body: Body) -> Body:
    """Return what a modal was given to remember; empty for what is no modal of ours."""
    try:
        meta = json.loads(get_str(body, "view", "private_metadata") or "{}")
    except (ValueError, RecursionError):
        return {}
    return meta if isinstance(meta, dict) else {}


def read_packed(value: str) -> Body:
    """Return what a button was given to remember of its ticket, where it stands on a message of its own; empty for other buttons."""
    try:
        packed = json.loads(value) if value.startswith("{") else {}
    except (ValueError, RecursionError):
        return {}
    return packed if isinstance(packed, dict) and isinstance(packed.get("channel"), str) else {}


def read_action(body: Body) -> Body:
    """Return the element that was clicked."""
    actions = body.get("actions")
    first = actions[0] if isinstance(actions, list) and actions else {}
    return first if isinstance(first, Mapping) else {}


def find_permalink(text: str, *, team: str) -> Place | None:
    """Return the message that a text links to; None where it holds no link to one."""
    match = _PERMALINK.search(text.replace("&amp;", "&"))
    if match is None:
        return None
    channel, seconds, micros, thread_ts = match.groups()
    ts = f"{seconds}.{micros}"
    return Place(team, channel, ts, thread_ts or ts)


def find_key(name: str, body: Body) -> str:
    """Return the key under which this counts once.

    Events: Slack's `event_id`, the same in each delivery. Clicks and shortcuts: the person and the click's own time stamp, for Slack
    gives them no id. Modals: the view with its hash, since one view may be sent twice after an error shown in it. Commands carry neither;
    their `trigger_id` is new for each time one is typed. What has none of these is known by its content.
    """
    team, user = read_team(body), read_user(body)
    kind = name.partition(":")[0]
    action = read_action(body)
    parts: tuple[str, ...] = ()
    if kind == "event":
        parts = (get_str(body, "event_id"),)
    elif kind == "action":
        parts = (team, user, get_str(action, "action_ts"), get_str(action, "action_id"))
    elif kind == "shortcut":
        parts = (team, user, get_str(body, "action_ts"), get_str(body, "callback_id"))
    elif kind == "view":
        parts = (team, user, get_str(body, "view", "id"), get_str(body, "view", "hash"))
    elif kind == "command":
        parts = (get_str(body, "trigger_id"),)
    if parts and all(parts):
        return _shorten("/".join((kind, *parts)))
    return f"{kind}/{hashlib.sha256(json.dumps(body, sort_keys=True, default=str).encode()).hexdigest()}"


def make_storable(node: Any) -> Any:
    """Return a payload without what some database refuses (halves of characters, NUL), which would also stop those stored along with it."""
    if isinstance(node, str):
        return node if node.isascii() and "\0" not in node else node.encode("utf-8", "replace").decode().replace("\0", "")
    if isinstance(node, Mapping):
        return {make_storable(name): make_storable(value) for name, value in node.items()}
    return [make_storable(value) for value in node] if isinstance(node, list) else node


def _shorten(text: str) -> str:
    return text if len(text) <= MAX_KEY_CHARS else hashlib.sha256(text.encode()).hexdigest()


def find_group(body: Body) -> str:
    """Return the thread an event belongs to: those of one are handled in order."""
    return _shorten(_find_group(body))


def _find_group(body: Body) -> str:
    meta = read_metadata(body) or read_packed(get_str(read_action(body), "value"))
    if meta:
        return f"{meta.get('channel', '')}/{meta.get('thread_ts', '')}"
    if body.get("command") and (linked := find_permalink(get_str(body, "text"), team="")) is not None:
        return linked.group
    deleted = get_dict(body, "event", "previous_message") or get_dict(body, "event", "message")
    if deleted:
        return f"{read_channel(body)}/{get_str(deleted, 'thread_ts') or get_str(deleted, 'ts')}"
    place = read_place(body)
    return "" if place is None else place.group
