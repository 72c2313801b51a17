"""The encoder's comparison: our engine against llama-server, sentence-transformers and the limit of `llama_decode`, in alternating runs.

Knows what is measured and under which keys; the peers themselves are in `benches.encoder_peers`.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benches.adapters import make_bundle
from benches.clients import HTTPClient, Load, run_clients
from benches.encoder_peers import (
    BATCH_SIZES,
    LIMIT_BUDGETS,
    MAX_TOKENS,
    DecodeLimit,
    SentenceTransformersPeer,
    ask_server,
    get_server_args,
    start_sentence_transformers,
)
from benches.llama_bench import measure_prefill
from benches.models import ensure_encoder
from benches.peers import start_llama_server
from benches.report import Samples
from benches.settings import BenchSettings
from benches.workload import load_labels, load_tickets
from bot.engine.engine import LlamaEngine
from bot.engine.factory import build_engine
from bot.engine.protocol import ScoreRequest
from bot.engine.settings import EngineSettings
from db.types import MaskedText, TaskKind

CONCURRENCY: Final = 8
_STRENGTH: Final = 0.3
_BUDGET: Final = 192


@dataclass(frozen=True)
class _Sides:
    engine: LlamaEngine
    server: HTTPClient
    transformers: SentenceTransformersPeer
    limit: DecodeLimit
    limit_with_adapter: DecodeLimit
    tickets: tuple[MaskedText, ...]
    tokens: tuple[tuple[int, ...], ...]


async def bench_encoder(settings: BenchSettings) -> dict[str, Any]:
    """Return the encoder's figures; keys begin with `encoder_`. Raises BenchError where a peer cannot be built."""
    base = ensure_encoder()
    engine = build_engine(base, settings=EngineSettings(n_threads=settings.threads, text_tokens=MAX_TOKENS))
    await engine.start()
    try:
        bundle = await make_bundle(engine, base, load_labels().choices, seed=1, strength=_STRENGTH)
        await engine.activate(TaskKind.CLASSIFICATION, await engine.load(bundle.directory))
        await engine.warm(load_labels().choices)
        return await _compare(engine, base, bundle.adapter_path, settings=settings)
    finally:
        await engine.stop()


async def _compare(engine: LlamaEngine, base: Path, lora: Path | None, *, settings: BenchSettings) -> dict[str, Any]:
    with ExitStack() as stack:
        args = get_server_args(threads=settings.threads, lora=lora, slots=CONCURRENCY)
        server = HTTPClient(stack.enter_context(start_llama_server(base, args=args)))
        transformers = stack.enter_context(start_sentence_transformers(threads=settings.threads))
        limits = [DecodeLimit(base, threads=settings.threads, lora=path) for path in (None, lora)]
        for limit in limits:
            stack.callback(limit.close)
        tickets, tokens = _choose_tickets(limits[0], settings.encoder_tickets)
        sides = _Sides(engine, server, transformers, limits[0], limits[1], tickets, tokens)
        samples = Samples()
        await _measure_round(sides, Samples(), settings=settings)  # warms every side up
        for _ in range(settings.rounds):
            await _measure_round(sides, samples, settings=settings)
        figures = _collect(samples, n_tokens=sum(map(len, tokens)) / len(tokens))
        rate = await measure_prefill(base, threads=settings.threads, lengths=LIMIT_BUDGETS, is_encoder=True)
        figures["encoder_llama_bench_tokens_per_s"] = rate
        figures |= await _measure_latencies(sides, settings=settings)
        await server.close()
        return figures


def _choose_tickets(limit: DecodeLimit, count: int) -> tuple[tuple[MaskedText, ...], tuple[tuple[int, ...], ...]]:
    """Return tickets that all sides read whole: llama-server refuses longer ones, the others would cut them."""
    kept = [(text, tokens) for text in load_tickets(2 * count) if len(tokens := tuple(limit.tokenize(text))) <= MAX_TOKENS][
        :count
    ]
    return tuple(text for text, _ in kept), tuple(tokens for _, tokens in kept)


async def _measure_round(sides: _Sides, samples: Samples, *, settings: BenchSettings) -> None:
    """Measure every side once, one after the other."""
    load = await _run_engine(sides, concurrency=CONCURRENCY)
    samples.add("encoder_tickets_per_s", load.per_second)
    server = await run_clients(lambda n: ask_server(sides.server, sides.tickets[n]), len(sides.tickets), concurrency=CONCURRENCY)
    samples.add("encoder_tickets_per_s_llama_server", server.per_second)
    for size in BATCH_SIZES:
        rate = sides.transformers.encode(sides.tickets, dtype="float32", batch_size=size)
        samples.add(f"encoder_tickets_per_s_sentence_transformers_b{size}", rate)
        if settings.with_bf16:
            rate = sides.transformers.encode(sides.tickets, dtype="bfloat16", batch_size=size)
            samples.add(f"encoder_tickets_per_s_sentence_transformers_bf16_b{size}", rate)
    by_length = sorted(sides.tokens, key=len)
    for budget in LIMIT_BUDGETS:
        samples.add(f"encoder_limit_tickets_per_s_at_{budget}_tokens", sides.limit.measure(by_length, budget=budget))
    windows = [window for start in range(0, len(sides.tokens), CONCURRENCY) for window in _sort_window(sides.tokens, start)]
    samples.add("encoder_limit_tickets_per_s_of_8_waiting", sides.limit.measure(windows, budget=_BUDGET))
    samples.add("encoder_limit_tickets_per_s_with_adapter", sides.limit_with_adapter.measure(by_length, budget=_BUDGET))
    bulk = await _run_engine(sides, concurrency=64)
    samples.add("encoder_tickets_per_s_c64", bulk.per_second)


def _sort_window(tokens: Sequence[tuple[int, ...]], start: int) -> list[tuple[int, ...]]:
    return sorted(tokens[start : start + CONCURRENCY], key=len)


async def _run_engine(sides: _Sides, *, concurrency: int) -> Load:
    choices = load_labels().choices

    async def ask(number: int) -> int:
        request = ScoreRequest(task=TaskKind.CLASSIFICATION, choices=choices, text=sides.tickets[number])
        return (await sides.engine.score(request)).n_tokens

    return await run_clients(ask, len(sides.tickets), concurrency=concurrency)


async def _measure_latencies(sides: _Sides, *, settings: BenchSettings) -> dict[str, Any]:
    p50, p99, server_p50, server_p99 = {}, {}, {}, {}
    for concurrency in settings.concurrencies:
        load = await _run_engine(sides, concurrency=concurrency)
        p50[str(concurrency)], p99[str(concurrency)] = load.percentile_ms(50), load.percentile_ms(99)
        load = await run_clients(
            lambda n: ask_server(sides.server, sides.tickets[n]), len(sides.tickets), concurrency=concurrency
        )
        server_p50[str(concurrency)], server_p99[str(concurrency)] = load.percentile_ms(50), load.percentile_ms(99)
    return {
        "encoder_p50_ms": p50,
        "encoder_p99_ms": p99,
        "encoder_p50_ms_llama_server": server_p50,
        "encoder_p99_ms_llama_server": server_p99,
    }


def _collect(samples: Samples, *, n_tokens: float) -> dict[str, Any]:
    medians = samples.medians()
    ours = "encoder_tickets_per_s"
    limits = [f"encoder_limit_tickets_per_s_at_{budget}_tokens" for budget in LIMIT_BUDGETS]
    plain = [f"encoder_tickets_per_s_sentence_transformers_b{size}" for size in BATCH_SIZES]
    half = [f"encoder_tickets_per_s_sentence_transformers_bf16_b{size}" for size in BATCH_SIZES]
    best_limit, best_plain = max(limits, key=medians.__getitem__), max(plain, key=medians.__getitem__)
    figures: dict[str, Any] = dict(medians)
    figures |= {
        "encoder_sentence_transformers_tickets_per_s": medians[best_plain],
        "encoder_ratio_vs_llama_server": samples.ratio(ours, "encoder_tickets_per_s_llama_server"),
        "encoder_ratio_vs_sentence_transformers": samples.ratio(ours, best_plain),
        "encoder_limit_tickets_per_s": medians[best_limit],
        "encoder_limit_batch_tokens": int(best_limit.split("_at_")[1].split("_")[0]),
        "encoder_limit_fraction": samples.ratio(ours, best_limit),
        "encoder_limit_fraction_with_adapter": samples.ratio(ours, "encoder_limit_tickets_per_s_with_adapter"),
        "encoder_limit_fraction_of_8_waiting": samples.ratio(ours, "encoder_limit_tickets_per_s_of_8_waiting"),
        "encoder_tokens_per_ticket": n_tokens,
        "encoder_tokens_per_s": medians[ours] * n_tokens,
        "encoder_runs": samples.runs(),
    }
    if half[0] in medians:
        figures["encoder_sentence_transformers_bf16_tickets_per_s"] = max(medians[name] for name in half)
    return figures
