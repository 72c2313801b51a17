"""Who is a manager: a person, a member of a user group or of a channel that the settings name. Asked before everything a manager may do.

What Slack says of a group is kept for five minutes, for all processes. Who cannot be proven to be one is none.
"""

import logging
from collections.abc import Mapping
from typing import Any

from bot.plugin_api import BotError
from plugins.slack.clicks import get_actor
from plugins.slack.client import SlackRefusedError
from plugins.slack.desk import Desk
from plugins.slack.payloads import Asker

logger = logging.getLogger(__name__)
CACHE_S = 300.0
PAGE_SIZE = 200
MAX_PAGES = 50


class NotAllowedError(BotError):
    """Somebody who is no manager asked for what managers may do."""


async def require_manager(desk: Desk, asker: Asker, what: str) -> str:
    """Return the actor's name for the audit. Raises NotAllowedError, which is audited; RetryLaterError where Slack is at fault."""
    if await is_manager(desk, asker.team, asker.user):
        return get_actor(asker.user)
    await desk.bot.manager.note_refusal(actor=get_actor(asker.user), what=what)
    if not desk.settings.managers:
        raise NotAllowedError(
            f"Sorry, nobody may {what} from Slack yet: whoever runs the bot has to name managers in UNDERSTUDY_SLACK_MANAGERS."
        )
    raise NotAllowedError(f"Sorry, only managers may {what}. Please ask one of them, or whoever runs the bot to add you.")


async def is_manager(desk: Desk, team: str, user: str) -> bool:
    """Whether a person is a manager. Raises RetryLaterError where Slack is at fault."""
    if not user:
        return False
    named = desk.settings.managers
    if user in named:
        return True
    for one in named:
        if one[0] in "SCG" and user in await _get_members(desk, team, one):
            return True
    return False


async def _get_members(desk: Desk, team: str, one: str) -> frozenset[str]:
    key = f"members/{team}/{one}"
    known = await desk.store.get(key)
    if known is None:
        users = await _fetch_members(desk, team, one)
        known = {"users": users}
        await desk.store.put(key, known, expires_in_s=CACHE_S)
    return frozenset(known["users"])


async def _fetch_members(desk: Desk, team: str, one: str) -> list[str]:
    try:
        if one.startswith("S"):
            found = await desk.client.call("usergroups.users.list", team=team, usergroup=one)
            return _read_ids(found, "users")
        return await _fetch_channel(desk, team, one)
    except SlackRefusedError as error:
        # Of another workspace, deleted, or without the permission to ask: nobody is a manager by it.
        logger.warning("the managers of %s could not be read: %s", one, error.code)
        return []


async def _fetch_channel(desk: Desk, team: str, channel: str) -> list[str]:
    users: list[str] = []
    arguments: dict[str, Any] = {"channel": channel, "limit": PAGE_SIZE}
    for _ in range(MAX_PAGES):
        page = await desk.client.call("conversations.members", team=team, **arguments)
        users += _read_ids(page, "members")
        cursor = (page.get("response_metadata") or {}).get("next_cursor")
        if not cursor:
            break
        arguments["cursor"] = cursor
    return users


def _read_ids(answer: Mapping[str, Any], name: str) -> list[str]:
    found = answer.get(name)
    return [str(one) for one in found] if isinstance(found, list) else []
