"""Calls Slack's Web API: one connection pool, rate limits honoured, refusals as sentences for the person who asked.

Knows nothing of tickets. A call is made once: whoever handles the event decides about another try, so that nothing is posted twice.
"""

import asyncio
import ipaddress
import logging
import re
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from slack_sdk.errors import SlackApiError, SlackClientError
from slack_sdk.web.async_client import AsyncWebClient
from slack_sdk.web.async_slack_response import AsyncSlackResponse

from bot.plugin_api import RetryLaterError
from plugins.slack.settings import SlackSettings
from plugins.slack.tokens import TokenSource, Workspace

TIMEOUT_S = 10.0
OUTAGE_PAUSE_S = 5.0
MANY_CALLS_PAUSE_S = 30.0  # Slack's usual answer where it names no time

sdk_logger = logging.getLogger("plugins.slack.sdk")
"""Given to bolt and to the SDK. Both write whole messages at DEBUG, so their level stays above it, whatever the bot logs."""

ERROR_WORDS: Mapping[str, str] = {
    "not_in_channel": "I am not in that channel: invite me with /invite and try again.",
    "channel_not_found": "I cannot see that channel: invite me with /invite and try again.",
    "user_not_in_channel": "You are not in that channel, so I cannot answer you there.",
    "is_inactive": "That channel is archived, so nothing can be written there any more.",
    "no_permission": "The bot's token does not allow this; an administrator has to install the app again from its manifest.",
    "is_archived": "That channel is archived, so nothing can be written there any more.",
    "message_not_found": "That message is no longer there; it has been deleted.",
    "thread_not_found": "That thread is no longer there; its first message has been deleted.",
    "cant_update_message": "That message cannot be changed by me, so the card stays as it is.",
    "edit_window_closed": "Slack no longer lets me change that message, so the card stays as it is.",
    "missing_scope": "The Slack app lacks a permission for this; an administrator has to install it again from its manifest.",
    "not_allowed_token_type": "The bot token is of the wrong kind; an administrator has to set one that begins with xoxb-.",
    "restricted_action": "This workspace does not let me write there; an administrator can change that.",
    "restricted_action_read_only_channel": "That channel is read-only, so I cannot write there.",
    "expired_trigger_id": "Slack waits three seconds for a form to open, and they had passed. Please click again.",
    "invalid_trigger_id": "Slack did not accept the click for opening a form. Please click again.",
    "exchanged_trigger_id": "This click has already opened a form. Please click again.",
    "invalid_auth": "Slack refuses the bot's token; an administrator has to set a new one.",
    "not_authed": "The bot has no token for this workspace; an administrator has to install the app.",
    "account_inactive": "The app has been removed from this workspace; an administrator has to install it again.",
    "token_revoked": "The bot's token has been revoked; an administrator has to install the app again.",
    "token_expired": "The bot's token has expired; an administrator has to install the app again.",
    "msg_too_long": "The message would be longer than Slack allows.",
    "msg_blocks_too_long": "The message would be longer than Slack allows.",
    "not_sent": "Slack sent too little to answer this. Please click or type it again.",
    "cannot_reply_to_message": "Slack allows no replies to that message.",
    "restricted_action_thread_locked": "That thread is locked, so nothing can be written there.",
    "restricted_action_non_threadable_channel": "That channel allows no replies in threads, so I cannot write there.",
    "restricted_action_thread_only_channel": "That channel allows replies in threads only; use a message's shortcut there.",
    "team_access_not_granted": "The Slack app is not installed in this workspace; an administrator has to add it.",
    "invalid_blocks": "Slack did not accept the layout of the card; please tell whoever runs the bot.",
    "cannot_dm_bot": "Slack does not let apps write to each other.",
    "used_url": "Slack no longer takes answers to this; please click or type it again.",
    "expired_url": "Slack takes answers for half an hour only; please click or type it again.",
}
# The SDK sends these as GET, which servers built after Slack's document do not take; Slack takes both.
_READS = frozenset({"conversations.replies", "conversations.history"})
_SCOPES = re.compile(r"[a-z_.:,]{1,100}")
_OUTAGES = frozenset({"internal_error", "fatal_error", "service_unavailable", "request_timeout", "team_added_to_org"})


class SlackRefusedError(Exception):
    """Slack refused a call for good. `code` is Slack's, the message one sentence for the person who asked.

    `needed` is the permission that Slack says is missing.
    """

    def __init__(self, code: str, *, needed: str = "") -> None:
        words = ERROR_WORDS.get(code, f"Slack refused this ({code}).")
        super().__init__(words.replace("lacks a permission", f"lacks the permission {needed}") if needed else words)
        self.code = code


class UnreachableError(RetryLaterError):
    """Nothing answers at the address that came with a click or a command."""


class SlackClient:
    """Slack's Web API for every workspace."""

    def __init__(self, settings: SlackSettings, tokens: TokenSource) -> None:
        sdk_logger.setLevel(logging.WARNING)
        self._tokens = tokens
        self._web = AsyncWebClient(base_url=settings.api_url, timeout=int(TIMEOUT_S), logger=sdk_logger, retry_handlers=[])
        self._host = urlsplit(settings.api_url).hostname or ""
        if is_local(self._host):
            self._web.proxy = None  # a server on this machine is not behind the proxy that the environment may name
        self._not_before: dict[tuple[str, str], float] = {}  # by method and token: each workspace has limits of its own
        self.trouble: str | None = None

    @property
    def web(self) -> AsyncWebClient:
        """The SDK's client, without a token."""
        return self._web

    async def open(self) -> None:
        """Open the connection pool."""
        self._web.session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S))

    async def close(self) -> None:
        """Close the connection pool."""
        if self._web.session is not None:
            await self._web.session.close()

    async def call(self, method: str, *, team: str, **arguments: Any) -> Mapping[str, Any]:
        """Call a method such as "chat.postMessage" once. Raises SlackRefusedError, or RetryLaterError where Slack is at fault."""
        workspace = await self._tokens.get_workspace(team)
        if workspace is None:
            raise SlackRefusedError("not_authed")
        return await self._call(method, workspace.bot_token, arguments)

    async def check(self, workspace: Workspace) -> Workspace:
        """Ask Slack who a token belongs to. Raises as `call` does."""
        found = await self._call("auth.test", workspace.bot_token, {})
        known = Workspace(
            bot_token=workspace.bot_token,
            team=str(found.get("team_id") or ""),
            bot_user_id=str(found.get("user_id") or ""),
            bot_id=str(found.get("bot_id") or ""),
        )
        self._tokens.learn(known)
        return known

    def is_slack(self, url: str) -> bool:
        """Whether an address is one that Slack gives out, or the server's that stands in for it."""
        host = urlsplit(url).hostname or ""
        if is_local(self._host):
            return is_local(host) or host == "slack.com" or host.endswith(".slack.com")
        return any(host == known or host.endswith(f".{known}") for known in ("slack.com", self._host))

    async def answer(self, response_url: str, *, text: str, blocks: list[dict[str, Any]] | None = None) -> None:
        """Answer the person alone at the address that came with a click or a command. Raises as `call` does."""
        if not self.is_slack(response_url):
            raise SlackRefusedError("expired_url")  # an address that Slack does not give out: nothing is sent there
        message = {
            "response_type": "ephemeral",
            "replace_original": False,
            "text": text,
            **({"blocks": blocks} if blocks else {}),
        }
        session = self._web.session
        if session is None or session.closed:
            raise RetryLaterError("the connection to Slack is closed", after_s=OUTAGE_PAUSE_S)
        try:
            async with session.post(response_url, json=message, proxy=self._web.proxy) as response:
                status, retry_after = response.status, response.headers.get("Retry-After")
        except (aiohttp.ClientError, TimeoutError) as error:
            raise UnreachableError(type(error).__name__, after_s=OUTAGE_PAUSE_S) from error
        if status == 429:
            raise RetryLaterError("response_url", after_s=read_pause(retry_after))
        if status >= 400:
            raise SlackRefusedError("expired_url" if status < 500 else "used_url")

    async def _call(self, method: str, token: str, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        pause = self._not_before.get((method, token), 0.0) - time.monotonic()
        if pause > 0:
            raise RetryLaterError(method, after_s=pause)
        try:
            response = await self._send(method, token, arguments)
        except SlackApiError as error:
            raise self._explain(method, token, error) from error
        except SlackClientError as error:  # the SDK refuses to send it: the event named no trigger or no view
            raise SlackRefusedError("not_sent") from error
        except (aiohttp.ClientError, TimeoutError, asyncio.IncompleteReadError, OSError) as error:
            self.trouble = f"Slack cannot be reached ({type(error).__name__}); it is tried again"
            raise RetryLaterError(type(error).__name__, after_s=OUTAGE_PAUSE_S) from error
        self.trouble = None
        data = response.data
        return data if isinstance(data, Mapping) else {}

    async def _send(self, method: str, token: str, arguments: Mapping[str, Any]) -> AsyncSlackResponse:
        if method in _READS:
            form = {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in arguments.items()}
            return await self._web.api_call(method, data=form, headers={"Authorization": f"Bearer {token}"})
        function = getattr(self._web, method.replace(".", "_"))
        response: AsyncSlackResponse = await function(token=token, **arguments)
        return response

    def _explain(self, method: str, token: str, error: SlackApiError) -> Exception:
        """Tell a refusal from a limit and an outage."""
        response: Any = error.response
        data = getattr(response, "data", None)
        code = str(data.get("error") or "") if isinstance(data, Mapping) else ""
        status = getattr(response, "status_code", 0) or getattr(response, "status", 0)
        headers = getattr(response, "headers", None) or {}
        if code in {"ratelimited", "rate_limited"} or status == 429:
            after_s = read_pause(headers.get("Retry-After"))
            self._not_before[method, token] = time.monotonic() + after_s
            return RetryLaterError(method, after_s=after_s)
        if status >= 500 or code in _OUTAGES or not code:
            self.trouble = f"Slack answers with an error ({code or status}); it is tried again"
            return RetryLaterError(code or str(status), after_s=OUTAGE_PAUSE_S)
        needed = data.get("needed") if isinstance(data, Mapping) else ""
        refused = SlackRefusedError(code, needed=needed if isinstance(needed, str) and _SCOPES.fullmatch(needed) else "")
        if code in {"invalid_auth", "account_inactive", "token_revoked", "token_expired", "not_authed"}:
            self.trouble = str(refused)
        return refused


def read_pause(retry_after: object) -> float:
    """Return the seconds of a Retry-After header."""
    try:
        return max(0.1, float(str(retry_after)))
    except ValueError:
        return MANY_CALLS_PAUSE_S


def is_local(host: str) -> bool:
    """Whether a host is this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
