"""What every handler works with: the bot, Slack, the store, the queue; and the three things all of them do with Slack.

Posts a message once whatever is repeated, tells a person something wherever they can be reached, and reads threads page by page.
Knows nothing of suggestions or decisions.
"""

import asyncio
import hashlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any

from bot.plugin_api import Bot, Event, EventQueue, RetryLaterError, Store
from plugins.slack.client import SlackClient, SlackRefusedError, UnreachableError
from plugins.slack.modals import Block
from plugins.slack.payloads import Asker, Place
from plugins.slack.records import Record, Records
from plugins.slack.settings import SlackSettings
from plugins.slack.tokens import TokenSource

logger = logging.getLogger(__name__)
PAGE_SIZE = 200
SEARCHED_PAGES = 5
LONGEST_WAIT_S = 65.0  # some apps are given one page per minute
BEGUN_S = 3 * 86400.0
IS_REPEATED: ContextVar[bool] = ContextVar("is_repeated", default=False)
"""Whether the event being handled was begun before, perhaps by a process that was killed: what it posted is looked for first."""


@dataclass
class Desk:
    """The parts, put together by `plugins.slack.app`. `clock` gives seconds since 1970."""

    bot: Bot
    settings: SlackSettings
    client: SlackClient
    tokens: TokenSource
    queue: EventQueue
    store: Store
    clock: Callable[[], float] = time.time
    records: Records = field(init=False)

    def __post_init__(self) -> None:
        self.records = Records(self.store)

    async def show(
        self, name: str, place: Place, *, text: str, blocks: list[Block], record: Record | None = None, may_post: bool = True
    ) -> str:
        """Post the message `name` into the thread of a place, or update it where it stands; keep its record; return its time stamp.

        The first block's id names it, so that a message whose posting was cut short is found instead of posted again. Without `may_post`
        a message that is gone stays away. Raises SlackRefusedError, RetryLaterError.
        """
        known, stored = await self.records.get_ts(name)
        ts = known
        if known == "" or (known is None and IS_REPEATED.get()):
            ts = await self._find_own(place, str(blocks[0].get("block_id", "")))
        if ts:
            try:
                await self.client.call("chat.update", team=place.team, channel=place.channel, ts=ts, text=text, blocks=blocks)
            except SlackRefusedError as error:
                if error.code != "message_not_found" or not may_post:
                    raise
                ts = None
        if not ts:
            ts = await self._post(name, place, text=text, blocks=blocks, is_known=known is not None)
        kept = record or stored
        if ts != known or (kept is not None and replace(kept, ts=ts) != stored):
            await self.records.keep(name, ts, kept)
        return ts

    async def _post(self, name: str, place: Place, *, text: str, blocks: list[Block], is_known: bool) -> str:
        try:
            posted = await self.client.call(
                "chat.postMessage",
                team=place.team,
                channel=place.channel,
                text=text,
                blocks=blocks,
                unfurl_links=False,
                unfurl_media=False,
                **({"thread_ts": place.thread_ts} if place.thread_ts else {}),
            )
        except (RetryLaterError, asyncio.CancelledError):
            if not is_known:
                await self.records.keep(name, "")  # the answer is what got lost, perhaps: the next try looks first
            raise
        return str(posted.get("ts", ""))

    async def _find_own(self, place: Place, block_id: str) -> str | None:
        """Look for a message with that first block in the thread (or at the end of the channel)."""
        try:
            n_pages = 0
            async for message in self.read_messages(place, max_messages=PAGE_SIZE * SEARCHED_PAGES):
                n_pages += 1
                blocks = message.get("blocks")
                if isinstance(blocks, list) and blocks and blocks[0].get("block_id") == block_id:
                    return str(message.get("ts", ""))
        except SlackRefusedError as error:
            logger.info("a message could not be looked for: %s", error.code)
        return None

    async def read_messages(self, place: Place, *, max_messages: int) -> AsyncIterator[Mapping[str, Any]]:
        """Yield the messages of a thread, oldest first (without a thread, those of the channel, newest first).

        Waits where Slack asks for a short pause between pages. Raises SlackRefusedError, RetryLaterError.
        """
        method = "conversations.replies" if place.thread_ts else "conversations.history"
        arguments: dict[str, Any] = {"channel": place.channel, "limit": PAGE_SIZE}
        if place.thread_ts:
            arguments["ts"] = place.thread_ts
        n_read = 0
        while True:
            page = await self._read_page(method, place.team, arguments, is_first=n_read == 0)
            found = page.get("messages")
            for message in found if isinstance(found, list) else []:
                if n_read >= max_messages:
                    return
                n_read += 1
                yield message
            cursor = (page.get("response_metadata") or {}).get("next_cursor")
            if not cursor:
                return
            arguments["cursor"] = cursor

    async def _read_page(self, method: str, team: str, arguments: Mapping[str, Any], *, is_first: bool) -> Mapping[str, Any]:
        while True:
            try:
                return await self.client.call(method, team=team, **arguments)
            except RetryLaterError as error:
                if is_first or error.after_s > LONGEST_WAIT_S:
                    raise
                await asyncio.sleep(error.after_s)

    async def fetch_message(self, place: Place) -> Mapping[str, Any] | None:
        """Return one message, or None where it is gone or Slack keeps its place in the thread alone. Raises SlackRefusedError, RetryLaterError."""
        page = await self.client.call(
            "conversations.replies",
            team=place.team,
            channel=place.channel,
            ts=place.thread_ts,
            oldest=place.ts,
            latest=place.ts,
            inclusive=True,
            limit=2,
        )
        found = page.get("messages")
        message = next((m for m in (found if isinstance(found, list) else []) if m.get("ts") == place.ts), None)
        return None if message is None or message.get("subtype") == "tombstone" else message

    async def tell(self, asker: Asker, text: str, *, blocks: list[Block] | None = None) -> bool:
        """Tell a person something that they alone see: in the thread, else where they clicked, else in a direct message.

        Says whether it reached them. Raises RetryLaterError where Slack is at fault.
        """
        if not asker.user:
            logger.info("nobody is there to be told that something could not be done")
            return False
        for way in (self._tell_in_thread, self._tell_by_url, self._tell_directly):
            try:
                if await way(asker, text, blocks):
                    return True
            except UnreachableError:
                logger.debug("a way of answering is out of reach")
            except RetryLaterError:
                if way != self._tell_in_thread or not asker.response_url:
                    raise  # the other address has limits of its own, so that nobody waits and nothing is done twice
            except SlackRefusedError as error:
                logger.debug("a way of answering was refused: %s", error.code)
        logger.warning("a person could not be told that something could not be done: Slack refused every way")
        return False

    async def begin(self, event: Event) -> None:
        """Remember that what the event asks for is about to be done, so that a later try knows who did it; said right before.

        Of what may be done twice it can be said right after instead.
        """
        await self.store.put(_get_begun_key(event), {}, expires_in_s=BEGUN_S)

    async def has_begun(self, event: Event) -> bool:
        """Whether an earlier try was about to do what the event asks for.

        `event.attempt` does not say so: a try that had to wait for Slack is not counted, though it had done its work by then.
        """
        return await self.store.get(_get_begun_key(event)) is not None

    async def _tell_in_thread(self, asker: Asker, text: str, blocks: list[Block] | None) -> bool:
        if not asker.channel:
            return False
        extra = {"thread_ts": asker.thread_ts} if asker.thread_ts else {}
        await self.client.call(
            "chat.postEphemeral",
            team=asker.team,
            channel=asker.channel,
            user=asker.user,
            text=text,
            **({"blocks": blocks} if blocks else {}),
            **extra,
        )
        return True

    async def _tell_by_url(self, asker: Asker, text: str, blocks: list[Block] | None) -> bool:
        if not asker.response_url:
            return False
        await self.client.answer(asker.response_url, text=text, blocks=blocks)
        return True

    async def _tell_directly(self, asker: Asker, text: str, blocks: list[Block] | None) -> bool:
        opened = await self.client.call("conversations.open", team=asker.team, users=asker.user)
        channel = (opened.get("channel") or {}).get("id")
        if not channel:
            return False
        extra = {"blocks": blocks} if blocks else {}
        await self.client.call("chat.postMessage", team=asker.team, channel=channel, text=text, **extra)
        return True


def _get_begun_key(event: Event) -> str:
    return f"begun/{hashlib.sha256(event.key.encode()).hexdigest()[:32]}"
