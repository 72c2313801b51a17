"""Masks in processes of its own, so that neither the event loop nor another ticket waits for a long one. Fails closed, text by text.

A thread owns each process: it takes texts from the line, hands them over, and starts the process again when it dies, hangs or has done its share.
"""

import asyncio
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final

from bot.masking.placeholders import Masked, MaskingError, PlaceholderMap
from bot.masking.process import MaskingProcess, ProcessGoneError
from bot.masking.settings import MaskingSettings
from bot.masking.waiting import Job, MaskingBusyError, Waiting

logger = logging.getLogger(__name__)
_LOOK_INTERVAL_S: Final = 0.5
_MAX_BACKOFF_S: Final = 30.0
_STOP_TIMEOUT_S: Final = 5.0
_STOPPED: Final = "the masker is stopped: the text is withheld"


class _Seat:
    """A thread with the process it keeps alive. Texts are worked on one after another."""

    def __init__(self, settings: MaskingSettings, waiting: Waiting, *, takes_long: bool, on_trouble: Callable[[], None]) -> None:
        self._settings = settings
        self._waiting = waiting
        self._takes_long = takes_long
        self._on_trouble = on_trouble
        self._stopping = threading.Event()
        self._process: MaskingProcess | None = None
        self._successor: MaskingProcess | None = None
        self._backoff_s = 0.0
        self.trouble = ""
        self.first_start: Future[None] = Future()
        self.thread = threading.Thread(target=self._run, name="masking-seat", daemon=True)

    @property
    def pid(self) -> int | None:
        """Id of the process that works, if one does."""
        process = self._process
        return None if process is None else process.pid

    def stop(self) -> None:
        """Take no more texts; `thread` ends when the present one is done."""
        self._stopping.set()

    def kill(self) -> None:
        """End what runs at once; the text it works on is withheld."""
        for process in (self._process, self._successor):
            if process is not None:
                process.kill()

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                process = self._get_process()
                if process is None:
                    continue
                job = self._waiting.take(takes_long=self._takes_long, timeout_s=_LOOK_INTERVAL_S)
                if job is not None:
                    self._work(process, job)
        finally:
            for left in (self._process, self._successor):
                if left is not None:
                    left.close()

    def _get_process(self) -> MaskingProcess | None:
        """A live process; None when it could not be started, after a pause."""
        process = self._process
        if process is not None and not process.is_alive():
            logger.warning("masking process %d is gone; starting it again", process.pid)
            process.close()
            process = self._process = None
        if process is None:
            return self._start()
        if process.n_done >= self._settings.recycle_after:
            self._relieve(process)
        return self._process

    def _start(self) -> MaskingProcess | None:
        problem = ""
        try:
            # Kept while it loads, so that `kill` reaches it.
            self._process, self._successor = self._successor or MaskingProcess(self._settings), None
            self._process.wait_ready()
        except MaskingError as error:
            problem = str(error)
        except (OSError, TimeoutError) as error:
            problem = f"a masking process could not be started ({type(error).__name__})"
        if problem:
            self._give_up(problem)
        else:
            self.trouble, self._backoff_s = "", 0.0
            self._tell_start(None)
        return self._process

    def _give_up(self, problem: str) -> None:
        """Say that no process could be started, and pause before the next try."""
        if self._process is not None:
            self._process.kill()
            self._process.close()
            self._process = None
        if not self._stopping.is_set():
            logger.error("masking: %s", problem)
        self.trouble, self._backoff_s = problem, min(_MAX_BACKOFF_S, max(1.0, self._backoff_s * 2))
        self._tell_start(MaskingError(problem))
        self._on_trouble()
        self._stopping.wait(self._backoff_s)

    def _tell_start(self, error: MaskingError | None) -> None:
        if not self.first_start.done():
            self.first_start.set_result(None) if error is None else self.first_start.set_exception(error)

    def _relieve(self, process: MaskingProcess) -> None:
        """Replace a process that has done its share; it works on until its successor has loaded."""
        successor = self._successor = self._successor or MaskingProcess(self._settings)
        try:
            if successor.is_ready():
                self._process, self._successor = successor, None
                process.close()
        except MaskingError:
            self._successor = None
            successor.close()
            process.n_done = 0  # or it would be tried again before every text

    def _work(self, process: MaskingProcess, job: Job) -> None:
        if job.result.cancelled():
            self._waiting.finish(job)
            return
        masked: Masked | None = None
        problem = ""
        is_wanted = True
        try:
            process.begin(job.text, job.mapping)
            is_wanted = job.result.set_running_or_notify_cancel()
            masked = process.finish(len(job.text), job.mapping)
        except ProcessGoneError:  # it died while nothing was asked of it: the text is not to blame
            self._waiting.put_back(job)
            return
        except MaskingError as error:
            problem = str(error)
        except Exception as error:
            problem = f"masking failed with {type(error).__name__}: the text is withheld"
            process.kill()  # whatever it was, the next text does not read this one's answer
        self._waiting.finish(job)
        if not is_wanted or (not job.result.running() and not job.result.set_running_or_notify_cancel()):
            return
        if masked is None:
            job.result.set_exception(MaskingError(problem))
        else:
            job.result.set_result(masked)


class MaskerPool:
    """Masks like `Masker`, in `settings.workers` processes (at least one). Loads nothing itself: call `start` first and `stop` last."""

    def __init__(
        self,
        settings: MaskingSettings,
        *,
        build_busy_error: Callable[[str], Exception] = MaskingBusyError,
        keeps_room: bool = True,
    ) -> None:
        """`build_busy_error` makes what `mask_async` raises when too many texts wait; without `keeps_room` long texts may take all processes."""
        self._settings = settings
        self._build_busy_error = build_busy_error
        self._waiting = Waiting(settings.max_waiting)
        n_seats = max(1, settings.workers)
        self._seats = [
            # Long texts get half of the processes at most, so a short one never has to wait until a long one is done.
            _Seat(
                settings,
                self._waiting,
                takes_long=not keeps_room or index < max(1, n_seats // 2),
                on_trouble=self._look_for_trouble,
            )
            for index in range(n_seats)
        ]

    async def start(self) -> None:
        """Start the processes and wait until all have loaded. Raises MaskingError if one cannot; nothing is left running then."""
        for seat in self._seats:
            seat.thread.start()
        outcomes = await asyncio.gather(*(asyncio.wrap_future(seat.first_start) for seat in self._seats), return_exceptions=True)
        problems = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        if problems:
            await self.stop()
            raise MaskingError(str(problems[0]))

    async def stop(self) -> None:
        """Withhold what waits, give running texts a few seconds, end the processes."""
        self._waiting.close(_STOPPED)
        await asyncio.to_thread(self._end)

    def _end(self) -> None:
        for seat in self._seats:
            seat.stop()
        started = [seat for seat in self._seats if seat.thread.ident is not None]
        for seat in started:
            seat.thread.join(_STOP_TIMEOUT_S)
        for seat in started:
            if seat.thread.is_alive():
                seat.kill()
                seat.thread.join()

    def mask(self, text: str, mapping: PlaceholderMap | None = None) -> Masked:
        """`text` with every entity replaced, as `Masker.mask` does it. Blocks, also while too many texts wait. Not for the event loop."""
        return self._submit(text, mapping, waits=True).result()

    async def mask_async(self, text: str, mapping: PlaceholderMap | None = None) -> Masked:
        """`mask` without blocking. Raises the busy error when too many texts wait already."""
        return await asyncio.wrap_future(self._submit(text, mapping, waits=False))

    def submit(self, text: str, mapping: PlaceholderMap | None = None) -> "Future[Masked]":
        """Put a text in line and return its result to come; blocks while too many wait. Raises nothing: the result does."""
        try:
            return self._submit(text, mapping, waits=True)
        except MaskingError as error:
            refused: Future[Masked] = Future()
            refused.set_exception(error)
            return refused

    def _submit(self, text: str, mapping: PlaceholderMap | None, *, waits: bool) -> "Future[Masked]":
        if len(text) > self._settings.max_chars:
            raise MaskingError(
                f"the text has {len(text)} characters and max_chars is {self._settings.max_chars}: attach it as a file or raise the limit"
            )
        trouble = self.find_trouble()
        if trouble:
            raise MaskingError(f"{trouble}: the text is withheld")
        job = Job(text, PlaceholderMap() if mapping is None else mapping, is_long=len(text) > self._settings.chunk_chars)
        self._waiting.put(job, waits=waits, build_busy_error=self._build_busy_error)
        return job.result

    @property
    def pids(self) -> tuple[int, ...]:
        """Ids of the processes that work."""
        return tuple(pid for seat in self._seats if (pid := seat.pid) is not None)

    def find_trouble(self) -> str | None:
        """One sentence when no process can be started, else None. While one of several is down the others do its work."""
        troubles = [seat.trouble for seat in self._seats]
        return f"no masking process can be started: {troubles[0]}" if all(troubles) else None

    def _look_for_trouble(self) -> None:
        trouble = self.find_trouble()
        if trouble:
            self._waiting.fail_all(f"{trouble}: the text is withheld")
