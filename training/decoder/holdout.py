"""Chooses which examples a decoder's calibration is fitted on; a decoder does not learn from them, so they are few.

Pure functions of prepared examples; knows neither model nor prompts.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np

from training.encoder.linear import Int
from training.encoder.prepare import Part, Prepared
from training.encoder.types import TrainExample

MIN_FOR_HOLDOUT: Final = 16
MAX_HOLDOUT: Final = 400


def choose_holdout(prepared: Prepared, examples: Sequence[TrainExample], *, share: float, seed: int) -> Part:
    """Return what is learnt from and what is held out: the examples given for validation, filled up to `share` where they are fewer.

    `examples` are those that `prepared` was made of. Every label keeps at least one example to learn from; "not this" examples are
    never held out.
    """
    targets = prepared.targets
    everything = np.arange(len(targets))
    usable = np.flatnonzero(~targets.is_negative)
    if len(usable) < MIN_FOR_HOLDOUT:
        return Part(everything, np.empty(0, np.int64))
    is_given = np.array([example.split == "validation" for example in examples if example.weight > 0.0], bool)
    wanted = max(int(is_given[usable].sum()), min(int(share * len(usable)), MAX_HOLDOUT))
    held_out = _pick(np.random.default_rng(seed).permutation(usable), is_given, targets.label, wanted=wanted)
    return Part(np.setdiff1d(everything, held_out), held_out)


def _pick(mixed: Int, is_given: np.ndarray[tuple[int, ...], np.dtype[np.bool_]], label: Int, *, wanted: int) -> Int:
    left = np.bincount(label[mixed])
    chosen: list[int] = []
    for row in sorted(mixed.tolist(), key=lambda row: not is_given[row]):  # stable: the others stay mixed
        if len(chosen) < wanted and left[label[row]] > 1:
            chosen.append(row)
            left[label[row]] -= 1
    return np.sort(np.array(chosen, np.int64))
