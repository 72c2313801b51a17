"""The Slack plugin put together: bolt, transports, queue, and what is known of Slack's health.

Decides nothing about events: `plugins.slack.events` lists them.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import APIRouter
from slack_bolt.async_app import AsyncAck, AsyncApp
from slack_bolt.authorization import AuthorizeResult
from slack_bolt.error import BoltUnhandledRequestError
from slack_bolt.response import BoltResponse

from bot.plugin_api import Bot, BotError, RetryLaterError
from plugins.slack.client import SlackClient, SlackRefusedError, sdk_logger
from plugins.slack.desk import Desk
from plugins.slack.digest import WeeklyDigest
from plugins.slack.elsewhere import DecisionWatch
from plugins.slack.events import HANDLERS, OPENERS, ROUTES
from plugins.slack.intake import Intake, NotStoredError
from plugins.slack.oauth import Installer, StoredTokens
from plugins.slack.runs import RunWatch
from plugins.slack.settings import SlackSettings
from plugins.slack.tokens import SingleToken, TokenSource, Workspace
from plugins.slack.transports import DiscreetFilter, SocketMode, build_router

logger = logging.getLogger(__name__)
CHECK_INTERVAL_S = 300.0
RECHECK_INTERVAL_S = 10.0


class SlackPlugin:
    """Implements `bot.plugin_api.Plugin`."""

    def __init__(self, bot: Bot, settings: SlackSettings) -> None:
        if settings.bot_token is None and not settings.is_installable:
            raise ValueError("SLACK_BOT_TOKEN is not set")
        check_labels(settings, bot.inbox.get_label_set().names)
        self._token = "" if settings.bot_token is None else settings.bot_token.get_secret_value()
        self.settings = settings
        store = bot.open_store("slack")
        single = SingleToken(self._token) if self._token else None
        self._tokens: TokenSource = StoredTokens(store, single) if single is None or settings.is_installable else single
        self.client = SlackClient(settings, self._tokens)
        self.queue = bot.open_queue("slack")
        self.desk = Desk(bot=bot, settings=settings, client=self.client, tokens=self._tokens, queue=self.queue, store=store)
        self.intake = Intake(self.desk)
        app = build_bolt(self.intake, self._tokens, self.client)
        self._router = build_router(app, settings.signing_secret)
        if isinstance(self._tokens, StoredTokens) and settings.is_installable:
            Installer(settings, self.client, self._tokens, store=store).add_to(self._router)
        self.runs = RunWatch(self.desk)
        self.decisions = DecisionWatch(self.desk)
        self.digest = WeeklyDigest(self.desk)
        self._socket = SocketMode(app, self.client, settings.app_token) if settings.app_token is not None else None
        self._checker: asyncio.Task[None] | None = None

    @property
    def router(self) -> APIRouter:
        """The endpoint for events, interactions and commands, mounted at /plugins/slack."""
        return self._router

    async def start(self) -> None:
        """Open the connection pool and handle events, those left by an earlier process first. Slack need not be reachable."""
        logger.info("Slack: %s", self.settings.describe_transport())
        await self.client.open()
        if isinstance(self._tokens, StoredTokens):
            await self._tokens.open()
        await self.queue.start(self.intake.handle, workers=self.settings.workers)
        if self._socket is not None:
            await self._socket.start()
        if self._token:
            self._checker = asyncio.create_task(self._check(), name="slack-check")
        await self.runs.start()
        await self.decisions.start()
        await self.digest.start()

    async def stop(self) -> None:
        """Take in nothing more and let what is being handled end."""
        if self._socket is not None:
            await self._socket.stop()
        if self._checker is not None:
            self._checker.cancel()
            await asyncio.gather(self._checker, return_exceptions=True)
        await self.digest.stop()
        await self.decisions.stop()
        await self.runs.stop()
        await self.intake.stop()
        await self.queue.stop()
        await self.client.close()

    def find_trouble(self) -> str | None:
        """Say in one sentence what is wrong between the bot and Slack, or None; for health."""
        if self.client.trouble is not None:
            return self.client.trouble
        return None if self._socket is None else self._socket.find_trouble()

    async def _check(self) -> None:
        """Ask Slack now and then who the token belongs to: the bot's own ids are learnt, and trouble is seen and seen to end."""
        known, is_told = "", False
        while True:
            try:
                workspace = await self.client.check(Workspace(self._token))
                if known != workspace.team:
                    logger.info("Slack: connected to workspace %s", workspace.team)
                known, is_told, pause = workspace.team, False, CHECK_INTERVAL_S
            except (SlackRefusedError, RetryLaterError) as error:
                if not is_told:
                    logger.warning("Slack: %s", self.client.trouble or type(error).__name__)
                known, is_told, pause = "", True, RECHECK_INTERVAL_S
            await asyncio.sleep(pause)


def check_labels(settings: SlackSettings, names: tuple[str, ...]) -> None:
    """Raise BotError where a channel's labels are not in the label set."""
    for channel, labels in settings.channels.items():
        unknown = sorted(set(labels) - set(names))
        if unknown:
            message = f"UNDERSTUDY_SLACK_CHANNELS gives {channel} labels that are not in the label set: {', '.join(unknown)}"
            logger.error(message)
            raise BotError(message)


def build_bolt(intake: Intake, tokens: TokenSource, client: SlackClient) -> AsyncApp:
    """Return bolt's app with one listener for each name in the lists of `plugins.slack.events`.

    `process_before_response` makes the answer wait for the listener, which does nothing but store: bolt would otherwise acknowledge
    an event before it is safe. The token is looked up in memory, so that no request waits for Slack's auth.test.
    """
    sdk_logger.setLevel(logging.ERROR)  # bolt warns of a token in the environment that it was told not to use
    if not any(isinstance(known, DiscreetFilter) for known in sdk_logger.filters):
        sdk_logger.addFilter(DiscreetFilter())

    async def authorize(enterprise_id: str | None, team_id: str | None) -> AuthorizeResult:
        found = await tokens.get_workspace(team_id or enterprise_id or "") or Workspace("")
        return AuthorizeResult(
            enterprise_id=enterprise_id,
            team_id=team_id,
            bot_token=found.bot_token or None,
            bot_user_id=found.bot_user_id or None,
            bot_id=found.bot_id or None,
        )

    app = AsyncApp(
        name="understudy",
        logger=sdk_logger,
        client=client.web,
        authorize=authorize,
        process_before_response=True,
        raise_error_for_unhandled_request=True,
        request_verification_enabled=False,  # done before bolt sees the request, see plugins.slack.transports
        ssl_check_enabled=False,
    )
    sdk_logger.setLevel(logging.WARNING)
    app.error(build_error_listener(intake))
    for name in (*HANDLERS, *OPENERS, *ROUTES):
        add_listener(app, name, intake)
    return app


def add_listener(app: AsyncApp, name: str, intake: Intake) -> None:
    """Let bolt hand every request of that name to the intake."""
    kind, _, word = name.partition(":")
    kinds: dict[str, Callable[[str], Callable[..., Any]]] = {
        "event": app.event,
        "shortcut": app.shortcut,
        "command": app.command,
        "action": app.action,
        "view": app.view,
    }
    if kind not in kinds:
        return  # the plugin puts it into the queue itself

    async def listen(body: dict[str, Any], ack: AsyncAck) -> None:
        await intake.take(name, body, ack)

    kinds[kind](word)(listen)


def build_error_listener(intake: Intake) -> Callable[..., Awaitable[BoltResponse]]:
    """Return what bolt calls for what nobody listens to, and for what could not be stored."""

    async def explain(error: Exception, body: dict[str, Any]) -> BoltResponse:
        if isinstance(error, BoltUnhandledRequestError):
            intake.counts["unknown"] += 1
            if body.get("type") == "app_rate_limited":
                logger.warning("Slack holds events back: it has more for the bot than it sends in an hour")
            text = "I do not know this command." if body.get("command") else ""
            return BoltResponse(status=200, body=text)
        # The type alone: the text of a foreign exception may quote the event.
        if isinstance(error, NotStoredError):
            logger.error("an event could not be taken in (%s); Slack sends it again", type(error.__cause__).__name__)
            return BoltResponse(status=503, body="")
        logger.warning("a request of a shape that bolt does not know was left alone (%s)", type(error).__name__)
        return BoltResponse(status=200, body="")  # it would look the same if Slack sent it again

    return explain
