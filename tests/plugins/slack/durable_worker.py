"""A process of its own for the crash test: the real queue and store on a database file, the plugin on a FakeBot, fed from a list of events.

Knows nothing of what the test counts.
"""

import asyncio
import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI
from sqlalchemy import Engine
from sqlmodel import Session

from bot.durable import DurableQueue, DurableStore
from bot.plugin_api import BotError
from bot.sealing import Sealer
from bot.testing import FakeBot
from db.session import build_db_engine, retry_transaction, transaction
from plugins.slack.app import SlackPlugin
from tests.plugins.slack.slack_helpers import CHANNEL, URL, build_signed, make_settings

LONGEST_PAUSES_S = 300.0


class Database:
    """What the queue needs of the core."""

    def __init__(self, db_engine: Engine) -> None:
        self._engine = db_engine

    async def in_db(self, work: Callable[[Session], Any]) -> Any:
        return await asyncio.to_thread(retry_transaction, self._engine, work)

    async def read_db(self, work: Callable[[Session], Any]) -> Any:
        def read() -> Any:
            with transaction(self._engine, is_read_only=True) as session:
                return work(session)

        return await asyncio.to_thread(read)


class DurableBot(FakeBot):
    """A FakeBot whose inference ids are the same in every process, with the real queue and store."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        database = Database(build_db_engine(f"sqlite:///{folder / 'test.db'}"))
        sealer = Sealer.open(folder, [])
        self._queue = DurableQueue(database, sealer, "slack")
        self._store = DurableStore(database, sealer, "slack")

    def open_queue(self, name: str) -> Any:
        return self._queue

    def open_store(self, name: str) -> Any:
        return self._store


def build_event(number: int) -> bytes:
    """Return the event of a number: a tenth of them share one thread, so that order matters as well."""
    ts = f"17{number:08d}.000100"
    event = {"type": "message", "channel": CHANNEL, "user": "U1", "text": f"vpn problem number {number}", "ts": ts}
    body = {"type": "event_callback", "team_id": "T1", "api_app_id": "A1", "event_id": f"Ev{number}", "event": event}
    return json.dumps(body).encode()


def build_deliveries(n_events: int) -> list[int]:
    """Return the numbers of events as they are delivered: every fifth a second time, some of them much later."""
    numbers = list(range(n_events))
    again = [n for n in numbers if int(hashlib.sha256(str(n).encode()).hexdigest(), 16) % 5 == 0]
    half = len(again) // 2
    mixed = [one for n in numbers for one in ((n, n) if n in set(again[:half]) else (n,))]
    return mixed + again[half:]


async def run(folder: Path, slack_url: str, n_events: int, start: int) -> None:
    bot = DurableBot(folder)
    plugin = SlackPlugin(bot, make_settings(slack_url, undo_minutes=0))
    web = FastAPI()
    web.include_router(plugin.router, prefix="/plugins/slack")
    deliveries = build_deliveries(n_events)
    await plugin.start()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=web), base_url="http://bot") as client:

        async def deliver(number: int) -> None:
            raw = build_event(deliveries[number])
            try:
                answer = await client.post(URL, content=raw, headers=build_signed(raw))
            except BotError:
                return
            if answer.status_code == 200:
                sys.stdout.write(f"{number}\n")
                sys.stdout.flush()

        for first in range(start, len(deliveries), 20):
            await asyncio.gather(*(deliver(number) for number in range(first, min(first + 20, len(deliveries)))))
    await plugin.queue.join()
    counts = await plugin.queue.get_counts()
    async with asyncio.timeout(LONGEST_PAUSES_S):
        while counts.n_waiting:  # Slack asked some of them to wait, or their answers got lost
            await asyncio.sleep(0.1)
            counts = await plugin.queue.get_counts()
    sys.stdout.write(f"end {counts.n_waiting} {counts.n_done} {counts.n_failed}\n")
    sys.stdout.flush()
    await plugin.stop()


if __name__ == "__main__":
    asyncio.run(run(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
