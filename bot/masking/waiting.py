"""Texts that wait to be masked: bounded, in order of arrival, long ones apart from short ones, one at a time per ticket.

Knows nothing of processes; the threads that own them take from here.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

from bot.masking.placeholders import Masked, MaskingError, PlaceholderMap


class MaskingBusyError(MaskingError):
    """So many texts wait to be masked that no more are taken. Nothing was done with the text; try again in a moment."""


@dataclass(eq=False)
class Job:
    """One text with its ticket's map. `result` is set by whoever takes it."""

    text: str = field(repr=False)
    mapping: PlaceholderMap
    is_long: bool
    result: "Future[Masked]" = field(default_factory=Future)


class Waiting:
    """The line. Thread-safe."""

    def __init__(self, max_waiting: int) -> None:
        self._max_waiting = max_waiting
        self._jobs: deque[Job] = deque()
        # A ticket's numbers are given in order of arrival, so two texts with one map are never masked at the same time.
        self._maps_in_use: set[int] = set()
        self._changed = threading.Condition()
        self._closed_because = ""

    def __len__(self) -> int:
        return len(self._jobs)

    def put(self, job: Job, *, waits: bool, build_busy_error: Callable[[str], Exception] = MaskingBusyError) -> None:
        """Take a job in; at the bound wait for room or raise the busy error. Raises MaskingError once the line is closed."""
        with self._changed:
            while waits and not self._closed_because and len(self._jobs) >= self._max_waiting:
                self._changed.wait()
            if self._closed_because:
                raise MaskingError(self._closed_because)
            if len(self._jobs) >= self._max_waiting:
                raise build_busy_error(f"{self._max_waiting} texts wait to be masked already; try again in a moment")
            self._jobs.append(job)
            self._changed.notify_all()

    def take(self, *, takes_long: bool, timeout_s: float) -> Job | None:
        """The next job for this taker, None when there is none in time. The taker says `finish` when it is done with it."""
        end = time.monotonic() + timeout_s
        with self._changed:
            while (job := self._find(takes_long=takes_long)) is None:
                left = end - time.monotonic()
                if left <= 0 or self._closed_because:
                    return None
                self._changed.wait(left)
            self._jobs.remove(job)
            self._maps_in_use.add(id(job.mapping))
            self._changed.notify_all()
            return job

    def _find(self, *, takes_long: bool) -> Job | None:
        passed_over: set[int] = set()
        for job in self._jobs:
            key = id(job.mapping)
            if (takes_long or not job.is_long) and key not in self._maps_in_use and key not in passed_over:
                return job
            passed_over.add(key)
        return None

    def finish(self, job: Job) -> None:
        """Let the next text of the same ticket be taken."""
        with self._changed:
            self._maps_in_use.discard(id(job.mapping))
            self._changed.notify_all()

    def put_back(self, job: Job) -> None:
        """Give back a job that was not worked on; it stays the first in line."""
        with self._changed:
            self._jobs.appendleft(job)
            self._maps_in_use.discard(id(job.mapping))
            self._changed.notify_all()

    def fail_all(self, reason: str) -> None:
        """Withhold every text that waits."""
        with self._changed:
            jobs, self._jobs = list(self._jobs), deque()
            self._changed.notify_all()
        for job in jobs:
            if job.result.set_running_or_notify_cancel():
                job.result.set_exception(MaskingError(reason))

    def close(self, reason: str) -> None:
        """Take nothing in any more, and withhold what waits."""
        with self._changed:
            self._closed_because = reason
            self._changed.notify_all()
        self.fail_all(reason)

    @property
    def is_closed(self) -> bool:
        """Whether nothing is taken in any more."""
        return bool(self._closed_because)
