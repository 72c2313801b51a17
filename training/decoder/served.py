"""The adapter as it will be served: its probe, proof and raw answers, all from the engine itself.

Knows bundle directories and engines; not tensors of torch, nor how a calibration is fitted.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from bot.bundle import CALIBRATION_FILE, MANIFEST_FILE, PROBE_FILE, Calibration, Manifest, Probe, write_json
from bot.engine.decoder_answers import NULL_TICKETS
from bot.engine.factory import build_engine
from bot.engine.protocol import ChoiceSet, Engine, FloatArray, Priority, ScoreRequest
from bot.engine.settings import EngineSettings
from db.types import MaskedText, TaskKind
from training.decoder.settings import DecoderSettings

PROBE_SHARE: Final = 0.25
"""Part of what the adapter changes that a probe may be off by elsewhere; rounding differs between processors."""
MIN_TOLERANCE: Final = 0.02
MAX_TOLERANCE: Final = 0.25
_CHUNK: Final = 64
_TINY: Final = 1e-30


@dataclass(frozen=True)
class Served:
    """Raw log-probabilities of the texts asked for, shape (n, n_labels), and the null tickets' log mean, shape (n_labels,)."""

    log_probabilities: FloatArray
    prior: FloatArray


def finish_bundle(
    base: Path,
    directory: Path,
    manifest: Manifest,
    *,
    probe_texts: Sequence[str],
    choices: ChoiceSet | None,
    texts: Sequence[MaskedText],
    settings: DecoderSettings,
    on_step: Callable[[int, int], None],
) -> Served | None:
    """Write manifest, neutral calibration and measured probe beside `adapter.gguf`, prove the bundle, and return its raw answers.

    None without `choices`. Raises AdapterError where the adapter is not applied, EngineError, and what `on_step` raises.
    """
    work = _Work(directory, manifest, tuple(probe_texts), choices, tuple(texts), on_step)
    return asyncio.run(_finish(base, work, settings))


@dataclass(frozen=True)
class _Work:
    directory: Path
    manifest: Manifest
    probe_texts: tuple[str, ...]
    choices: ChoiceSet | None
    texts: tuple[MaskedText, ...]
    on_step: Callable[[int, int], None]


async def _finish(base: Path, work: _Work, settings: DecoderSettings) -> Served | None:
    directory, choices, texts = work.directory, work.choices, work.texts
    engine = build_engine(
        base,
        settings=EngineSettings(
            n_threads=settings.threads, n_ctx=settings.n_ctx, decoder_text_tokens=settings.text_tokens, label_top_k=0
        ),
    )
    await engine.start()
    try:
        probe = await engine.build_probe(directory, work.manifest, texts=work.probe_texts)
        write_json(directory / PROBE_FILE, _choose_tolerance(probe))
        write_json(directory / MANIFEST_FILE, work.manifest)
        write_json(directory / CALIBRATION_FILE, Calibration())  # neutral: what is asked for now are raw answers
        digest = await engine.load(directory)
        if choices is None:
            return None
        null = np.exp(await _score(engine, choices, [MaskedText(text) for text in NULL_TICKETS], digest))
        rows = [np.empty((0, len(choices.names)), np.float32)]
        for start in range(0, len(texts), _CHUNK):
            rows.append(await _score(engine, choices, texts[start : start + _CHUNK], digest))
            work.on_step(min(start + _CHUNK, len(texts)), len(texts))
        return Served(np.concatenate(rows), np.log(np.maximum(null.mean(axis=0), _TINY)).astype(np.float32))
    finally:
        await engine.stop()


async def _score(engine: Engine, choices: ChoiceSet, texts: Sequence[MaskedText], digest: str) -> FloatArray:
    requests = [ScoreRequest(TaskKind.CLASSIFICATION, choices, text, priority=Priority.BULK, adapter=digest) for text in texts]
    answered = await asyncio.gather(*(engine.score(request) for request in requests))
    return np.log(np.maximum(np.stack([scores.probabilities for scores in answered]), _TINY))


def _choose_tolerance(probe: Probe) -> Probe:
    """Allow a probe as much as leaves no doubt that the adapter is applied."""
    change = float(np.abs(np.asarray(probe.expected) - np.asarray(probe.base)).max())
    tolerance = float(np.clip(PROBE_SHARE * change, MIN_TOLERANCE, MAX_TOLERANCE))
    return probe.model_copy(update={"tolerance": round(tolerance, 4)})
