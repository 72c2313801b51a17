"""The sequences that wait for the encoder: enter in order of arrival, leave in batches, and are dropped once nobody wants them.

Pure: no ctypes, no thread, and no clock but the time it is told. What a batch may hold is decided in `bot.engine.scheduler`.
"""

import itertools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from bot.engine.protocol import EngineError, FloatArray, Priority
from bot.engine.scheduler import Item, pick_batch

WINDOW: Final = 64
"""Sequences of each queue that the scheduler looks at: enough to fill a batch, few enough to stay cheap under a long queue."""
LONG_JOB: Final = 8
"""A job of more texts waits in a line of its own, and its texts let one later job each go first, so that nobody waits for all of them."""
Key = tuple[str, Priority, bool]


@dataclass(frozen=True)
class Embedded:
    """What a job gives: unit-norm embeddings, shape (n_texts, n_embd), and how many tokens it read."""

    embeddings: FloatArray
    n_tokens: int
    is_truncated: bool


@dataclass(eq=False, slots=True)
class EncodeJob:
    """Texts of one request under one adapter's LoRA weights. The callbacks run on the owner thread, at most one of them, once.

    `ends_at` is when the answer is of no use any more, in seconds of `time.monotonic`.
    """

    texts: Sequence[str]
    group: str
    priority: Priority
    on_done: Callable[[Embedded], None]
    on_error: Callable[[EngineError], None]
    ends_at: float | None = None
    is_cancelled: bool = False
    n_left: int = 0
    n_tokens: int = 0
    is_truncated: bool = False
    embeddings: FloatArray = field(default_factory=lambda: np.empty((0, 0), np.float32))

    def is_late(self, now: float) -> bool:
        """Whether its deadline has passed."""
        return self.ends_at is not None and now >= self.ends_at


@dataclass(eq=False, slots=True)
class Waiting:
    """One text of a job as tokens, shape (n_tokens,), int32."""

    item: Item
    job: EncodeJob
    index: int
    tokens: "np.ndarray[tuple[int], np.dtype[np.int32]]"


class EncodeQueue:
    """Sequences by group of LoRA weights and priority."""

    def __init__(self) -> None:
        self._queues: dict[Key, deque[Waiting]] = {}
        self._last_served: dict[str, int] = {}
        self._n_jobs = 0
        self._step = 0

    def __len__(self) -> int:
        return sum(map(len, self._queues.values()))

    def add(self, job: EncodeJob, index: int, tokens: "np.ndarray[tuple[int], np.dtype[np.int32]]") -> None:
        """Enter one text of a job; the texts of a job enter one after the other, from 0 on."""
        self._n_jobs += index == 0
        item = Item(n_tokens=len(tokens), group=job.group, order=self._n_jobs + index, priority=job.priority)
        self._queues.setdefault(_get_key(job), deque()).append(Waiting(item, job, index, tokens))

    def take_gone(self, now: float) -> list[EncodeJob]:
        """Remove jobs that were cancelled or whose deadline passed, and return them; looks as far as the next batch may reach."""
        gone: dict[int, EncodeJob] = {}
        for key, queue in list(self._queues.items()):
            if any(_is_gone(waiting.job, now) for waiting in itertools.islice(queue, WINDOW)):
                gone |= {id(waiting.job): waiting.job for waiting in queue if _is_gone(waiting.job, now)}
                self._put(key, deque(waiting for waiting in queue if id(waiting.job) not in gone))
        return list(gone.values())

    def take_batch(self, *, budget_tokens: int, max_items: int) -> list[Waiting]:
        """Remove and return what to compute next: one group, within the budget. Empty where nothing waits."""
        window = [waiting for queue in self._queues.values() for waiting in itertools.islice(queue, WINDOW)]
        picked = pick_batch(
            [waiting.item for waiting in window],
            step=self._step,
            last_served=self._last_served,
            budget_tokens=budget_tokens,
            max_items=max_items,
        )
        batch = [window[index] for index in picked]
        if batch:
            self._last_served[batch[0].item.group] = self._step
            self._step += 1
            self._remove(batch)
        return batch

    def take_group(self, group: str) -> list[EncodeJob]:
        """Remove everything of a group and return its jobs."""
        keys = [key for key in self._queues if key[0] == group]
        return list({id(waiting.job): waiting.job for key in keys for waiting in self._queues.pop(key)}.values())

    def forget_group(self, group: str) -> None:
        """Forget when a group was served last; none of its texts may wait."""
        self._last_served.pop(group, None)

    def drain(self) -> Iterator[EncodeJob]:
        """Remove everything and give the job of each text."""
        for queue in self._queues.values():
            while queue:
                yield queue.popleft().job
        self._queues.clear()

    def _remove(self, batch: Sequence[Waiting]) -> None:
        taken = {id(waiting) for waiting in batch}
        for key in {_get_key(waiting.job) for waiting in batch}:
            queue = self._queues[key]
            kept = [waiting for waiting in itertools.islice(queue, WINDOW) if id(waiting) not in taken]
            for _ in range(min(WINDOW, len(queue))):
                queue.popleft()
            queue.extendleft(reversed(kept))
            self._put(key, queue)

    def _put(self, key: Key, queue: deque[Waiting]) -> None:
        if queue:
            self._queues[key] = queue
        else:
            self._queues.pop(key, None)


def _get_key(job: EncodeJob) -> Key:
    return job.group, job.priority, len(job.texts) > LONG_JOB


def _is_gone(job: EncodeJob, now: float) -> bool:
    return job.is_cancelled or job.is_late(now)
