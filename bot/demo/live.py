"""Live requests while the adapter is swapped, and the proof afterwards that no answer was lost or mixed.

Wrong is checked by content: what an answer says must equal what the adapter it names gives for that ticket alone.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bot.core import Core
from bot.data import DemoTicket
from bot.engine.protocol import EngineError, ScoreRequest
from bot.plugin_api import Bot, BotError
from bot.types import Classification, SourceRef
from db.types import MaskedText, TaskKind

PLUGIN = "demo-live"
TOLERANCE = 0.02
NOISE = 0.005


@dataclass(frozen=True)
class LiveAnswer:
    """One request of the live load. `card` is None where it failed; times are `time.perf_counter` seconds."""

    ticket: DemoTicket
    started: float
    ended: float
    card: Classification | None
    error: str = ""


class LiveLoad:
    """Sends tickets through the plugin contract from `concurrency` clients until stopped; each rests `pause_s` between requests."""

    def __init__(self, bot: Bot, tickets: Sequence[DemoTicket], *, concurrency: int, pause_s: float) -> None:
        self._bot = bot
        self._tickets = tickets
        self._next = 0
        self._is_stopping = False
        self._concurrency = concurrency
        self.pause_s = pause_s
        self._workers: list[asyncio.Task[None]] = []
        self.answers: list[LiveAnswer] = []

    def start(self) -> None:
        """Start the clients."""
        self._workers = [asyncio.create_task(self._work()) for _ in range(self._concurrency)]

    async def stop(self) -> None:
        """Let every client finish its last request."""
        self._is_stopping = True
        await asyncio.gather(*self._workers)

    async def _work(self) -> None:
        while not self._is_stopping:
            number = self._next
            self._next += 1
            ticket = self._tickets[number % len(self._tickets)]
            started = time.perf_counter()
            try:
                card = await self._bot.classify(ticket.text, source=SourceRef(PLUGIN, f"{ticket.id}-{number}"))
                answer = LiveAnswer(ticket, started, time.perf_counter(), card)
            except BotError as error:
                answer = LiveAnswer(ticket, started, time.perf_counter(), None, str(error))
            self.answers.append(answer)
            await asyncio.sleep(self.pause_s)


def is_wrong(given: Mapping[str, float], claimed: Mapping[str, float], others: Sequence[Mapping[str, float]]) -> bool:
    """Whether an answer is not the one of the adapter it names: too far from what that adapter gives alone, or nearer to another's.

    A ticket's place in its batch moves the last bit of a sum, and 8-bit rounding in the layers after it made up to 0.004 of that in a
    probability where it was measured; a swap moved them by 0.4 in the median. Differences within the noise say nothing about the adapter.
    """
    distance = _measure_distance(given, claimed)
    is_nearer = any(_measure_distance(given, other) < distance for other in others)
    return distance > TOLERANCE or (is_nearer and distance > NOISE)


def _measure_distance(given: Mapping[str, float], alone: Mapping[str, float]) -> float:
    return max(abs(alone[label] - probability) for label, probability in given.items())


async def count_wrong(core: Core, answers: Sequence[LiveAnswer]) -> int:
    """Count answers that are not what the adapter they name gives for that ticket alone. All of those adapters must still be loaded."""
    digests = {answer.card.adapter_digest for answer in answers if answer.card is not None}
    alone: dict[str, dict[str, dict[str, float]]] = {}
    wrong = 0
    for answer in answers:
        if answer.card is None or not answer.card.candidates:
            continue
        if answer.ticket.id not in alone:
            text = (await core.masker.mask_async(answer.ticket.text)).text
            alone[answer.ticket.id] = {digest: await _score_alone(core, text, digest) for digest in digests}
        known = alone[answer.ticket.id]
        given = {score.label: score.probability for score in answer.card.candidates}
        claimed = answer.card.adapter_digest
        wrong += is_wrong(given, known[claimed], [known[digest] for digest in digests - {claimed}])
    return wrong


async def _score_alone(core: Core, text: MaskedText, digest: str) -> dict[str, float]:
    engine = core.engines[TaskKind.CLASSIFICATION]
    request = ScoreRequest(task=TaskKind.CLASSIFICATION, choices=core.choices, text=text, adapter=digest)
    try:
        scores = await engine.score(request)
    except EngineError as error:
        message = f"the answer names adapter {digest[:12]}, which is not loaded any more: {error}"
        raise BotError(message) from error
    return dict(zip(core.choices.names, (float(p) for p in scores.probabilities), strict=True))
