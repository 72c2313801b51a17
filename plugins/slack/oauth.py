"""Several workspaces: the install page, what Slack sends back to it, and the tokens, encrypted in the plugin's store.

A workspace that removes the app takes its token with it. Knows nothing of tickets; no token and no code is ever logged.
"""

import hashlib
import logging
import secrets
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import aiohttp
from fastapi import APIRouter
from slack_sdk.errors import SlackApiError
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response

from bot.plugin_api import Event, Store
from plugins.slack.client import SlackClient
from plugins.slack.desk import Desk
from plugins.slack.payloads import get_dict, get_str, read_team
from plugins.slack.settings import SlackSettings
from plugins.slack.tokens import SingleToken, Workspace

logger = logging.getLogger(__name__)
STATE_S = 600
CACHE_S = 60.0
COOKIE = "understudy-slack-install"
TEAM, STATE = "team/", "oauth-state/"
SCOPES = (
    "app_mentions:read",
    "channels:history",
    "channels:read",
    "chat:write",
    "commands",
    "files:write",
    "groups:history",
    "groups:read",
    "im:write",
    "usergroups:read",
)
"""What the app asks a workspace for; the manifests ask for the same."""

INSTALLED = "Understudy is installed. You can close this page; in Slack, invite @understudy into a channel."
AGAIN = "This installation is not known here, or it took over ten minutes. Begin again at /plugins/slack/install."
DENIED = "The installation was cancelled in Slack; nothing was changed."
WHOLE_ORG = "Understudy is installed into single workspaces. Begin again and choose one instead of the whole organisation."
FOREIGN = "This workspace is not among those that may install Understudy here (UNDERSTUDY_SLACK_WORKSPACES)."
UNREACHABLE = "Slack could not be reached. Begin again at /plugins/slack/install."


class StoredTokens:
    """Implements `TokenSource` over the store: a token per workspace, else the one of the settings. Asks the store at most once a minute."""

    def __init__(self, store: Store, single: SingleToken | None) -> None:
        self._store, self._single = store, single
        self._known: dict[str, tuple[float, Workspace | None]] = {}
        self._own: set[str] = set()

    async def open(self) -> None:
        """Learn the bot's ids in all workspaces, so that its own messages are known from the start."""
        for value in (await self._store.get_all(TEAM)).values():
            self._learn_ids(_unpack(value))

    async def get_workspace(self, team: str) -> Workspace | None:
        """See `TokenSource.get_workspace`."""
        at, known = self._known.get(team, (0.0, None))
        if not at or time.monotonic() - at > CACHE_S:
            value = await self._store.get(f"{TEAM}{team}") if team else await self._get_only()
            known = None if value is None else _unpack(value)
            self._known[team] = (time.monotonic(), known)
            if known is not None:
                self._learn_ids(known)
        if known is None and self._single is not None:
            return await self._single.get_workspace(team)
        return known

    async def _get_only(self) -> Mapping[str, Any] | None:
        """Return the one installation there is, for what names no workspace."""
        values = list((await self._store.get_all(TEAM)).values())
        return values[0] if len(values) == 1 else None

    def is_own(self, user_or_bot_id: str) -> bool:
        """See `TokenSource.is_own`."""
        return user_or_bot_id in self._own or (self._single is not None and self._single.is_own(user_or_bot_id))

    def learn(self, workspace: Workspace) -> None:
        """See `TokenSource.learn`."""
        if self._single is not None:
            self._single.learn(workspace)

    async def keep(self, workspace: Workspace, *, installed_at: float) -> None:
        """Store a workspace's token, in place of an earlier one."""
        value = {
            "bot_token": workspace.bot_token,
            "team": workspace.team,
            "bot_user_id": workspace.bot_user_id,
            "bot_id": workspace.bot_id,
            "installed_at": installed_at,
        }
        await self._store.put(f"{TEAM}{workspace.team}", value)
        self._known.clear()
        self._learn_ids(workspace)

    async def forget(self, team: str, *, at: float) -> bool:
        """Delete a workspace's token unless it was installed again after `at` (seconds since 1970): Slack may deliver late."""
        value = await self._store.get(f"{TEAM}{team}")
        if value is None or (at and float(value["installed_at"]) > at):
            return False
        self._known.clear()
        return await self._store.delete(f"{TEAM}{team}")

    def _learn_ids(self, workspace: Workspace) -> None:
        self._own |= {one for one in (workspace.bot_user_id, workspace.bot_id) if one}


def _unpack(value: Mapping[str, Any]) -> Workspace:
    return Workspace(*(str(value[name]) for name in ("bot_token", "team", "bot_user_id", "bot_id")))


class Installer:
    """The two pages of an installation."""

    def __init__(self, settings: SlackSettings, client: SlackClient, tokens: StoredTokens, *, store: Store) -> None:
        if settings.client_id is None or settings.client_secret is None:
            raise ValueError("SLACK_CLIENT_ID and SLACK_CLIENT_SECRET are not set")
        self._client_id, self._secret = settings.client_id, settings.client_secret
        self._settings, self._client, self._tokens, self._store = settings, client, tokens, store

    def add_to(self, router: APIRouter) -> None:
        """Add the routes."""
        router.add_api_route("/install", self.install, methods=["GET"], response_model=None)
        router.add_api_route("/oauth_redirect", self.finish, methods=["GET"], response_model=None)

    async def install(self, request: Request) -> Response:
        """Send the browser to Slack with a state that counts once, for ten minutes, in this browser alone."""
        state = secrets.token_urlsafe(32)
        await self._store.put(_state_key(state), {}, expires_in_s=STATE_S)
        site = self._settings.api_url.removesuffix("/").removesuffix("/api")
        asked = urlencode({"client_id": self._client_id, "scope": ",".join(SCOPES), "state": state})
        answer = RedirectResponse(f"{site}/oauth/v2/authorize?{asked}", status_code=302, headers={"Cache-Control": "no-store"})
        is_secure = request.url.scheme == "https" or request.headers.get("X-Forwarded-Proto") == "https"
        answer.set_cookie(COOKIE, state, max_age=STATE_S, httponly=True, secure=is_secure, samesite="lax")
        return answer

    async def finish(self, request: Request) -> Response:
        """Take what Slack sends the browser back with, and fetch the token for it."""
        state, cookie = request.query_params.get("state", ""), request.cookies.get(COOKIE, "")
        is_same = bool(state) and secrets.compare_digest(state.encode(), cookie.encode())
        key = _state_key(state)
        if not is_same or await self._store.get(key) is None or not await self._store.delete(key):
            return _say(AGAIN, 400)
        if request.query_params.get("error"):
            return _say(DENIED, 400)
        try:
            # In the form, not as HTTP basic authentication: the SDK's own method uses what aiohttp is about to remove.
            form = {"client_id": self._client_id, "client_secret": self._secret.get_secret_value()}
            code = request.query_params.get("code", "")
            found = await self._client.web.api_call("oauth.v2.access", data={**form, "code": code})
        except SlackApiError:
            logger.warning("Slack: an installation was refused")
            return _say(AGAIN, 400)
        except (TimeoutError, aiohttp.ClientError, OSError):
            return _say(UNREACHABLE, 502)
        data = found.data
        return await self._keep(data if isinstance(data, Mapping) else {})

    async def _keep(self, found: Mapping[str, Any]) -> Response:
        team, token = get_str(found, "team", "id"), get_str(found, "access_token")
        if found.get("is_enterprise_install") is True or not (team and token):
            return _say(WHOLE_ORG, 400)
        if self._settings.workspaces and team not in self._settings.workspaces:
            logger.warning("Slack: workspace %s may not install the app", team)
            return _say(FOREIGN, 403)
        workspace = Workspace(token, team=team, bot_user_id=get_str(found, "bot_user_id"))
        await self._tokens.keep(workspace, installed_at=time.time())
        logger.info("Slack: installed into workspace %s", team)
        return _say(INSTALLED, 200)


def _state_key(state: str) -> str:
    return f"{STATE}{hashlib.sha256(state.encode()).hexdigest()}"


def _say(text: str, status: int) -> Response:
    answer = PlainTextResponse(text, status_code=status, headers={"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"})
    answer.delete_cookie(COOKIE)
    return answer


async def on_uninstalled(desk: Desk, event: Event) -> None:
    """Delete the token of a workspace that has removed the app."""
    await _forget(desk, event)


async def on_revoked(desk: Desk, event: Event) -> None:
    """Delete the token of a workspace that has revoked the bot's; people's tokens are not ours."""
    if get_dict(event.payload, "event", "tokens").get("bot"):
        await _forget(desk, event)


async def _forget(desk: Desk, event: Event) -> None:
    team = read_team(event.payload)
    at = event.payload.get("event_time")
    is_gone = isinstance(desk.tokens, StoredTokens) and await desk.tokens.forget(
        team, at=float(at) if isinstance(at, int | float) else 0.0
    )
    if is_gone:
        logger.info("Slack: removed from workspace %s; its token is deleted", team)
