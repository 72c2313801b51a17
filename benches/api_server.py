"""The bot's own server for `benches.api`: everything as `understudy serve` builds it, with an engine that is kept saturated beside.

Run as `python -m benches.api_server HOME PORT LOADERS`. Knows nothing of what is measured.
"""

import asyncio
import contextlib
import itertools
import sys
from pathlib import Path

import uvicorn
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from benches.workload import load_tickets
from bot.app import App, create_web
from bot.engine.protocol import EngineError, Priority, ScoreRequest
from bot.models.default import ensure_default_model
from bot.settings import Settings
from db.types import TaskKind


class Saturation:
    """Clients that never leave the engine without work; `n_scored` counts what it answered them."""

    def __init__(self, app: App, n_clients: int) -> None:
        self._core = app.core
        self._n_clients = n_clients
        self._texts = itertools.cycle(load_tickets(400))
        self._clients: list[asyncio.Task[None]] = []
        self.n_scored = 0

    def start(self) -> None:
        """Begin to ask."""
        self._clients = [asyncio.create_task(self._ask()) for _ in range(self._n_clients)]

    async def stop(self) -> None:
        """Ask no more."""
        for client in self._clients:
            client.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)

    async def _ask(self) -> None:
        engine = self._core.engines[TaskKind.CLASSIFICATION]
        while True:
            request = ScoreRequest(
                task=TaskKind.CLASSIFICATION, choices=self._core.choices, text=next(self._texts), priority=Priority.BULK
            )
            with contextlib.suppress(EngineError):
                await engine.score(request)
                self.n_scored += 1


async def run(home: Path, port: int, n_loaders: int) -> None:
    """Serve until killed. The address is the port that was asked for."""
    ensure_default_model(home)
    app = App(Settings(home=home, plugins=("slack",), sample_tickets=False, blind_share=0.0), with_training=False)
    await app.start()
    saturation = Saturation(app, n_loaders)
    web = create_web(app)

    @web.get("/bench")
    async def count(_: Request) -> Response:
        return JSONResponse({"n_scored": saturation.n_scored})

    saturation.start()
    try:
        await uvicorn.Server(uvicorn.Config(web, host="127.0.0.1", port=port, log_level="warning", access_log=False)).serve()
    finally:
        await saturation.stop()
        await app.stop()


if __name__ == "__main__":
    asyncio.run(run(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
