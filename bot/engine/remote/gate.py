"""Lets the requests of one adapter through at a time, for servers whose adapter is a setting of the whole server.

Pure asyncio; knows neither HTTP nor weights.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager


class GroupGate:
    """Requests of the current group run together; another group's wait until they are through, then `switch` is awaited.

    Whoever came first goes first, with all that wait for the same group, so two groups under load take turns.
    """

    def __init__(self, switch: Callable[[str], Awaitable[None]]) -> None:
        self._switch = switch
        self._current: str | None = None
        self._n_inside = 0
        self._waiting: deque[tuple[str, asyncio.Future[None]]] = deque()
        self._switching: asyncio.Task[None] | None = None

    @property
    def current(self) -> str | None:
        """The group that the server is set to, None before the first switch and after a failed one."""
        return self._current

    @asynccontextmanager
    async def hold(self, group: str) -> AsyncIterator[None]:
        """Run a request while the server is set to its group. Raises what `switch` raised."""
        await self._enter(group)
        try:
            yield
        finally:
            self._n_inside -= 1
            self._advance()

    async def _enter(self, group: str) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((group, future))
        self._advance()
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:  # let in, and gone before it knew
                self._n_inside -= 1
            self._advance()
            raise

    def _advance(self) -> None:
        while self._waiting and self._waiting[0][1].done():
            self._waiting.popleft()
        if self._switching is not None or not self._waiting:
            return
        group = self._waiting[0][0]
        if group == self._current:
            self._let_in(group)
        elif self._n_inside == 0:
            self._switching = asyncio.get_running_loop().create_task(self._change(group))

    def _let_in(self, group: str) -> None:
        kept: deque[tuple[str, asyncio.Future[None]]] = deque()
        for waiting in self._waiting:
            if waiting[0] != group:
                kept.append(waiting)
            elif not waiting[1].done():
                self._n_inside += 1
                waiting[1].set_result(None)
        self._waiting = kept

    async def _change(self, group: str) -> None:
        self._current = None
        try:
            await self._switch(group)
        except Exception as error:
            for waiting in [waiting for waiting in self._waiting if waiting[0] == group and not waiting[1].done()]:
                waiting[1].set_exception(error)
        else:
            self._current = group
            self._let_in(group)
        finally:
            self._switching = None
            self._advance()
