"""LlamaEngine: the local engine. Admits requests, resolves their adapter, holds them to their deadline and counts how they end.

How a model answers is in `encoder_answers` and `decoder_answers`, when it computes in `worker` and `scheduler`, how adapters come and go in
`swap`.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np

from bot.bundle import Manifest, Probe, hash_file
from bot.engine.adapters import AdapterTable, LoadedAdapter
from bot.engine.answers import Answers
from bot.engine.gguf_file import GGUFHead
from bot.engine.metrics import EngineMetrics, Outcome, Verb
from bot.engine.protocol import (
    ChoiceSet,
    Chunk,
    DeadlineError,
    EngineError,
    FloatArray,
    GenerateRequest,
    Priority,
    QueueFullError,
    Ranking,
    RankRequest,
    ScoreRequest,
    Scores,
    SwapReport,
)
from bot.engine.settings import EngineSettings
from bot.engine.swap import Swapper
from bot.engine.worker import NOT_RUNNING, Worker
from db.types import MaskedText, ModelKind, TaskKind

EMBED_CHUNK: Final = 32
"""Texts of one bulk embedding that are queued at a time."""
WARM_LIMIT: Final = 4
"""Choice sets per engine that a new adapter is warmed for: the last ones asked for."""


class LlamaEngine:
    """One base model on its own thread, and the adapters loaded on it. Implements `protocol.Engine`; for one event loop."""

    def __init__(
        self, path: Path, *, head: GGUFHead, settings: EngineSettings, answers: Answers, worker: Worker, metrics: EngineMetrics
    ) -> None:
        self._path = path
        self._settings = settings
        self._answers = answers
        self._worker = worker
        self._metrics = metrics
        self._table = AdapterTable()
        self._swapper = Swapper(
            answers=answers, worker=worker, table=self._table, head=head, metrics=metrics, drain_s=settings.drain_s
        )
        self._n_pending = dict.fromkeys(Priority, 0)
        self._base_digest: str | None = None
        self._seen_choices: OrderedDict[ChoiceSet, None] = OrderedDict()
        metrics.watch_queue(self._n_pending.__getitem__)
        metrics.watch_life(
            is_up=lambda: self.find_trouble() is None,
            get_stalled_s=lambda: worker.stalled_s,
            count_adapters=lambda: len(self._table.get_loaded()),
        )

    @property
    def kind(self) -> ModelKind:
        """Encoder or decoder."""
        return self._answers.kind

    @property
    def base_digest(self) -> str:
        """SHA-256 of the base model file, hex; reads the file once if the engine was not started yet."""
        if self._base_digest is None:
            self._base_digest = hash_file(self._path)
        return self._base_digest

    @property
    def n_pending(self) -> int:
        """Requests that wait or run now."""
        return sum(self._n_pending.values())

    def find_trouble(self) -> str | None:
        """Say in one sentence why the engine cannot answer now; None where it can."""
        if not self._worker.is_running:
            return NOT_RUNNING
        stalled_s = self._worker.stalled_s
        if stalled_s > self._settings.stall_s:
            return f"the engine has not moved for {stalled_s:.0f} s while work waits; restart the bot"
        return None

    async def start(self) -> None:
        """Load the base model. Raises ModelFileError."""
        if self._worker.is_running:
            return
        if self._base_digest is None:
            self._base_digest = await asyncio.to_thread(hash_file, self._path)
        await self._worker.start(self._answers.runtime)

    async def stop(self) -> None:
        """Refuse what is queued, free adapters, context and model."""
        await self._worker.stop()
        await self._swapper.clear()

    async def score(self, request: ScoreRequest) -> Scores:
        """Return the distribution. Raises QueueFullError, DeadlineError; EngineError for an adapter that is not loaded."""
        self._remember(request.choices)
        with self._admit("score", request) as adapter:
            async with asyncio.timeout(request.deadline_s):
                return await self._answers.score(request, adapter)

    async def rank(self, request: RankRequest) -> Ranking:
        """Score the units of one ticket (encoders only; EngineError on a decoder)."""
        with self._admit("rank", request) as adapter:
            async with asyncio.timeout(request.deadline_s):
                return await self._answers.rank(request, adapter)

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Chunk, None]:
        """Stream text (decoders only). Closing the iterator frees the slot; the deadline covers the whole text."""
        started = time.monotonic()
        with self._admit("generate", request) as adapter:
            ends_at = None if request.deadline_s is None else asyncio.get_running_loop().time() + request.deadline_s
            chunks = self._answers.generate(request, adapter)
            is_first = True
            try:
                while True:
                    async with asyncio.timeout_at(ends_at):
                        chunk = await anext(chunks)
                    if is_first:
                        self._metrics.observe_first_text(adapter=adapter.digest, seconds=time.monotonic() - started)
                        is_first = False
                    yield chunk
            except StopAsyncIteration:
                return
            finally:
                await chunks.aclose()

    async def embed(self, texts: Sequence[MaskedText], *, task: TaskKind, adapter: str | None = None) -> FloatArray:
        """Unit-norm embeddings, shape (n, n_embd), at bulk priority (encoders only).

        All from the adapter that is active when it begins. It holds that adapter chunk by chunk, so it fails with EngineError where the
        adapter is unloaded in between, rather than keeping it.
        """
        digest = self._table.get_active(task) if adapter is None else adapter
        parts = []
        for start in range(0, max(1, len(texts)), EMBED_CHUNK):
            with self._hold("embed", task, digest, priority=Priority.BULK, is_new=start == 0) as resolved:
                parts.append(await self._answers.embed(texts[start : start + EMBED_CHUNK], resolved, priority=Priority.BULK))
        return np.concatenate(parts)

    async def load(self, bundle: Path) -> str:
        """Load an adapter bundle beside what serves, prove that it is applied, and return its digest. Idempotent. Raises AdapterError."""
        return await self._swapper.load(bundle, base_digest=self.base_digest, choices=tuple(self._seen_choices))

    async def activate(self, task: TaskKind, digest: str | None) -> SwapReport:
        """Make a loaded adapter (None: the bare base) answer the task from the next request on. In-flight requests end on the old one.

        Returns when the interactive ones have ended, or after `drain_s`; the new adapter answers at once.
        """
        return await self._swapper.activate(task, digest)

    async def unload(self, digest: str) -> None:
        """Free a loaded adapter that is not active, once its last request is answered; later than this returns where that takes long."""
        await self._swapper.unload(digest)

    def get_active(self, task: TaskKind) -> str:
        """Digest of what answers the task now, or "base"."""
        return self._table.get_active(task)

    def get_loaded(self) -> tuple[str, ...]:
        """Digests of all loaded adapters."""
        return self._table.get_loaded()

    async def warm(self, choices: ChoiceSet, *, adapter: str | None = None) -> None:
        """Compute what requests with these choices share under one loaded adapter (the bare base where None), before the first needs it."""
        self._remember(choices)
        with self._table.lease(None, adapter) as resolved:
            await self._answers.warm(choices, resolved)

    async def build_probe(self, directory: Path, manifest: Manifest, *, texts: Sequence[str], tolerance: float = 0.02) -> Probe:
        """Measure the probe of a bundle directory that is being written: its outputs for these texts with its LoRA weights and without.

        The directory needs `adapter.gguf` or a head (or both) and, for heads, `calibration.json`; masked or made-up texts only.
        """
        return await self._swapper.build_probe(directory, manifest, texts=texts, tolerance=tolerance)

    @contextmanager
    def _admit(self, verb: Verb, request: ScoreRequest | RankRequest | GenerateRequest) -> Iterator[LoadedAdapter]:
        """Hold a request's adapter. A deadline that passes becomes DeadlineError."""
        try:
            with self._hold(verb, request.task, request.adapter, priority=request.priority) as adapter:
                yield adapter
        except TimeoutError:
            message = f"the request was not answered within its deadline of {request.deadline_s} s; try again or allow more time"
            raise DeadlineError(message) from None

    @contextmanager
    def _hold(
        self, verb: Verb, task: TaskKind, pinned: str | None, *, priority: Priority, is_new: bool = True
    ) -> Iterator[LoadedAdapter]:
        """Count a request while it waits and runs, and by how it ends. Raises QueueFullError at the bound, EngineError before the start."""
        started = time.monotonic()
        outcome: Outcome = "failed"
        try:
            self._check_room(is_new=is_new)
            with self._table.lease(task, pinned, priority=priority) as adapter:
                self._n_pending[priority] += 1
                try:
                    yield adapter
                finally:
                    self._n_pending[priority] -= 1
            outcome = "answered"
            self._metrics.observe_answer(verb, task, adapter=adapter.digest, seconds=time.monotonic() - started)
        except BaseException as error:
            outcome = _name_outcome(error)
            raise
        finally:
            self._metrics.count_request(verb, task, outcome=outcome)

    def _check_room(self, *, is_new: bool) -> None:
        if not self._worker.is_running:
            raise EngineError(NOT_RUNNING)
        if is_new and self.n_pending >= self._settings.queue_limit:
            message = f"{self.n_pending} requests wait already; try again in a moment, or raise engine.queue_limit"
            raise QueueFullError(message)

    def _remember(self, choices: ChoiceSet) -> None:
        self._seen_choices[choices] = None
        self._seen_choices.move_to_end(choices)
        while len(self._seen_choices) > WARM_LIMIT:
            self._seen_choices.popitem(last=False)


def _name_outcome(error: BaseException) -> Outcome:
    """Say how a request ended that was not answered."""
    if isinstance(error, QueueFullError):
        return "refused"
    if isinstance(error, (DeadlineError, TimeoutError)):
        return "late"
    return "cancelled" if isinstance(error, (asyncio.CancelledError, GeneratorExit)) else "failed"
