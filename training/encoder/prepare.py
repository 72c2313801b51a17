"""Checks examples and turns them into arrays; chooses which of them calibration is fitted on.

Pure functions of examples; knows neither model nor files. Errors never quote a text.
"""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from bot.types import Label
from training.encoder.linear import Bool, Int, Targets
from training.encoder.settings import EncoderSettings
from training.encoder.types import TrainExample, TrainingDataError

MIN_FOR_HOLDOUT: Final = 16
PEAK_RATE: Final = 2e-3
ENOUGH_PER_LABEL: Final = 30
"""Examples per label from which the full rate is used; measured, see docs/training-study.md."""
MAX_HOLDOUT: Final = 400
MANY: Final = 2_000
ENOUGH_GIVEN: Final = 150


@dataclass(frozen=True)
class Prepared:
    """Examples as arrays, in the order given. `is_absent[j]` marks labels that no example is labelled with."""

    names: tuple[str, ...]
    texts: tuple[str, ...]
    targets: Targets
    is_absent: Bool
    learnt: Int
    """Rows that the first stage learns from."""
    held_out: Int
    """Rows that calibration is fitted on before they are learnt from too."""


def prepare(examples: Sequence[TrainExample], labels: Sequence[Label], settings: EncoderSettings) -> Prepared:
    """Check and convert. Raises TrainingDataError."""
    names = tuple(label.name for label in labels)
    place_of = {name: place for place, name in enumerate(names)}
    if not names:
        raise TrainingDataError("the label set is empty; add labels before training")
    if len(place_of) != len(names):
        raise TrainingDataError("two labels of the label set have the same name; rename one")
    for number, example in enumerate(examples):
        if example.label not in place_of:
            raise TrainingDataError(f"example {number} has the label '{example.label}', which is not in the label set")
        if not math.isfinite(example.weight) or example.weight < 0.0:
            raise TrainingDataError(f"example {number} has the weight {example.weight}; weights are numbers from 0 up")
    used = [example for example in examples if example.weight > 0.0]
    if not any(not example.is_negative for example in used):
        raise TrainingDataError("no example has both a label and a weight above 0; there is nothing to learn from")
    weight = np.array([example.weight for example in used], np.float64)
    targets = Targets(
        label=np.array([place_of[example.label] for example in used], np.int64),
        weight=weight / weight.mean(),
        is_negative=np.array([example.is_negative for example in used], bool),
    )
    seen = np.unique(targets.label[~targets.is_negative])
    is_absent = ~np.isin(np.arange(len(names)), seen)
    given = np.array([example.split == "validation" for example in used], bool)
    held_out = choose_holdout(targets, given, settings)
    learnt = np.setdiff1d(np.arange(len(used)), held_out)
    return Prepared(names, tuple(example.text for example in used), targets, is_absent, learnt, held_out)


def choose_holdout(targets: Targets, given: Bool, settings: EncoderSettings) -> Int:
    """Return the rows kept for calibration: those given for it, filled up from the others where they are few, label by label.

    A label always keeps most of its examples, and at least one; "not this" examples are never held out.
    """
    n = len(targets)
    usable = ~targets.is_negative
    fixed = np.flatnonzero(given & usable)
    n_usable = int(usable.sum())
    wanted = min(int(settings.holdout * n_usable), MAX_HOLDOUT)
    if n_usable < MIN_FOR_HOLDOUT:
        return np.empty(0, np.int64)
    fixed = _leave_one(fixed, targets, usable)
    if len(fixed) >= min(wanted, ENOUGH_GIVEN):
        return fixed
    left = np.bincount(targets.label[usable], minlength=int(targets.label.max()) + 1)
    floor = np.maximum(1, np.ceil((1.0 - 1.5 * wanted / n_usable) * left)).astype(np.int64)
    np.subtract.at(left, targets.label[fixed], 1)
    chosen = list(fixed)
    for row in np.random.default_rng(settings.seed).permutation(n):
        label = targets.label[row]
        if len(chosen) < wanted and usable[row] and not given[row] and left[label] > floor[label]:
            chosen.append(row)
            left[label] -= 1
    return np.sort(np.array(chosen, np.int64))


def _leave_one(fixed: Int, targets: Targets, usable: Bool) -> Int:
    """Drop from the held-out rows the first one of each label that has no other example."""
    others = np.setdiff1d(np.flatnonzero(usable), fixed)
    seen = set(targets.label[others].tolist())
    kept = []
    for row in fixed:
        label = int(targets.label[row])
        if label in seen:
            kept.append(int(row))
        seen.add(label)
    return np.array(kept, np.int64)


def choose_epochs(n: int, settings: EncoderSettings) -> int:
    """Return how often `n` examples are gone through: more often where they are few."""
    if settings.epochs is not None:
        return settings.epochs
    return int(np.clip(round(1600 / max(n, 1)), 3 if n < MANY else 2, 10))


def choose_rate(prepared: Prepared, settings: EncoderSettings) -> float:
    """Return the peak learning rate of the LoRA matrices: gentler where a label has few examples."""
    if settings.learning_rate is not None:
        return settings.learning_rate
    n_seen = max(int((~prepared.is_absent).sum()), 1)
    per_label = len(prepared.texts) / n_seen
    return PEAK_RATE * float(np.clip(per_label / ENOUGH_PER_LABEL, 0.25, 1.0))


def compute_fingerprint(prepared: Prepared, *, base_digest: str, settings: EncoderSettings) -> str:
    """Return a digest of all that decides the outcome, so that a checkpoint of something else is never gone on with."""
    free = {"threads", "checkpoint_seconds", "max_seconds"}
    hasher = hashlib.sha256(json.dumps([base_digest, prepared.names, settings.model_dump(exclude=free)]).encode())
    for text in prepared.texts:
        hasher.update(hashlib.sha256(text.encode("utf-8", "replace")).digest())
    for array in (prepared.targets.label, prepared.targets.weight, prepared.targets.is_negative, prepared.held_out):
        hasher.update(np.ascontiguousarray(array).tobytes())
    return hasher.hexdigest()
