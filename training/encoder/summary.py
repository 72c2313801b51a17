"""Trains the head that picks the most telling lines of a ticket, from summaries that people accepted or wrote.

Within one ticket, the lines that cover the summary best are to rank above all others. Embeddings are the bare base's, so the bundle holds
a head and no LoRA weights.
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from bot.bundle import CALIBRATION_FILE, MANIFEST_FILE, PROBE_FILE, Calibration, Manifest, Probe, hash_file, write_json
from bot.engine.protocol import FloatArray
from bot.engine.turns import FEATURES, TurnHead, compute_features
from bot.tasks.scoring import rouge_l, unigram_f1
from bot.tasks.summary import MAX_EXCERPT_UNITS, Unit, split_units
from db.types import ModelKind, TaskKind
from training.encoder.finish import BUNDLE_DIR
from training.encoder.served import ServedEncoder
from training.encoder.settings import EncoderSettings
from training.encoder.types import (
    CancelledError,
    OnProgress,
    Progress,
    RunInfo,
    ShouldStop,
    SummaryExample,
    TrainingDataError,
)

PRIOR_STRENGTH: Final = 0.5
"""How hard the untrained weights hold: a handful of edits must not undo them. Measured, see training/LOG.md."""
DIRECTION_STRENGTH: Final = 1.0
"""The same for the direction in the embeddings, which begins at nothing."""
MARGIN: Final = 1.0
"""By how much a kept line's score is to exceed that of one left out."""
PROBE_TOLERANCE: Final = 0.1
"""Scores are sums of weights of a few units, not probabilities."""
PROBE_TEXTS: Final = (
    "Hello there\nMy order has not arrived and I would like to know where it is\nIt was sent on Monday to the old address\nThank you",
    "I cannot log in to the portal since the update\nWhich browser do you use?\nThe same error appears in all of them",
)


@dataclass(frozen=True)
class _Ticket:
    """Features of the lines kept and of those left out, shapes (n_kept, n_features) and (n_left, n_features)."""

    kept: NDArray[np.float64]
    left: NDArray[np.float64]
    weight: float


def choose_units(units: Sequence[Unit], summary: str, *, max_units: int = MAX_EXCERPT_UNITS) -> tuple[int, ...]:
    """Return the units that together cover a summary best (unigram F1 plus ROUGE-L), found greedily; none where nothing overlaps."""
    picked: list[int] = []
    best = 0.0
    while len(picked) < min(max_units, len(units)):
        scores = {
            place: _overlap(" ".join(units[at].text for at in sorted([*picked, place])), summary)
            for place in range(len(units))
            if place not in picked
        }
        place = max(scores, key=lambda key: scores[key])
        if scores[place] <= best:
            break
        best = scores[place]
        picked.append(place)
    return tuple(sorted(picked))


def _overlap(text: str, summary: str) -> float:
    return unigram_f1(text, summary) + rouge_l(text, summary)


def fit_turn_head(tickets: Sequence[tuple[FloatArray, tuple[int, ...], float]]) -> TurnHead:
    """Fit the weights on (columns, chosen units, weight) per ticket: each chosen unit above each other one, drawn to the default head.

    The columns are the units' features, followed by their embeddings.
    """
    start = np.zeros(tickets[0][0].shape[1] if tickets else len(FEATURES))
    start[: len(FEATURES)] = TurnHead.default().weight
    strength = np.full(len(start), DIRECTION_STRENGTH)
    strength[: len(FEATURES)] = PRIOR_STRENGTH
    used = [
        _part(np.asarray(features, np.float64), chosen, weight)
        for features, chosen, weight in tickets
        if chosen and len(features) > len(chosen) and weight > 0.0
    ]
    if not used:
        raise TrainingDataError(
            "no summary shares words with a part of its ticket; there is nothing to learn which lines to show from"
        )

    def evaluate(weight: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        away = weight - start
        loss, gradient = 0.5 * float((strength * away) @ away), strength * away
        for ticket in used:
            own, by_weight = _rank(ticket, weight)
            loss, gradient = loss + own, gradient + by_weight
        return loss, gradient

    found = minimize(evaluate, start, jac=True, method="L-BFGS-B", options={"maxiter": 300})
    weight = np.asarray(found.x, np.float32)
    return TurnHead(weight[: len(FEATURES)], weight[len(FEATURES) :] if len(weight) > len(FEATURES) else None)


def _part(features: NDArray[np.float64], chosen: tuple[int, ...], weight: float) -> _Ticket:
    is_kept = np.isin(np.arange(len(features)), chosen)
    return _Ticket(features[is_kept], features[~is_kept], weight)


def _rank(ticket: _Ticket, weight: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
    """Return the ticket's mean squared shortfall over all pairs of a kept and a left-out line, halved, and its gradient."""
    ahead = (ticket.kept @ weight)[:, None] - (ticket.left @ weight)[None]
    short = np.maximum(0.0, MARGIN - ahead)
    share = ticket.weight / short.size
    gradient = share * (short.sum(axis=0) @ ticket.left - short.sum(axis=1) @ ticket.kept)
    return 0.5 * share * float((short * short).sum()), gradient


def build_ticket(served: ServedEncoder, example: SummaryExample) -> tuple[FloatArray, tuple[int, ...], float]:
    """Return columns (features and embeddings), chosen units and weight of one example."""
    units = split_units(example.text, example.turns)
    texts = [unit.text for unit in units]
    embeddings = served.embed(texts)
    features = compute_features(embeddings, [unit.is_customer for unit in units], texts)
    return np.concatenate([features, embeddings], axis=1), choose_units(units, example.summary), example.weight


def train_turn_head(
    examples: Sequence[SummaryExample],
    *,
    base_gguf: Path,
    settings: EncoderSettings,
    checkpoint_dir: Path,
    on_progress: OnProgress,
    should_stop: ShouldStop,
    run: RunInfo,
) -> Path:
    """Train and return the directory with the bundle's files. Raises TrainingDataError or CancelledError.

    It takes seconds, so a killed run starts again instead of going on.
    """
    if any(not np.isfinite(example.weight) or example.weight < 0.0 for example in examples):
        raise TrainingDataError("a summary example has a weight that is no number from 0 up")
    with ServedEncoder(
        base_gguf, text_tokens=settings.text_tokens, n_threads=settings.threads, merge_limit_mib=settings.merge_limit_mib
    ) as served:
        tickets = []
        for number, example in enumerate(examples, start=1):
            tickets.append(build_ticket(served, example))
            on_progress(Progress("reading summaries", number, len(examples)))
            if should_stop():
                raise CancelledError("the training was cancelled")
        head = fit_turn_head(tickets)
        probe = _build_probe(served.embed, head)
    directory = checkpoint_dir / BUNDLE_DIR
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    head.save(directory)
    write_json(directory / CALIBRATION_FILE, Calibration())
    write_json(directory / PROBE_FILE, probe)
    manifest = Manifest(
        task=TaskKind.SUMMARY,
        model_kind=ModelKind.ENCODER,
        base_digest=hash_file(base_gguf),
        prompt_version=run.prompt_version,
        run_id=run.run_id,
        data_digest=run.data_digest,
        n_train=len(examples),
        created_at=datetime.now(UTC),
    )
    write_json(directory / MANIFEST_FILE, manifest)
    on_progress(Progress("done", 1, 1))
    return directory


def _build_probe(embed: Callable[[Sequence[str]], FloatArray], head: TurnHead) -> Probe:
    rows = []
    for text in PROBE_TEXTS:
        lines = text.split("\n")
        rows.append(tuple(float(score) for score in head.scores(embed(lines), [True] * len(lines), lines)))
    return Probe(texts=PROBE_TEXTS, expected=tuple(rows), base=tuple(rows), tolerance=PROBE_TOLERANCE)
