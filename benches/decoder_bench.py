"""The decoder's comparison: labels and summaries by our engine, by llama-server and by llama-cpp-python's server, in alternating runs.

Knows what is measured and under which keys; the peers themselves are in `benches.decoder_peers`. docs/benchmarks.md says what is fair
about it: weights are random, so a grammar makes the peers write real labels, and a peaked model stands for a trained one.
"""

import asyncio
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benches.clients import HTTPClient, Load, run_clients
from benches.decoder_peers import (
    ask_llama_cpp_python,
    ask_server,
    ask_summary,
    build_grammar,
    get_llama_cpp_python_args,
    get_server_args,
)
from benches.llama_bench import measure_prefill
from benches.models import FLAT, PEAKED, QWEN_05B, ensure_decoder
from benches.peers import start_llama_cpp_python_server, start_llama_server
from benches.report import Samples
from benches.settings import BenchSettings
from benches.workload import load_labels, load_short_tickets, load_summary_prompts, load_tickets
from bot.engine.engine import LlamaEngine
from bot.engine.factory import build_engine
from bot.engine.llama import LlamaModel
from bot.engine.protocol import GenerateRequest, ScoreRequest
from bot.engine.settings import EngineSettings
from bot.tasks.summary import SummaryPrompt
from db.types import MaskedText, TaskKind

CONCURRENCY: Final = 8
MAX_TOKENS: Final = 400
OURS: Final = "classification_tickets_per_s"
SERVER: Final = "classification_tickets_per_s_llama_server"
FORCED: Final = "classification_tickets_per_s_llama_server_forced"
PYTHON: Final = "classification_tickets_per_s_llama_cpp_python_server"


class Tokens:
    """Counts tokens with the model's own vocabulary."""

    def __init__(self, path: Path) -> None:
        self._model = LlamaModel(path)

    def count(self, text: str) -> int:
        """Return how many tokens a text has by itself."""
        return len(self.read(text))

    def read(self, text: str) -> list[int]:
        """Return a text's tokens."""
        return self._model.tokenize(text, add_special=False)

    def close(self) -> None:
        """Free the model."""
        self._model.close()


@dataclass(frozen=True)
class _Sides:
    peaked: LlamaEngine
    flat: LlamaEngine
    server: HTTPClient
    python: HTTPClient
    tokens: Tokens
    model: Path
    tickets: tuple[MaskedText, ...]
    short: tuple[MaskedText, ...]
    prompts: tuple[SummaryPrompt, ...]


async def bench_decoder(settings: BenchSettings) -> dict[str, Any]:
    """Return the decoder's figures. Raises BenchError where a peer cannot be built."""
    peaked, flat = await asyncio.to_thread(_ensure_models)
    engine_settings = EngineSettings(n_threads=settings.threads)
    engines = [build_engine(path, settings=engine_settings) for path in (peaked, flat)]
    try:
        for engine in engines:
            await engine.start()
            await engine.warm(load_labels().choices)
        with ExitStack() as stack:
            server = HTTPClient(stack.enter_context(start_llama_server(peaked, args=get_server_args(threads=settings.threads))))
            python_args = get_llama_cpp_python_args(threads=settings.threads)
            python = HTTPClient(stack.enter_context(start_llama_cpp_python_server(peaked, args=python_args)))
            tokens = Tokens(peaked)
            stack.callback(tokens.close)
            tickets = _choose_tickets(tokens, load_tickets(2 * settings.decoder_tickets), count=settings.decoder_tickets)
            short = load_short_tickets(settings.decoder_tickets)
            prompts = load_summary_prompts(settings.summaries)
            sides = _Sides(engines[0], engines[1], server, python, tokens, peaked, tickets, short, prompts)
            figures = await _compare(sides, settings=settings)
            await server.close()
            await python.close()
            return figures
    finally:
        for engine in engines:
            await engine.stop()


def _ensure_models() -> tuple[Path, Path]:
    return ensure_decoder(QWEN_05B, sharpness=PEAKED), ensure_decoder(QWEN_05B, sharpness=FLAT)


def _choose_tickets(tokens: Tokens, texts: Sequence[MaskedText], *, count: int) -> tuple[MaskedText, ...]:
    """Return tickets that no side has to cut."""
    return tuple([text for text in texts if tokens.count(text) <= MAX_TOKENS][:count])


async def _compare(sides: _Sides, *, settings: BenchSettings) -> dict[str, Any]:
    samples = Samples()
    counts = await _warm_up(sides)
    for _ in range(settings.decoder_rounds):
        await _measure_labels(sides, samples, settings=settings)
        await _measure_summaries(sides, samples, settings=settings)
    figures = _collect(sides, samples)
    return figures | counts | await _measure_latencies(sides, settings=settings)


async def _warm_up(sides: _Sides) -> dict[str, Any]:
    """Let every side read the label list once; return what the comparison rests on."""
    choices = load_labels().choices
    few = sides.tickets[:CONCURRENCY]
    best: dict[str, list[float]] = {"peaked": [], "flat": []}
    for name, engine in (("peaked", sides.peaked), ("flat", sides.flat)):
        for text in few:
            scores = await engine.score(ScoreRequest(task=TaskKind.CLASSIFICATION, choices=choices, text=text))
            best[name].append(float(scores.probabilities.max()))
    await _run_server(sides, few, forced=False)
    await _run_python(sides, few[:2])
    labels = [sides.tokens.count(answer) for answer in choices.answers]
    return {
        "label_source": load_labels().source,
        "n_labels": len(labels),
        "label_tokens_mean": sum(labels) / len(labels),
        "prefix_tokens": sides.tokens.count(choices.prefix),
        "mean_best_probability_peaked": sum(best["peaked"]) / len(few),
        "mean_best_probability_flat": sum(best["flat"]) / len(few),
    }


async def _measure_labels(sides: _Sides, samples: Samples, *, settings: BenchSettings) -> None:
    await _run_server(
        sides, sides.tickets[:CONCURRENCY], forced=False
    )  # its slots have forgotten the label list over the summaries
    samples.add(OURS, (await _run_engine(sides.peaked, sides.tickets)).per_second)
    server = await _run_server(sides, sides.tickets, forced=False)
    samples.add(SERVER, server.per_second)
    samples.add("label_tokens_written_llama_server", server.counted / len(sides.tickets))
    samples.add(f"{OURS}_flat", (await _run_engine(sides.flat, sides.tickets)).per_second)
    forced = await _run_server(sides, sides.tickets, forced=True)
    samples.add(FORCED, forced.per_second)
    samples.add("label_tokens_written_llama_server_forced", forced.counted / len(sides.tickets))
    samples.add("prefill_tokens_per_s_llama_bench", await measure_prefill(sides.model, threads=settings.threads))
    samples.add(PYTHON, (await _run_python(sides, sides.tickets[: settings.python_tickets])).per_second)
    if sides.short:
        samples.add(f"{OURS}_short", (await _run_engine(sides.peaked, sides.short)).per_second)
        samples.add(f"{SERVER}_short", (await _run_server(sides, sides.short, forced=True)).per_second)
        samples.add(f"{PYTHON}_short", (await _run_python(sides, sides.short[: settings.python_tickets])).per_second)


async def _run_engine(engine: LlamaEngine, tickets: Sequence[MaskedText], *, concurrency: int = CONCURRENCY) -> Load:
    choices = load_labels().choices

    async def ask(number: int) -> int:
        return (await engine.score(ScoreRequest(task=TaskKind.CLASSIFICATION, choices=choices, text=tickets[number]))).n_tokens

    return await run_clients(ask, len(tickets), concurrency=concurrency)


async def _run_server(sides: _Sides, tickets: Sequence[MaskedText], *, forced: bool, concurrency: int = CONCURRENCY) -> Load:
    """Run llama-server with all labels in the grammar, or (`forced`) with the one answer that it then has to write."""
    choices = load_labels().choices
    answers = [sides.tokens.read(answer) for answer in choices.answers]
    every = build_grammar(answers)

    async def ask(number: int) -> int:
        grammar = build_grammar([answers[number % len(answers)]]) if forced else every
        return await ask_server(sides.server, choices, tickets[number], grammar=grammar)

    return await run_clients(ask, len(tickets), concurrency=concurrency)


async def _run_python(sides: _Sides, tickets: Sequence[MaskedText]) -> Load:
    choices = load_labels().choices
    grammar = build_grammar([sides.tokens.read(answer) for answer in choices.answers])
    return await run_clients(
        lambda n: ask_llama_cpp_python(sides.python, choices, tickets[n], grammar=grammar), len(tickets), concurrency=CONCURRENCY
    )


async def _measure_summaries(sides: _Sides, samples: Samples, *, settings: BenchSettings) -> None:
    n_tokens = settings.summary_tokens

    async def ask(number: int) -> int:
        prompt = sides.prompts[number]
        request = GenerateRequest(
            task=TaskKind.SUMMARY,
            key=prompt.key,
            prefix=prompt.prefix,
            text=prompt.text,
            suffix=prompt.suffix,
            max_tokens=n_tokens,
            stop=(),
        )
        n_prompt = sum(map(sides.tokens.count, (prompt.prefix, prompt.text, prompt.suffix)))
        async for chunk in sides.flat.generate(request):
            if chunk.is_last:
                return chunk.n_tokens - n_prompt
        return 0

    load = await run_clients(ask, len(sides.prompts), concurrency=CONCURRENCY)
    samples.add("summary_tokens_per_s", load.counted_per_second)
    whole = [f"{prompt.prefix}{prompt.text}{prompt.suffix}" for prompt in sides.prompts]
    load = await run_clients(
        lambda n: ask_summary(sides.server, whole[n], n_tokens=n_tokens), len(whole), concurrency=CONCURRENCY
    )
    samples.add("summary_tokens_per_s_llama_server", load.counted_per_second)


async def _measure_latencies(sides: _Sides, *, settings: BenchSettings) -> dict[str, Any]:
    names = ("p50_ms", "p99_ms", "p50_ms_llama_server", "p99_ms_llama_server")
    found: dict[str, dict[str, float]] = {f"classification_{name}": {} for name in names}
    await _run_server(sides, sides.tickets[:CONCURRENCY], forced=False)
    for concurrency in settings.concurrencies:
        tickets = sides.tickets if concurrency > 1 else sides.tickets[: max(8, len(sides.tickets) // 2)]
        ours = await _run_engine(sides.peaked, tickets, concurrency=concurrency)
        theirs = await _run_server(sides, tickets, forced=False, concurrency=concurrency)
        for name, load in (("ms", ours), ("ms_llama_server", theirs)):
            found[f"classification_p50_{name}"][str(concurrency)] = load.percentile_ms(50)
            found[f"classification_p99_{name}"][str(concurrency)] = load.percentile_ms(99)
    return {**found, "p50_ms": found["classification_p50_ms"], "p99_ms": found["classification_p99_ms"]}


def _collect(sides: _Sides, samples: Samples) -> dict[str, Any]:
    medians = samples.medians()
    # the server is taken at its better: choosing among all labels, or told the answer
    best_server = max((SERVER, FORCED), key=medians.__getitem__)
    suffix = sides.tokens.count(load_labels().choices.suffix)
    own_tokens = sum(map(sides.tokens.count, sides.tickets)) / len(sides.tickets) + suffix
    figures: dict[str, Any] = dict(medians)
    figures |= {
        "ratio_vs_llama_server": samples.ratio(OURS, best_server),
        "ratio_vs_llama_server_flat": samples.ratio(f"{OURS}_flat", best_server),
        "ratio_vs_llama_server_by": "all labels in the grammar" if best_server == SERVER else "one forced label",
        "ratio_vs_llama_cpp_python_server": samples.ratio(OURS, PYTHON),
        "ticket_tokens_mean": own_tokens,
        "ticket_tokens_per_s": medians[OURS] * own_tokens,
        "prefill_limit_fraction": samples.ratio(OURS, "prefill_tokens_per_s_llama_bench") * own_tokens,
        "prefill_limit_fraction_flat": samples.ratio(f"{OURS}_flat", "prefill_tokens_per_s_llama_bench") * own_tokens,
        "summary_ratio_vs_llama_server": samples.ratio("summary_tokens_per_s", "summary_tokens_per_s_llama_server"),
        "decoder_runs": samples.runs(),
    }
    if sides.short:
        short_tokens = sum(map(sides.tokens.count, sides.short)) / len(sides.short) + suffix
        figures["ratio_vs_llama_server_short"] = samples.ratio(f"{OURS}_short", f"{SERVER}_short")
        figures["ratio_vs_llama_cpp_python_server_short"] = samples.ratio(f"{OURS}_short", f"{PYTHON}_short")
        figures["ticket_tokens_mean_short"] = short_tokens
        limit = samples.ratio(f"{OURS}_short", "prefill_tokens_per_s_llama_bench")
        figures["prefill_limit_fraction_short"] = limit * short_tokens
    return figures
