"""What the engine counts for Prometheus: queue, batches, tokens, prefixes, answers, swaps, and whether its thread still moves.

Numbers only. Labels are the model's file name, a task, a verb, an outcome and the first 12 characters of an adapter's digest, whose series
end when the adapter is unloaded. Knows nothing of requests or llama.cpp; every registry holds its own series.
"""

from collections.abc import Callable, Collection
from functools import partial
from typing import Final, Literal, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase

from bot.engine.protocol import Priority
from bot.types import BASE
from db.types import TaskKind

M = TypeVar("M", bound=MetricWrapperBase)
DIGEST_LENGTH: Final = 12
PROBE: Final = "probe"
"""Stands for weights that are only being proven: they have no digest yet."""

Phase = Literal["prefill", "decode"]
Verb = Literal["score", "rank", "generate", "embed", "warm"]
Outcome = Literal["answered", "refused", "late", "cancelled", "failed"]
SwapPhase = Literal["load", "prove", "flip", "drain", "rollback"]

_SECONDS: Final = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_SWAP_SECONDS: Final = (0.0001, 0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
_ITEMS: Final = (1, 2, 4, 8, 16, 32, 64, 128)
_TOKENS: Final = (8, 16, 32, 64, 96, 128, 192, 256, 512, 1024, 2048)


def shorten(digest: str) -> str:
    """Return what stands for an adapter, or a group of LoRA weights, in a metric."""
    return PROBE if digest.startswith(PROBE) else digest[:DIGEST_LENGTH]


class EngineMetricFamilies:
    """The engines' metrics in one registry; `bind` gives one engine its share."""

    def __init__(self, registry: CollectorRegistry) -> None:
        name = "understudy_engine_"
        by_adapter = ("model", "adapter")

        def counter(key: str, text: str, labels: tuple[str, ...]) -> Counter:
            return Counter(name + key, text, labels, registry=registry)

        def gauge(key: str, text: str, labels: tuple[str, ...]) -> Gauge:
            return Gauge(name + key, text, labels, registry=registry)

        def histogram(key: str, text: str, labels: tuple[str, ...], *, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(name + key, text, labels, registry=registry, buckets=buckets)

        self.waiting = gauge("queue_depth", "Pieces of work that wait for a step.", ("model", "priority"))
        self.requests = counter(
            "requests",
            "Requests by how they ended: answered, refused, late, cancelled, failed.",
            ("model", "verb", "task", "outcome"),
        )
        self.expired = counter("expired_in_queue", "Requests past their deadline that were dropped uncomputed.", ("model",))
        self.answer_s = histogram(
            "answer_seconds", "Time from a request to its whole answer.", ("model", "adapter", "verb", "task"), buckets=_SECONDS
        )
        self.first_text_s = histogram(
            "first_text_seconds", "Time from a request to its first piece of text.", by_adapter, buckets=_SECONDS
        )
        self.batch_items = histogram("batch_items", "Pieces of work in one step.", ("model",), buckets=_ITEMS)
        self.batch_tokens = histogram("batch_tokens", "Tokens in one step.", ("model",), buckets=_TOKENS)
        self.step_s = histogram("step_seconds", "Time of one step.", ("model",), buckets=_SECONDS)
        self.tokens = counter("tokens", "Tokens computed, read (prefill) or written (decode).", (*by_adapter, "phase"))
        self.prefixes = counter("prefixes", "Requests by whether their prompt prefix was in the cache.", (*by_adapter, "result"))
        self.swap_s = histogram("swap_seconds", "Time of each part of a swap.", ("model", "task", "phase"), buckets=_SWAP_SECONDS)
        self.swaps = counter(
            "swaps", "Activations, by whether they went back to the adapter before.", ("model", "task", "direction")
        )
        self.loads = counter("adapter_loads", "Adapter bundles loaded and proven, or refused.", ("model", "outcome"))
        self.per_adapter = frozenset((self.answer_s, self.first_text_s, self.tokens, self.prefixes))
        """Those whose second label is an adapter."""
        self.adapters = gauge("adapters_loaded", "Adapters in memory, the bare base not counted.", ("model",))
        self.up = gauge("up", "1 while the engine takes work and its thread moves.", ("model",))
        self.stalled_s = gauge(
            "stalled_seconds", "Seconds since the thread last moved while work waits; 0 when idle.", ("model",)
        )

    def bind(self, model: str) -> "EngineMetrics":
        """Return the metrics of one engine. `model` names its file; engines of one registry have different ones."""
        return EngineMetrics(self, model)


class EngineMetrics:
    """One engine's share. Every method may be called from the event loop and from the owner thread."""

    def __init__(self, families: EngineMetricFamilies, model: str) -> None:
        self._families = families
        self._model = model
        # looking a series up in its family costs more than counting, so it is done once
        self._counters: dict[tuple[Counter, tuple[str, ...]], Counter] = {}
        self._histograms: dict[tuple[Histogram, tuple[str, ...]], Histogram] = {}

    @classmethod
    def alone(cls) -> "EngineMetrics":
        """Return metrics in a registry of their own, which nobody reads: for tools and tests that run an engine by itself."""
        return EngineMetricFamilies(CollectorRegistry()).bind("engine")

    # the queue and the steps

    def watch_queue(self, count: Callable[[Priority], int]) -> None:
        """Have the queue's depth read at every scrape from a function; it is called on another thread and must only look."""
        for priority in Priority:
            self._families.waiting.labels(self._model, priority.name.lower()).set_function(partial(count, priority))

    def watch_life(
        self, *, is_up: Callable[[], bool], get_stalled_s: Callable[[], float], count_adapters: Callable[[], int]
    ) -> None:
        """Have the engine's state read at every scrape."""
        self._families.up.labels(self._model).set_function(lambda: float(is_up()))
        self._families.stalled_s.labels(self._model).set_function(get_stalled_s)
        self._families.adapters.labels(self._model).set_function(lambda: float(count_adapters()))

    def count_step(self, *, n_items: int, n_tokens: int, seconds: float) -> None:
        """Count one batch that was computed."""
        self._observe(self._families.batch_items, n_items)
        self._observe(self._families.batch_tokens, n_tokens)
        self._observe(self._families.step_s, seconds)

    def count_tokens(self, group: str, *, prefill: int = 0, decode: int = 0) -> None:
        """Count tokens that were read or written under a group of LoRA weights."""
        for phase, count in (("prefill", prefill), ("decode", decode)):
            if count:
                self._count(self._families.tokens, shorten(group), phase, by=count)

    def count_prefix(self, group: str, *, is_hit: bool) -> None:
        """Count a request that found its prompt prefix in the cache (read or being read), or had to have it read."""
        self._count(self._families.prefixes, shorten(group), "hit" if is_hit else "miss")

    # requests

    def count_request(self, verb: Verb, task: TaskKind, *, outcome: Outcome) -> None:
        """Count a request by how it ended."""
        self._count(self._families.requests, verb, task.value, outcome)

    def count_expired(self) -> None:
        """Count a request that was dropped from the queue past its deadline."""
        self._count(self._families.expired)

    def observe_answer(self, verb: Verb, task: TaskKind, *, adapter: str, seconds: float) -> None:
        """Record how long a request took until its whole answer was there."""
        self._observe(self._families.answer_s, seconds, shorten(adapter), verb, task.value)

    def observe_first_text(self, *, adapter: str, seconds: float) -> None:
        """Record how long a request took until its first piece of text."""
        self._observe(self._families.first_text_s, seconds, shorten(adapter))

    # adapters

    def observe_swap(self, task: TaskKind, phase: SwapPhase, *, seconds: float) -> None:
        """Record a part of a swap; "rollback" is a whole flip back to the adapter before."""
        self._observe(self._families.swap_s, seconds, task.value, phase)

    def count_swap(self, task: TaskKind, *, is_rollback: bool) -> None:
        """Count an activation that changed what answers a task."""
        self._count(self._families.swaps, task.value, "rollback" if is_rollback else "forward")

    def count_load(self, *, is_accepted: bool) -> None:
        """Count a bundle that was loaded and proven, or refused."""
        self._count(self._families.loads, "accepted" if is_accepted else "refused")

    def forget_adapter(self, digest: str) -> None:
        """End the series of an adapter that was unloaded, so that a year of retraining does not pile them up."""
        name = shorten(digest)
        if name in {BASE, PROBE}:
            return
        _end_series(self._counters, self._families.per_adapter, name)
        _end_series(self._histograms, self._families.per_adapter, name)

    def _observe(self, family: Histogram, value: float, *labels: str) -> None:
        key = (family, (self._model, *labels))
        child = self._histograms.get(key) or self._histograms.setdefault(key, family.labels(*key[1]))
        child.observe(value)

    def _count(self, family: Counter, *labels: str, by: float = 1) -> None:
        key = (family, (self._model, *labels))
        child = self._counters.get(key) or self._counters.setdefault(key, family.labels(*key[1]))
        child.inc(by)


def _end_series(children: dict[tuple[M, tuple[str, ...]], M], families: Collection[MetricWrapperBase], adapter: str) -> None:
    for family, labels in [key for key in list(children) if key[0] in families and key[1][1] == adapter]:
        del children[family, labels]
        family.remove(*labels)
