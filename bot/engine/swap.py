"""Loads, proves, flips, drains and frees adapters, in that order, while requests keep flowing.

Knows when each step may happen; what is loaded stands in `bot.engine.adapters`, how an adapter computes in the answers. Loading and
freeing run on the owner thread between two steps: llama.cpp changes a set that a decode may walk through.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from bot.bundle import ADAPTER_FILE, Bundle, BundleError, Manifest, Probe
from bot.engine.adapters import AdapterTable, Lease, LoadedAdapter, wait_ended
from bot.engine.answers import Answers
from bot.engine.gguf_file import GGUFHead
from bot.engine.metrics import EngineMetrics
from bot.engine.proof import check_lora, compare_probe
from bot.engine.protocol import AdapterError, ChoiceSet, SwapReport
from bot.engine.worker import Worker
from bot.types import BASE
from db.types import TaskKind

logger = logging.getLogger(__name__)


class Swapper:
    """Changes what is loaded and what answers. For the event loop; loads and frees one adapter at a time."""

    def __init__(
        self, *, answers: Answers, worker: Worker, table: AdapterTable, head: GGUFHead, metrics: EngineMetrics, drain_s: float
    ) -> None:
        self._answers = answers
        self._worker = worker
        self._table = table
        self._head = head
        self._metrics = metrics
        self._drain_s = drain_s
        self._changing = asyncio.Lock()
        self._previous: dict[TaskKind, str] = {}
        self._leaving: dict[str, asyncio.Task[None]] = {}

    async def load(self, directory: Path, *, base_digest: str, choices: Sequence[ChoiceSet]) -> str:
        """Load a bundle, prove it, warm it for choice sets in use, and return its digest. Raises AdapterError."""
        async with self._changing:
            try:
                bundle = await asyncio.to_thread(
                    Bundle.load, directory
                )  # reads every byte, so llama.cpp finds the file in memory
            except BundleError as error:
                self._metrics.count_load(is_accepted=False)
                raise AdapterError(str(error)) from error
            if self._table.has(bundle.digest) or self._keep(bundle.digest):
                return bundle.digest
            try:
                self._check_fits(bundle, base_digest)
                await self._load(bundle, choices)
            except AdapterError:
                self._metrics.count_load(is_accepted=False)
                raise
            self._metrics.count_load(is_accepted=True)
            return bundle.digest

    async def _load(self, bundle: Bundle, choices: Sequence[ChoiceSet]) -> None:
        started = time.perf_counter()
        lora, task = bundle.adapter_path, bundle.manifest.task
        adapter = LoadedAdapter(bundle.digest, bundle, group=bundle.digest if lora else BASE)
        try:
            if lora is not None:
                await self._attach(adapter.group, lora)
            await self._answers.admit(adapter, bundle)
            adapter.load_ms = (time.perf_counter() - started) * 1000
            started = time.perf_counter()
            await self._prove(bundle, adapter.group)
            adapter.prove_ms = (time.perf_counter() - started) * 1000
            if task == TaskKind.CLASSIFICATION:
                for used in choices:
                    await self._answers.warm(used, adapter)
        except BaseException:
            await self._forget(adapter)
            raise
        self._table.add(adapter)
        self._metrics.observe_swap(task, "load", seconds=adapter.load_ms / 1000)
        self._metrics.observe_swap(task, "prove", seconds=adapter.prove_ms / 1000)
        logger.info("adapter %s loaded in %.0f ms, proven in %.0f ms", adapter.digest[:12], adapter.load_ms, adapter.prove_ms)

    async def activate(self, task: TaskKind, digest: str | None) -> SwapReport:
        """Flip a task to a loaded adapter (None: the bare base), then wait for the interactive requests that still run on the old one.

        The new adapter answers from the flip on, whatever becomes of the wait: it has a bound, and bulk requests are not waited for.
        """
        started = time.perf_counter()
        target = digest or BASE
        previous, leases = self._table.flip(task, target)
        flipped = time.perf_counter()
        adapter = self._table.get(target)
        is_rollback = target != previous and self._previous.get(task) == target
        if target != previous:
            self._previous[task] = previous
            self._metrics.count_swap(task, is_rollback=is_rollback)
        await self._drain(leases)
        drained = time.perf_counter()
        self._metrics.observe_swap(task, "flip", seconds=flipped - started)
        self._metrics.observe_swap(task, "drain", seconds=drained - flipped)
        if is_rollback:
            self._metrics.observe_swap(task, "rollback", seconds=drained - started)
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

    async def _drain(self, leases: Sequence[Lease]) -> None:
        try:
            async with asyncio.timeout(self._drain_s):
                await wait_ended(leases)
        except TimeoutError:
            n_left = sum(not lease.ended.is_set() for lease in leases)
            logger.warning("%d requests still run on the adapter before, after %.0f s; they may end there", n_left, self._drain_s)

    async def unload(self, digest: str) -> None:
        """Stop giving an adapter out and free it once its last request is answered; waits for that, up to the bound of a drain.

        Nothing happens where it is not loaded. Raises AdapterError where it is active.
        """
        adapter = self._table.retire(digest)
        if adapter is None:
            return
        running = self._leaving[digest] = asyncio.create_task(self._free(adapter), name=f"free-{digest[:12]}")
        running.add_done_callback(partial(self._end_leaving, digest))
        await asyncio.wait({running}, timeout=self._drain_s)

    def _end_leaving(self, digest: str, running: "asyncio.Task[None]") -> None:
        if self._leaving.get(digest) is running:
            del self._leaving[digest]
        if not running.cancelled() and (error := running.exception()) is not None:
            logger.error("adapter %s could not be freed: %s", digest[:12], error)

    async def _free(self, adapter: LoadedAdapter) -> None:
        await wait_ended(tuple(adapter.leases))
        async with self._changing:
            if not adapter.is_leaving:  # it was asked for again meanwhile
                return
            self._table.remove(adapter.digest)
            await self._forget(adapter)
            self._metrics.forget_adapter(adapter.digest)

    def _keep(self, digest: str) -> bool:
        """Take back the order to free an adapter; False where there is none."""
        if digest not in self._leaving or not self._table.keep(digest):
            return False
        self._leaving.pop(digest).cancel()
        return True

    async def build_probe(self, directory: Path, manifest: Manifest, *, texts: Sequence[str], tolerance: float) -> Probe:
        """Measure outputs for these texts with a bundle directory's LoRA weights and without."""
        async with self._changing:
            lora = directory / ADAPTER_FILE
            base = await self._answers.measure(texts, BASE, directory=directory, manifest=manifest)
            if not lora.exists():
                return Probe(texts=tuple(texts), expected=base, base=base, tolerance=tolerance)
            group = f"probe:{directory}"
            try:
                await self._attach(group, lora)
                expected = await self._answers.measure(texts, group, directory=directory, manifest=manifest)
            finally:
                await self._answers.detach(group)
            return Probe(texts=tuple(texts), expected=expected, base=base, tolerance=tolerance)

    async def clear(self) -> None:
        """Forget everything, after the owner thread ended and freed the weights."""
        leaving = list(self._leaving.values())
        for running in leaving:
            running.cancel()
        await asyncio.gather(*leaving, return_exceptions=True)
        for digest in self._table.get_loaded():
            self._answers.dismiss(self._table.get(digest))
        self._table.clear()
        self._previous.clear()

    def _check_fits(self, bundle: Bundle, base_digest: str) -> None:
        manifest, kind = bundle.manifest, self._answers.kind
        if manifest.base_digest != base_digest:
            message = (
                f"adapter {bundle.digest[:12]} belongs to base model {manifest.base_digest[:12]}, this engine serves "
                f"{base_digest[:12]}; serve that base or retrain the adapter on this one"
            )
            raise AdapterError(message)
        if manifest.model_kind != kind:
            message = f"adapter {bundle.digest[:12]} is for a {manifest.model_kind}, this engine serves a {kind}; load it there"
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
