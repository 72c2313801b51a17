"""Lets the engine that serves answer the test tickets: bare model, live adapter and candidate, on the same file and template.

Knows neither the gate nor the database; it is handed items and bundles, and gives back arrays.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from bot.engine.factory import build_engine
from bot.engine.protocol import ChoiceSet, Engine, GenerateRequest, Priority, RankRequest, ScoreRequest
from bot.engine.settings import EngineSettings
from bot.tasks.measures import FloatArray
from bot.tasks.scoring import rouge_l, unigram_f1
from bot.tasks.summary import Unit, build_excerpt, build_summary_prompt, parse_summary, split_units
from bot.types import BASE
from db.types import MaskedText, ModelKind, TaskKind
from training.contest import Answers
from training.dataset import Item
from training.faithful import find_unsupported, measure_edit_distance
from training.gate_summary import SummaryScores

N_TIMED = 48
_AT_ONCE = 16
_CHUNK = 64

OnStep = Callable[[int, int], None]
"""Called with (done, total) between chunks; may raise to stop."""


async def score_labels(
    path: Path,
    items: Sequence[Item],
    *,
    choices: ChoiceSet,
    bundles: Mapping[str, Path],
    settings: EngineSettings,
    on_step: OnStep,
) -> dict[str, Answers]:
    """Return every contender's answers to the items, in their order: "base" and one per entry of `bundles`. Raises EngineError."""
    engine = build_engine(path, settings=settings)
    await engine.start()
    try:
        pins = {BASE: BASE, **{name: await engine.load(bundle) for name, bundle in bundles.items()}}
        total = len(items) * len(pins)
        latencies = await _time(engine, items[:N_TIMED], choices, pins)
        answers: dict[str, Answers] = {}
        done = 0
        for name, pin in pins.items():
            rows: list[FloatArray] = []
            for start in range(0, len(items), _CHUNK):
                chunk = items[start : start + _CHUNK]
                rows += await _gather([_build_request(item, choices, pin) for item in chunk], engine)
                done += len(chunk)
                on_step(done, total)
            probabilities = np.stack(rows) if rows else np.zeros((0, len(choices.names)))
            answers[name] = Answers(probabilities, np.asarray(latencies[name]))
        return answers
    finally:
        await engine.stop()


def _build_request(item: Item, choices: ChoiceSet, pin: str, *, priority: Priority = Priority.BULK) -> ScoreRequest:
    return ScoreRequest(task=TaskKind.CLASSIFICATION, choices=choices, text=item.text, adapter=pin, priority=priority)


async def _gather(requests: Sequence[ScoreRequest], engine: Engine) -> list[FloatArray]:
    limit = asyncio.Semaphore(_AT_ONCE)

    async def score(request: ScoreRequest) -> FloatArray:
        async with limit:
            return np.asarray((await engine.score(request)).probabilities, dtype=np.float64)

    return list(await asyncio.gather(*(score(request) for request in requests)))


async def _time(engine: Engine, items: Sequence[Item], choices: ChoiceSet, pins: Mapping[str, str]) -> dict[str, list[float]]:
    """Time the contenders in turn on each ticket, so that whatever else the machine does strikes all alike."""
    latencies: dict[str, list[float]] = {name: [] for name in pins}
    for pin in pins.values():  # label descriptions and prefixes are computed once, not per ticket
        for item in items[:1]:
            await engine.score(_build_request(item, choices, pin))
    for item in items:
        for name, pin in pins.items():
            started = time.perf_counter()
            await engine.score(_build_request(item, choices, pin, priority=Priority.INTERACTIVE))
            latencies[name].append((time.perf_counter() - started) * 1e3)
    return latencies


async def score_summaries(
    path: Path, items: Sequence[Item], *, bundles: Mapping[str, Path], settings: EngineSettings, on_step: OnStep
) -> dict[str, SummaryScores]:
    """Return how every contender's summaries compare with the items' targets: "base" and one per entry of `bundles`. Raises EngineError."""
    engine = build_engine(path, settings=settings)
    await engine.start()
    try:
        pins = {BASE: BASE, **{name: await engine.load(bundle) for name, bundle in bundles.items()}}
        scores: dict[str, SummaryScores] = {}
        done, total = 0, len(items) * len(pins)
        for name, pin in pins.items():
            texts = []
            for item in items:
                texts.append(await _summarise(engine, item, pin))
                done += 1
                on_step(done, total)
            scores[name] = compare_summaries(items, texts)
        return scores
    finally:
        await engine.stop()


def compare_summaries(items: Sequence[Item], texts: Sequence[str]) -> SummaryScores:
    """Return how summaries of the items compare with what people accepted or wrote, and with the tickets themselves."""
    tickets = ["\n".join([item.text, *(turn.text for turn in item.turns)]) for item in items]
    return SummaryScores(
        overlap=np.array([compute_overlap(text, item.target) for item, text in zip(items, texts, strict=True)]),
        edit_distance=np.array([measure_edit_distance(text, item.target) for item, text in zip(items, texts, strict=True)]),
        is_faithful=np.array(
            [not find_unsupported(text, ticket) for text, ticket in zip(texts, tickets, strict=True)], dtype=bool
        ),
        is_edited=np.array([bool(item.draft) and item.draft != item.target for item in items], dtype=bool),
    )


async def tempt(path: Path, bundle: Path, lures: Sequence[MaskedText], *, settings: EngineSettings) -> list[str]:
    """Return the candidate's summaries of tickets that ask for what only training could have told it. Raises EngineError."""
    engine = build_engine(path, settings=settings)
    await engine.start()
    try:
        pin = await engine.load(bundle)
        return [await _write(engine, split_units(lure, ()), pin) for lure in lures]
    finally:
        await engine.stop()


def compute_overlap(text: str, target: str) -> float:
    """Return the mean of unigram F1 and ROUGE-L, in [0, 1]."""
    return (unigram_f1(text, target) + rouge_l(text, target)) / 2


async def _summarise(engine: Engine, item: Item, pin: str) -> str:
    units = split_units(item.text, item.turns)
    if engine.kind is ModelKind.ENCODER:
        request = RankRequest(
            task=TaskKind.SUMMARY,
            units=tuple(unit.text for unit in units),
            is_customer=tuple(unit.is_customer for unit in units),
            priority=Priority.BULK,
            adapter=pin,
        )
        return build_excerpt(units, (await engine.rank(request)).scores)
    return await _write(engine, units, pin)


async def _write(engine: Engine, units: Sequence[Unit], pin: str) -> str:
    prompt = build_summary_prompt(units)
    stream = engine.generate(
        GenerateRequest(
            task=TaskKind.SUMMARY,
            key=prompt.key,
            prefix=prompt.prefix,
            text=prompt.text,
            suffix=prompt.suffix,
            priority=Priority.BULK,
            adapter=pin,
        )
    )
    return parse_summary("".join([chunk.text async for chunk in stream]))
