"""LlamaEngine: the local engine. Admits requests, resolves their adapter, loads, proves, flips and frees adapters.

Knows the order in which these things must happen; how a model answers is in `encoder_answers` and `decoder_answers`, when it
computes in `worker` and `scheduler`.
"""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np

from bot.bundle import ADAPTER_FILE, Bundle, BundleError, Manifest, Probe, hash_file
from bot.engine.adapters import AdapterTable, LoadedAdapter, wait_ended
from bot.engine.answers import Answers
from bot.engine.gguf_file import GGUFHead
from bot.engine.proof import check_lora, compare_probe
from bot.engine.protocol import (
    AdapterError,
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
from bot.engine.worker import NOT_RUNNING, Worker
from bot.types import BASE
from db.types import MaskedText, ModelKind, TaskKind

logger = logging.getLogger(__name__)
EMBED_CHUNK: Final = 64
"""Texts of one bulk embedding that are queued at a time."""
WARM_LIMIT: Final = 4
"""Choice sets per engine that a new adapter is warmed for: the last ones asked for."""


class LlamaEngine:
    """One base model on its own thread, and the adapters loaded on it. Implements `protocol.Engine`; for one event loop."""

    def __init__(self, path: Path, *, head: GGUFHead, settings: EngineSettings, answers: Answers, worker: Worker) -> None:
        self._path = path
        self._head = head
        self._settings = settings
        self._answers = answers
        self._worker = worker
        self._table = AdapterTable()
        self._changing = asyncio.Lock()
        self._n_pending = 0
        self._base_digest: str | None = None
        self._seen_choices: OrderedDict[ChoiceSet, None] = OrderedDict()

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
        return self._n_pending

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
        for digest in self._table.get_loaded():
            self._answers.dismiss(self._table.get(digest))
        self._table.clear()

    async def score(self, request: ScoreRequest) -> Scores:
        """Return the distribution. Raises QueueFullError, DeadlineError; EngineError for an adapter that is not loaded."""
        self._remember(request.choices)
        with self._admit(), self._table.lease(request.task, request.adapter) as adapter, _convert_timeout(request.deadline_s):
            async with asyncio.timeout(request.deadline_s):
                return await self._answers.score(request, adapter)

    async def rank(self, request: RankRequest) -> Ranking:
        """Score the units of one ticket (encoders only; EngineError on a decoder)."""
        with self._admit(), self._table.lease(request.task, request.adapter) as adapter, _convert_timeout(request.deadline_s):
            async with asyncio.timeout(request.deadline_s):
                return await self._answers.rank(request, adapter)

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Chunk, None]:
        """Stream text (decoders only). Closing the iterator frees the slot; the deadline covers the whole text."""
        with self._admit(), self._table.lease(request.task, request.adapter) as adapter:
            ends_at = None if request.deadline_s is None else asyncio.get_running_loop().time() + request.deadline_s
            chunks = self._answers.generate(request, adapter)
            try:
                while True:
                    with _convert_timeout(request.deadline_s):
                        async with asyncio.timeout_at(ends_at):
                            chunk = await anext(chunks)
                    yield chunk
            except StopAsyncIteration:
                return
            finally:
                await chunks.aclose()

    async def embed(self, texts: Sequence[MaskedText], *, task: TaskKind, adapter: str | None = None) -> FloatArray:
        """Unit-norm embeddings, shape (n, n_embd), at bulk priority (encoders only)."""
        with self._admit(), self._table.lease(task, adapter) as resolved:
            parts = [
                await self._answers.embed(texts[start : start + EMBED_CHUNK], resolved, priority=Priority.BULK)
                for start in range(0, max(1, len(texts)), EMBED_CHUNK)
            ]
            return np.concatenate(parts)

    async def load(self, bundle: Path) -> str:
        """Load an adapter bundle beside what serves, prove that it is applied, and return its digest. Idempotent. Raises AdapterError."""
        async with self._changing:
            try:
                read = await asyncio.to_thread(Bundle.load, bundle)
            except BundleError as error:
                raise AdapterError(str(error)) from error
            self._check_fits(read)
            if self._table.has(read.digest):
                return read.digest
            await self._load(read)
            return read.digest

    async def _load(self, bundle: Bundle) -> None:
        started = time.perf_counter()
        lora = bundle.adapter_path
        adapter = LoadedAdapter(bundle.digest, bundle, group=bundle.digest if lora else BASE)
        try:
            if lora is not None:
                await self._attach(adapter.group, lora)
            await self._answers.admit(adapter, bundle)
            adapter.load_ms = (time.perf_counter() - started) * 1000
            started = time.perf_counter()
            await self._prove(bundle, adapter.group)
            adapter.prove_ms = (time.perf_counter() - started) * 1000
            if bundle.manifest.task == TaskKind.CLASSIFICATION:
                for choices in tuple(self._seen_choices):
                    await self._answers.warm(choices, adapter)
        except BaseException:
            await self._forget(adapter)
            raise
        self._table.add(adapter)
        logger.info("adapter %s loaded in %.0f ms, proven in %.0f ms", adapter.digest[:12], adapter.load_ms, adapter.prove_ms)

    async def activate(self, task: TaskKind, digest: str | None) -> SwapReport:
        """Make a loaded adapter (None: the bare base) answer the task from the next request on. In-flight requests end on the old one."""
        started = time.perf_counter()
        target = digest or BASE
        previous, leases = self._table.flip(task, target)
        flipped = time.perf_counter()
        adapter = self._table.get(target)
        await wait_ended(leases)
        drained = time.perf_counter()
        logger.info("adapter %s answers %s in place of %s", target[:12], task, previous[:12])
        return SwapReport(
            task=task,
            adapter_digest=target,
            previous_digest=previous,
            load_ms=adapter.load_ms,
            prove_ms=adapter.prove_ms,
            flip_ms=(flipped - started) * 1000,
            drain_ms=(drained - flipped) * 1000,
        )

    async def unload(self, digest: str) -> None:
        """Free a loaded adapter that is not active, once its last request is answered. Nothing happens where it is not loaded."""
        async with self._changing:
            adapter = await self._table.retire(digest)
            if adapter is not None:
                await self._forget(adapter)

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
        async with self._changing:
            lora = directory / ADAPTER_FILE
            base = await self._answers.measure(texts, BASE, directory=directory, manifest=manifest)
            if not lora.exists():
                return Probe(texts=tuple(texts), expected=base, base=base, tolerance=tolerance)
            group = f"probe:{directory}"
            await self._attach(group, lora)
            try:
                expected = await self._answers.measure(texts, group, directory=directory, manifest=manifest)
            finally:
                await self._answers.detach(group)
            return Probe(texts=tuple(texts), expected=expected, base=base, tolerance=tolerance)

    @contextmanager
    def _admit(self) -> Iterator[None]:
        """Count a request while it waits and runs. Raises QueueFullError at the bound, EngineError before the start."""
        if not self._worker.is_running:
            raise EngineError(NOT_RUNNING)
        if self._n_pending >= self._settings.queue_limit:
            message = f"{self._n_pending} requests wait already; try again in a moment, or raise engine.queue_limit"
            raise QueueFullError(message)
        self._n_pending += 1
        try:
            yield
        finally:
            self._n_pending -= 1

    def _remember(self, choices: ChoiceSet) -> None:
        self._seen_choices[choices] = None
        self._seen_choices.move_to_end(choices)
        while len(self._seen_choices) > WARM_LIMIT:
            self._seen_choices.popitem(last=False)

    def _check_fits(self, bundle: Bundle) -> None:
        manifest = bundle.manifest
        if manifest.base_digest != self.base_digest:
            message = (
                f"adapter {bundle.digest[:12]} belongs to base model {manifest.base_digest[:12]}, this engine serves "
                f"{self.base_digest[:12]}; serve that base or retrain the adapter on this one"
            )
            raise AdapterError(message)
        if manifest.model_kind != self.kind:
            message = (
                f"adapter {bundle.digest[:12]} is for a {manifest.model_kind}, this engine serves a {self.kind}; load it there"
            )
            raise AdapterError(message)

    async def _attach(self, group: str, lora: Path) -> None:
        """Check a LoRA file against the base's tensors, then load it between two steps."""
        await asyncio.to_thread(check_lora, lora, self._head)
        await self._answers.attach(group, lora)

    async def _forget(self, adapter: LoadedAdapter) -> None:
        self._answers.dismiss(adapter)
        if adapter.group != BASE and self._worker.is_running:
            await self._answers.detach(adapter.group)

    async def _prove(self, bundle: Bundle, group: str) -> None:
        probe = bundle.probe
        if not probe.texts or not len(probe.texts) == len(probe.expected) == len(probe.base):
            message = (
                f"adapter {bundle.digest[:12]} has an incomplete probe; write it with one expected and one base row per text"
            )
            raise AdapterError(message)
        directory, manifest = bundle.directory, bundle.manifest
        measured = await self._answers.measure(probe.texts, group, directory=directory, manifest=manifest)
        has_lora = group != BASE
        base = await self._answers.measure(probe.texts, BASE, directory=directory, manifest=manifest) if has_lora else measured
        compare_probe(bundle.digest, measured, base=base, probe=probe, has_lora=has_lora)


@contextmanager
def _convert_timeout(deadline_s: float | None) -> Iterator[None]:
    try:
        yield
    except TimeoutError:
        message = f"the request was not answered within its deadline of {deadline_s} s; try again or allow more time"
        raise DeadlineError(message) from None
