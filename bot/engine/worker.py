"""The owner thread: the one place where native calls happen, fed through an inbox and emptied once per step into the event loop.

Knows how to run steps and commands in turn and how to hand results over; what a step computes is the runtime's business.
"""

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import Any, Final, Protocol, TypeVar

from bot.engine.protocol import EngineError

logger = logging.getLogger(__name__)
T = TypeVar("T")
NOT_RUNNING: Final = "the engine is not running; start it first"
STOP_S: Final = 60.0
"""How long a stop waits for the step that runs."""
STOPPED: Final = "the engine was stopped before the request was answered; start it again"


class Runtime(Protocol):
    """What the owner thread drives. Every method is called on that thread alone."""

    def open(self) -> None:
        """Load model and context. Raises ModelFileError or EngineError."""
        ...

    def has_work(self) -> bool:
        """Whether a step would compute something."""
        ...

    def step(self) -> None:
        """Compute one batch and settle what it completes."""
        ...

    def fail_all(self, error: EngineError) -> None:
        """Settle everything that waits or runs with this error."""
        ...

    def close(self) -> None:
        """Free adapters, context and model, in that order."""
        ...


class Worker:
    """Runs a runtime on a thread of its own. Its methods are for the event loop, except `emit`, which the runtime calls."""

    def __init__(self, *, name: str) -> None:
        self._name = name
        self._inbox: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._outbox: list[Callable[[], None]] = []
        self._thread: threading.Thread | None = None
        self._left: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._busy_since: float | None = None

    @property
    def is_running(self) -> bool:
        """Whether the thread takes work."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def stalled_s(self) -> float:
        """Seconds since the thread began what it does now; 0 while it waits for something to do."""
        busy_since = self._busy_since
        return 0.0 if busy_since is None else time.monotonic() - busy_since

    async def start(self, runtime: Runtime) -> None:
        """Start the thread and wait until the runtime is open. Raises what `open` raised, EngineError where the last thread still runs."""
        if self._left is not None and self._left.is_alive():
            raise EngineError("the engine's last thread is still at work on the model; restart the process")
        self._loop = asyncio.get_running_loop()
        opened: asyncio.Future[None] = self._loop.create_future()
        self._inbox = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._main, args=(runtime, opened), name=self._name, daemon=True)
        self._thread.start()
        try:
            await opened
        except BaseException as error:
            self._inbox.put(None)
            self._left, self._thread = self._thread, None
            if isinstance(error, Exception):  # opening failed: the thread is about to end
                await asyncio.to_thread(self._left.join, STOP_S)
            raise

    async def stop(self) -> None:
        """Fail what is left, free everything, end the thread."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._left = thread
        self._inbox.put(None)
        await asyncio.to_thread(thread.join, STOP_S)
        if thread.is_alive():
            logger.error("the engine's thread is stuck in a step; it ends with the process")

    def post(self, command: Callable[[], None], *, on_error: Callable[[EngineError], None]) -> None:
        """Have a command run on the owner thread between two steps; if it raises, `on_error` is called there.

        Raises EngineError where the thread takes no work: it would never be answered.
        """
        if not self.is_running:
            raise EngineError(NOT_RUNNING)

        def run() -> None:
            try:
                command()
            except Exception as error:
                logger.exception("the engine could not take a request")
                on_error(EngineError(f"the engine could not take the request ({type(error).__name__}); see the log"))

        self._inbox.put(run)

    async def call(self, function: Callable[[], T]) -> T:
        """Run a function on the owner thread between two steps and return its result."""
        if self._loop is None or not self.is_running:
            raise EngineError(NOT_RUNNING)
        future: asyncio.Future[T] = self._loop.create_future()

        def run() -> None:
            try:
                result = function()
            except Exception as error:
                self.emit(settle_error, future, error)
            else:
                self.emit(settle, future, result)

        self._inbox.put(run)
        return await future

    def emit(self, function: Callable[..., None], *args: Any) -> None:
        """Have a function run on the event loop; all of a step's are handed over together, since waking the loop is dear."""
        self._outbox.append(lambda: function(*args))

    def _flush(self) -> None:
        loop = self._loop
        if not self._outbox or loop is None or loop.is_closed():
            self._outbox.clear()
            return
        outbox, self._outbox = self._outbox, []
        try:
            loop.call_soon_threadsafe(_run_all, outbox)
        except RuntimeError:  # the loop closed meanwhile: nobody is left to hear the answers
            logger.warning("the event loop closed before %d answers were delivered", len(outbox))

    def _main(self, runtime: Runtime, opened: "asyncio.Future[None]") -> None:
        try:
            runtime.open()
        except Exception as error:
            runtime.close()
            self.emit(settle_error, opened, error)
            self._flush()
            return
        self.emit(settle, opened, None)
        self._flush()
        try:
            while self._take_commands(is_waiting=not runtime.has_work()):
                self._step(runtime)
                self._flush()
        finally:
            self._end(runtime)
            self._busy_since = None

    def _step(self, runtime: Runtime) -> None:
        if not runtime.has_work():
            return
        self._busy_since = time.monotonic()
        try:
            runtime.step()
        except Exception as error:
            logger.exception("a step of the engine failed")
            runtime.fail_all(EngineError(f"the engine failed at a step ({type(error).__name__}); see the log"))

    def _take_commands(self, *, is_waiting: bool) -> bool:
        """Run what is in the inbox; wait for something if there is nothing to compute. False when the thread should end."""
        self._busy_since = None if is_waiting else time.monotonic()
        try:
            command = self._inbox.get(block=is_waiting)
            while command is not None:
                self._busy_since = time.monotonic()
                command()
                command = self._inbox.get_nowait()
        except queue.Empty:
            return True
        return False

    def _end(self, runtime: Runtime) -> None:
        runtime.fail_all(EngineError(STOPPED))
        while True:  # commands that came after the end: they settle their callers, then what they queued fails too
            try:
                command = self._inbox.get_nowait()
            except queue.Empty:
                break
            if command is not None:
                command()
        runtime.fail_all(EngineError(STOPPED))
        runtime.close()
        self._flush()


def settle(future: "asyncio.Future[Any]", result: object) -> None:
    """Give a future its result unless its owner has gone."""
    if not future.done():
        future.set_result(result)


def settle_error(future: "asyncio.Future[Any]", error: Exception) -> None:
    """Give a future its error unless its owner has gone."""
    if not future.done():
        future.set_exception(error)


def _run_all(functions: list[Callable[[], None]]) -> None:
    for function in functions:
        function()
