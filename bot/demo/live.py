"""Live requests while the adapter is swapped, and the proof afterwards that no answer was lost or mixed.

Wrong is checked by content: what an answer says must equal what the adapter it names gives for that ticket alone.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bot.core import Core
from bot.data import DemoTicket
from bot.engine.protocol import EngineError, ScoreRequest
from bot.plugin_api import Bot, BotError
from bot.types import Classification, SourceRef
from db.types import MaskedText, TaskKind

PLUGIN = "demo-live"
TOLERANCE = 2e-3


@dataclass(frozen=True)
class LiveAnswer:
    """One request of the live load. `card` is None where it failed; times are `time.perf_counter` seconds."""

    ticket: DemoTicket
    started: float
    ended: float
    card: Classification | None
    error: str = ""


class LiveLoad:
    """Sends tickets through the plugin contract from `concurrency` clients until stopped."""

    def __init__(self, bot: Bot, tickets: Sequence[DemoTicket], *, concurrency: int) -> None:
        self._bot = bot
        self._tickets = tickets
        self._next = 0
        self._is_stopping = False
        self._concurrency = concurrency
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


async def count_wrong(core: Core, answers: Sequence[LiveAnswer]) -> int:
    """Count answers whose probabilities are not those of the adapter they name, asked alone. Both adapters must still be loaded."""
    known: dict[tuple[str, str], dict[str, float]] = {}
    wrong = 0
    for answer in answers:
        if answer.card is None:
            continue
        key = (answer.ticket.id, answer.card.adapter_digest)
        if key not in known:
            text = await core.masker.mask_async(answer.ticket.text)
            known[key] = await _score_alone(core, text.text, answer.card.adapter_digest)
        alone = known[key]
        given = {score.label: score.probability for score in answer.card.candidates}
        wrong += bool(np.max([abs(alone[label] - probability) for label, probability in given.items()]) > TOLERANCE)
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
