"""Stands where the local engine has its owner thread: opens and closes the connection to a model server.

Knows when the server is there, not what it is asked.
"""

from typing import Final

from bot.engine.protocol import EngineError
from bot.engine.remote.backend import Backend
from bot.engine.worker import Runtime, Worker

_ELSEWHERE: Final = "the model runs on a server; nothing is computed on a thread of this process"


class ElsewhereRuntime:
    """A `worker.Runtime` that computes nothing: the server does."""

    def __init__(self, *, n_vocab: int, label_top_k: int) -> None:
        self.n_vocab = n_vocab
        self.label_top_k = label_top_k

    def open(self) -> None:
        """Nothing to load."""

    def has_work(self) -> bool:
        """Nothing ever waits here."""
        return False

    def step(self) -> None:
        """Refuse: there is no model in this process."""
        raise EngineError(_ELSEWHERE)

    def fail_all(self, error: EngineError) -> None:
        """Nothing waits here that could fail."""

    def close(self) -> None:
        """Nothing to free."""


class Link(Worker):
    """A `Worker` without a thread: it runs while the connection to the server is open."""

    def __init__(self, *, name: str, backend: Backend, runtime: ElsewhereRuntime) -> None:
        super().__init__(name=name)
        self.runtime = runtime
        self._backend = backend
        self._is_open = False

    @property
    def is_running(self) -> bool:
        """Whether requests can be sent."""
        return self._is_open

    async def start(self, runtime: Runtime) -> None:  # noqa: ARG002 - there is nothing to run here
        """Connect. Raises ModelFileError or EngineError."""
        await self._backend.open()
        self._is_open = True

    async def stop(self) -> None:
        """Drop every connection; what still waits for an answer fails."""
        self._is_open = False
        await self._backend.close()
