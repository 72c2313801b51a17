"""A process that handles a plugin's events: each appends a line to a file that says which. Killed by the test in the middle."""

import asyncio
import sys
from pathlib import Path

from bot.durable import DurableQueue
from bot.sealing import Sealer
from db.session import build_db_engine, retry_transaction


class Database:
    """The two verbs that the queue needs, over an engine."""

    def __init__(self, db_engine):
        self._db_engine = db_engine

    async def in_db(self, work):
        return await asyncio.to_thread(retry_transaction, self._db_engine, work)

    async def read_db(self, work):
        return await self.in_db(work)


def _append(path, line):
    with path.open("a") as file:
        file.write(line)


async def main(url, home, out, pause_s):
    queue = DurableQueue(Database(build_db_engine(url)), Sealer.open(Path(home), []), "plugin")
    effects = Path(out)

    async def handle(event):
        await asyncio.sleep(float(pause_s))
        await asyncio.to_thread(_append, effects, f"{event.group} {event.payload['n']} {event.key}\n")

    await queue.start(handle, workers=4)
    sys.stdout.write("started\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
