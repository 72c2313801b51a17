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

MIN_FOR_TRIALS: Final = 16
PEAK_RATE: Final = 2e-3
ENOUGH_PER_LABEL: Final = 30
"""Examples per label from which the full rate is used; measured, see docs/training-study.md."""
MANY: Final = 2_000
"""Usable examples from which one held-out part is enough."""
HELD_OUT_OF_MANY: Final = 400
ENOUGH_GIVEN: Final = 150


@dataclass(frozen=True)
class Part:
    """One trial run: the rows it learns from, and those whose answers it is calibrated on."""

    learnt: Int
    held_out: Int


@dataclass(frozen=True)
class Prepared:
    """Examples as arrays, in the order given. `is_absent[j]` marks labels that no example is labelled with."""

    names: tuple[str, ...]
    texts: tuple[str, ...]
    targets: Targets
    is_absent: Bool
    parts: tuple[Part, ...]


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
    parts = choose_parts(targets, given, settings)
    return Prepared(names, tuple(example.text for example in used), targets, is_absent, parts)


def choose_parts(targets: Targets, given: Bool, settings: EncoderSettings) -> tuple[Part, ...]:
    """Return the trial runs that calibration rests on; none where there are too few examples.

    The examples given for validation are held out where they are enough; of very many, some; otherwise each fold in turn, so that every
    example gets an answer from a model that has not learnt from it. "Not this" examples are never held out.
    """
    everything = np.arange(len(targets))
    usable = np.flatnonzero(~targets.is_negative)
    if len(usable) < MIN_FOR_TRIALS:
        return ()
    fixed = np.intersect1d(usable, np.flatnonzero(given))
    mixed = np.random.default_rng(settings.seed).permutation(usable)
    if ENOUGH_GIVEN <= len(fixed) < len(usable):
        held_out = [fixed]
    elif len(usable) > MANY:
        held_out = [np.sort(mixed[:HELD_OUT_OF_MANY])]
    else:
        by_label = mixed[np.argsort(targets.label[mixed], kind="stable")]  # dealt out in turn, each label is spread evenly
        held_out = [np.sort(by_label[fold :: settings.folds]) for fold in range(settings.folds)]
    return tuple(Part(np.setdiff1d(everything, rows), rows) for rows in held_out)


def _compute_gentleness(prepared: Prepared) -> float:
    """Return by how much steps are smaller than usual, in (0, 1]: labels with few examples are forgotten at the full rate."""
    n_seen = max(int((~prepared.is_absent).sum()), 1)
    return float(np.clip(len(prepared.texts) / n_seen / ENOUGH_PER_LABEL, 0.25, 1.0))


def choose_rate(prepared: Prepared, settings: EncoderSettings) -> float:
    """Return the peak learning rate of the LoRA matrices: gentler where a label has few examples."""
    return settings.learning_rate or PEAK_RATE * _compute_gentleness(prepared)


def choose_epochs(prepared: Prepared, settings: EncoderSettings) -> int:
    """Return how often the examples are gone through: more often where they are few, or the steps gentle."""
    if settings.epochs is not None:
        return settings.epochs
    n = len(prepared.texts)
    epochs = float(np.clip(1600 / n, 3 if n <= MANY else 2, 10))
    return min(round(epochs / math.sqrt(_compute_gentleness(prepared))), 10)


def compute_fingerprint(prepared: Prepared, *, base_digest: str, settings: EncoderSettings) -> str:
    """Return a digest of all that decides the outcome, so that a checkpoint of something else is never gone on with."""
    free = {"threads", "checkpoint_seconds", "max_seconds"}
    hasher = hashlib.sha256(json.dumps([base_digest, prepared.names, settings.model_dump(exclude=free)]).encode())
    for text in prepared.texts:
        hasher.update(hashlib.sha256(text.encode("utf-8", "replace")).digest())
    arrays = [prepared.targets.label, prepared.targets.weight, prepared.targets.is_negative]
    for array in (*arrays, *(part.held_out for part in prepared.parts)):
        hasher.update(np.ascontiguousarray(array).tobytes())
    return hasher.hexdigest()
