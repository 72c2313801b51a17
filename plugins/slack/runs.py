"""Follows training runs on their messages: the bar in place, the verdict with its plot, and again after a restart.

Which runs are followed is in the store, so that whichever process is there takes them up; one at a time, by a lease. Starts and decides nothing.
"""

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from bot.plugin_api import NotFoundError, RetryLaterError, RunInfo
from plugins.slack.client import OUTAGE_PAUSE_S, SlackRefusedError, is_local, read_pause
from plugins.slack.desk import Desk
from plugins.slack.payloads import Asker, Place
from plugins.slack.reports import RUNNING, build_run, render_run

logger = logging.getLogger(__name__)
UPDATE_PAUSE_S = 1.0
LOOK_PAUSE_S = 2.0
LEASE_S = 15.0
RENEW_PAUSE_S = 4.0
KEEP_S = 30 * 86400.0
FOLLOWED, LEASE, PLOT, NOTES = "followed/", "follow-lease/", "run-plot/", "run-notes/"
Sleep = Callable[[float], Awaitable[None]]


async def begin(desk: Desk, run: RunInfo, asker: Asker) -> None:
    """Post the message of a run and have it followed. In a direct message where the channel is closed to the bot."""
    channel = asker.channel or await _open_direct(desk, asker)
    try:
        ts = await _show(desk, run, Place(asker.team, channel, "", ""))
    except SlackRefusedError:
        channel = await _open_direct(desk, asker)
        ts = await _show(desk, run, Place(asker.team, channel, "", ""))
    value = {"team": asker.team, "channel": channel, "ts": ts, "user": asker.user}
    await desk.store.put(f"{FOLLOWED}{run.run_id}", value, expires_in_s=KEEP_S)
    await desk.store.put(f"run-place/{run.run_id}", value, expires_in_s=KEEP_S)


async def refresh(desk: Desk, run: RunInfo, *, note: str = "") -> None:
    """Show a run that has ended as it stands now, with one more line about who decided what."""
    if note:
        await _add_note(desk, run.run_id, note)
    place = await desk.store.get(f"run-place/{run.run_id}")
    if place is not None:
        await _show(desk, run, Place(str(place["team"]), str(place["channel"]), "", ""))


async def _add_note(desk: Desk, run_id: int, note: str) -> None:
    notes = await get_notes(desk, run_id)
    if note not in notes:
        await desk.store.put(f"{NOTES}{run_id}", {"lines": [*notes, note][-10:]}, expires_in_s=KEEP_S)


async def get_notes(desk: Desk, run_id: int) -> list[str]:
    """Return the lines about who decided what on a run; ids of people, no words of theirs."""
    return list((await desk.store.get(f"{NOTES}{run_id}") or {}).get("lines", []))


async def _show(desk: Desk, run: RunInfo, place: Place) -> str:
    blocks = build_run(run, notes=await get_notes(desk, run.run_id))
    return await desk.show(f"run-card/{run.run_id}", place, text=render_run(run), blocks=blocks)


async def _open_direct(desk: Desk, asker: Asker) -> str:
    opened = await desk.client.call("conversations.open", team=asker.team, users=asker.user)
    return str((opened.get("channel") or {}).get("id", ""))


class RunWatch:
    """Looks for runs to follow and follows each until it has ended. `sleep` is replaced in tests."""

    def __init__(self, desk: Desk, *, sleep: Sleep = asyncio.sleep) -> None:
        self._desk, self._sleep = desk, sleep
        self._owner = secrets.token_hex(8)
        self._looker: asyncio.Task[None] | None = None
        self._followers: dict[str, asyncio.Task[None]] = {}

    async def start(self) -> None:
        """Take up what an earlier process followed, and look for more from now on."""
        self._looker = asyncio.create_task(self._look(), name="slack-runs")

    async def stop(self) -> None:
        """Leave the runs to the next process."""
        pending = [*self._followers.values(), *([self._looker] if self._looker is not None else [])]
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        self._looker = None

    async def join(self) -> None:
        """Follow everything that is there to its end; for tests."""
        await self.look_once()
        await asyncio.gather(*self._followers.values())

    async def _look(self) -> None:
        while True:
            try:
                await self.look_once()
            except Exception as error:  # the database may be away for a while; the type alone, and on it goes
                logger.warning("runs to follow could not be looked for (%s)", type(error).__name__)
            await asyncio.sleep(LOOK_PAUSE_S)

    async def look_once(self) -> None:
        """Begin to follow each run that nobody follows."""
        self._followers = {key: task for key, task in self._followers.items() if not task.done()}
        for key in await self._desk.store.get_all(FOLLOWED):
            if key not in self._followers and await self._take(key):
                self._followers[key] = asyncio.create_task(self._follow(key), name=f"slack-{key}")

    async def _take(self, key: str) -> bool:
        lease = LEASE + key.removeprefix(FOLLOWED)
        return await self._desk.store.add(lease, {"owner": self._owner}, expires_in_s=LEASE_S)

    async def _renew(self, key: str) -> None:
        while True:
            await asyncio.sleep(RENEW_PAUSE_S)
            lease = LEASE + key.removeprefix(FOLLOWED)
            await self._desk.store.put(lease, {"owner": self._owner}, expires_in_s=LEASE_S)

    async def _follow(self, key: str) -> None:
        keeper = asyncio.create_task(self._renew(key), name=f"slack-lease-{key}")
        try:
            await self._follow_to_end(key)
        except RetryLaterError as error:
            logger.info("a run's message waits for Slack")
            await self._sleep(error.after_s)
        except Exception as error:  # nobody awaits it; the next look takes the run up again
            logger.warning("following a run broke off (%s)", type(error).__name__)
        finally:
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)
            await self._desk.store.delete(LEASE + key.removeprefix(FOLLOWED))

    async def _follow_to_end(self, key: str) -> None:
        value = await self._desk.store.get(key)
        if value is None:
            return
        run_id = int(key.removeprefix(FOLLOWED))
        place = Place(str(value["team"]), str(value["channel"]), "", "")
        asker = Asker(place.team, str(value["user"]), "", "", "")
        try:
            is_shown, run = await self._show_progress(run_id, place)
        except NotFoundError:
            await self._desk.store.delete(key)
            return
        if is_shown:
            await self._post_plot(run, place, str(value["ts"]))
        else:
            await self._desk.tell(asker, f"{render_run(run)}.", blocks=build_run(run))
        await self._desk.store.delete(key)

    async def _show_progress(self, run_id: int, place: Place) -> tuple[bool, RunInfo]:
        """Show the run until it has ended; say whether its end is on the message, and how it ended."""
        is_shown = True
        async for run in self._desk.bot.manager.follow_run(run_id):
            pause = UPDATE_PAUSE_S
            while is_shown:
                try:
                    await _show(self._desk, run, place)
                except SlackRefusedError as error:  # the channel was archived, the bot thrown out: the end is told directly
                    logger.info("a run's message cannot be changed any more: %s", error.code)
                    is_shown = False
                except RetryLaterError as error:
                    pause = error.after_s
                    if run.status not in RUNNING:
                        await self._sleep(pause)
                        continue  # the last word is said, however late
                break
            if run.status not in RUNNING:
                break
            await self._sleep(pause)  # what came in the meantime is skipped: the next one is the newest
        return is_shown, run

    async def _post_plot(self, run: RunInfo, place: Place, ts: str) -> None:
        """Put the plot of before and after into the thread of the run's message, once."""
        plot = await self._desk.bot.manager.get_plot(run.run_id, "labels") if run.verdict else None
        if not plot or not await self._desk.store.add(f"{PLOT}{run.run_id}", {"ts": ts}, expires_in_s=KEEP_S):
            return
        try:
            await upload_image(self._desk, plot, name=f"run-{run.run_id}.png", place=Place(place.team, place.channel, ts, ts))
        except SlackRefusedError as error:
            logger.warning("the plot of a run could not be shown: %s", error.code)
        except RetryLaterError:
            await self._desk.store.delete(f"{PLOT}{run.run_id}")
            raise


async def upload_image(desk: Desk, content: bytes, *, name: str, place: Place) -> None:
    """Put a picture into a thread. Raises SlackRefusedError, RetryLaterError."""
    ticket = await desk.client.call("files.getUploadURLExternal", team=place.team, filename=name, length=len(content))
    await _send(desk, str(ticket.get("upload_url", "")), content)
    files: list[dict[str, Any]] = [{"id": str(ticket.get("file_id", "")), "title": "Before and after, per label"}]
    await desk.client.call(
        "files.completeUploadExternal", team=place.team, files=files, channel_id=place.channel, thread_ts=place.thread_ts
    )


async def _send(desk: Desk, url: str, content: bytes) -> None:
    host = urlsplit(url).hostname or ""
    if not desk.client.is_slack(url):
        raise SlackRefusedError("upload_url")  # an address that Slack does not give out: nothing is sent there
    session = desk.client.web.session
    if session is None or session.closed:
        raise RetryLaterError("the connection to Slack is closed", after_s=OUTAGE_PAUSE_S)
    try:
        async with session.post(url, data=content, proxy=None if is_local(host) else desk.client.web.proxy) as response:
            status, retry_after = response.status, response.headers.get("Retry-After")
    except (aiohttp.ClientError, TimeoutError) as error:
        raise RetryLaterError(type(error).__name__, after_s=OUTAGE_PAUSE_S) from error
    if status == 429:
        raise RetryLaterError(str(status), after_s=read_pause(retry_after))
    if status >= 500:
        raise RetryLaterError(str(status), after_s=OUTAGE_PAUSE_S)
    if status >= 400:
        raise SlackRefusedError("upload_failed")
