"""Requests while adapters are swapped: every answer is checked by content the moment it comes, so nothing has to be kept.

Knows what each adapter answers to each text alone, and compares; how many blocks and swaps there are is in `benches.swap`.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from bot.engine.engine import LlamaEngine
from bot.engine.protocol import ChoiceSet, EngineError, FloatArray, ScoreRequest
from db.types import MaskedText, TaskKind

TASK: Final = TaskKind.CLASSIFICATION
TOLERANCE: Final = 0.06
"""Largest difference in any label's probability: kernels round differently for batches of different sizes (bot.demo.live measured 0.035)."""
NOISE: Final = 0.01
"""Answers of two adapters that lie closer together than this say nothing about which of them answered."""


@dataclass(frozen=True)
class Reference:
    """What each adapter gives for each text alone: digest -> array (n_texts, n_labels)."""

    alone: Mapping[str, FloatArray]

    def measure(self, digest: str, text: int, given: FloatArray) -> float:
        """Return the largest difference between an answer and what an adapter gives alone."""
        return float(np.abs(self.alone[digest][text] - given).max())

    def is_wrong(self, digest: str, text: int, given: FloatArray) -> bool:
        """Whether an answer is not its claimed adapter's: too far from what that gives alone, or nearer to another's."""
        if digest not in self.alone:
            return True
        own = self.measure(digest, text, given)
        if own > TOLERANCE:
            return True
        return own > NOISE and any(self.measure(other, text, given) < own for other in self.alone if other != digest)

    def distances(self) -> list[float]:
        """Return how far apart the adapters' answers are, for every text and pair: what the check can tell apart."""
        digests = sorted(self.alone)
        return [
            self.measure(first, text, row)
            for place, first in enumerate(digests)
            for second in digests[place + 1 :]
            for text, row in enumerate(self.alone[second])
        ]


async def build_reference(
    engine: LlamaEngine, choices: ChoiceSet, texts: Sequence[MaskedText], digests: Sequence[str]
) -> Reference:
    """Ask for every text under every loaded adapter, one at a time."""
    alone: dict[str, FloatArray] = {}
    for digest in digests:
        rows = [
            (await engine.score(ScoreRequest(task=TASK, choices=choices, text=text, adapter=digest))).probabilities
            for text in texts
        ]
        alone[digest] = np.stack(rows)
    return Reference(alone)


@dataclass
class Tally:
    """What came of the requests. Latencies in milliseconds, by whether adapters were being swapped."""

    n_failed: int = 0
    n_wrong: int = 0
    deviation_with_swaps: float = 0.0
    deviation_without: float = 0.0
    with_swaps: list[float] = field(default_factory=list)
    without: list[float] = field(default_factory=list)
    rollbacks_ms: list[float] = field(default_factory=list)
    loads_ms: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    n_swaps: int = 0
    n_fresh: int = 0

    @property
    def n_requests(self) -> int:
        """All requests, answered or not."""
        return len(self.with_swaps) + len(self.without) + self.n_failed


class _Pace:
    """Says when the next swap is due, by the number of answers so far."""

    def __init__(self, dues: Sequence[float]) -> None:
        self._dues = list(dues)
        self._n_answers = 0
        self._is_ended = False
        self._changed = asyncio.Event()

    def advance(self) -> None:
        """Count an answer."""
        self._n_answers += 1
        if self._dues and self._n_answers >= self._dues[0]:
            self._changed.set()

    def end(self) -> None:
        """No request runs any more: no further swap is due."""
        self._is_ended = True
        self._changed.set()

    async def wait_due(self) -> bool:
        """Return True once the next swap is due, False where none is left or the requests have ended."""
        while self._dues and not self._is_ended:
            if self._n_answers >= self._dues[0]:
                self._dues.pop(0)
                return True
            self._changed.clear()
            await self._changed.wait()
        return False


class SwapLoad:
    """Clients in a closed loop over some texts, and a swapper that changes the active adapter every so many answers."""

    def __init__(
        self,
        engine: LlamaEngine,
        choices: ChoiceSet,
        *,
        texts: Sequence[MaskedText],
        reference: Reference,
        bundles: Mapping[str, Path],
    ) -> None:
        self._engine = engine
        self._choices = choices
        self._texts = texts
        self._reference = reference
        self._bundles = bundles
        self._order = sorted(bundles)
        self.tally = Tally()

    @property
    def distances(self) -> list[float]:
        """How far apart the adapters' answers are."""
        return self._reference.distances()

    async def run_block(self, count: int, *, concurrency: int, swaps: int) -> None:
        """Answer `count` requests, with that many swaps (0: none) spread evenly over them; what is not reached under load is left out."""
        latencies = self.tally.with_swaps if swaps else self.tally.without
        numbers = iter(range(count))
        pace = _Pace(dues=[(index + 0.5) * count / swaps for index in range(swaps)])

        async def work() -> None:
            for number in numbers:
                await self._ask(number % len(self._texts), latencies)
                pace.advance()

        async def swap() -> None:
            while await pace.wait_due():
                await self._swap()

        swapping = asyncio.create_task(swap())
        await asyncio.gather(*(work() for _ in range(concurrency)))
        pace.end()
        await swapping

    async def _ask(self, text: int, latencies: list[float]) -> None:
        started = time.perf_counter()
        try:
            scores = await self._engine.score(ScoreRequest(task=TASK, choices=self._choices, text=self._texts[text]))
        except EngineError as error:
            self.tally.n_failed += 1
            self.tally.errors.append(str(error))
            return
        latencies.append((time.perf_counter() - started) * 1000)
        digest = scores.adapter_digest
        self.tally.n_wrong += self._reference.is_wrong(digest, text, scores.probabilities)
        if digest in self._reference.alone:
            deviation = self._reference.measure(digest, text, scores.probabilities)
            if latencies is self.tally.with_swaps:
                self.tally.deviation_with_swaps = max(self.tally.deviation_with_swaps, deviation)
            else:
                self.tally.deviation_without = max(self.tally.deviation_without, deviation)

    async def _swap(self) -> None:
        """Swap once: of four in turn, two to a loaded adapter, one to an adapter freshly loaded from disk, one straight back."""
        engine, turn = self._engine, self.tally.n_swaps
        active = engine.get_active(TASK)
        following = self._order[(self._order.index(active) + 1) % len(self._order)]
        if turn % 4 == 1:
            await engine.unload(following)
            started = time.perf_counter()
            await engine.load(self._bundles[following])
            self.tally.loads_ms.append((time.perf_counter() - started) * 1000)
            self.tally.n_fresh += 1
        elif turn % 4 == 2:  # the turn after a fresh one: back to what answered before it
            following = self._order[self._order.index(active) - 1]
            await self._roll_back(following)
            self.tally.n_swaps += 1
            return
        await engine.activate(TASK, following)
        self.tally.n_swaps += 1

    async def _roll_back(self, digest: str) -> None:
        """Activate the adapter that answered before, and time until the first answer that it gave under load."""
        started = time.perf_counter()
        changing = asyncio.create_task(self._engine.activate(TASK, digest))
        await asyncio.sleep(0)
        scores = await self._engine.score(ScoreRequest(task=TASK, choices=self._choices, text=self._texts[0]))
        elapsed_ms = (time.perf_counter() - started) * 1000
        self.tally.n_wrong += scores.adapter_digest != digest
        self.tally.rollbacks_ms.append(elapsed_ms)
        await changing
