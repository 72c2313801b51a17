"""How good answers are: accuracy, macro-F1, calibration, coverage, paired tests, and word overlap of summaries. Plain numpy.

Pure functions; what the gate already measures (`bot.tasks.measures`) and the summaries' overlap (`bot.tasks.scoring`) are used from there.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bot.tasks.measures import N_BINS, BoolArray, FloatArray, IntArray, compute_ece, compute_macro_f1, compute_paired_interval
from bot.tasks.scoring import rouge_l, unigram_f1

__all__ = [
    "N_BINS",
    "compute_accuracy",
    "compute_coverage",
    "compute_expected_calibration_error",
    "compute_gain",
    "compute_macro_f1",
    "compute_mcnemar",
    "compute_overlap",
    "rouge_l",
    "unigram_f1",
]


def compute_accuracy(gold: IntArray, predicted: IntArray) -> float:
    """Return the share of equal entries; 0 for none."""
    return float((gold == predicted).mean()) if len(gold) else 0.0


def compute_expected_calibration_error(probabilities: NDArray[np.floating], gold: IntArray) -> float:
    """Return the expected calibration error of the best label over 15 bins of equal width; `probabilities` (n, n_labels)."""
    if len(gold) == 0:
        return 0.0
    confidence: FloatArray = np.asarray(probabilities, np.float64).max(axis=1)
    return compute_ece(confidence, np.asarray(probabilities).argmax(axis=1) == gold)


def compute_gain(before: BoolArray, after: BoolArray, *, confidence: float = 0.95, seed: int = 0) -> tuple[float, float, float]:
    """Return (difference of accuracies, lower, upper): a paired bootstrap over the same tickets, `after` minus `before`."""
    return compute_paired_interval(before.astype(np.float64), after.astype(np.float64), confidence=confidence, seed=seed)


def compute_mcnemar(before: BoolArray, after: BoolArray) -> float:
    """Return the exact two-sided p-value that both answer equally often right, from the tickets on which they differ."""
    wins, losses = int((after & ~before).sum()), int((before & ~after).sum())
    n = wins + losses
    if n == 0:
        return 1.0
    fewest = min(wins, losses)
    logs = [math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) - n * math.log(2.0) for k in range(fewest + 1)]
    return float(min(1.0, 2.0 * sum(math.exp(value) for value in logs)))


def compute_coverage(probabilities: NDArray[np.floating], gold: IntArray, *, accuracy: float) -> float:
    """Return the largest share of tickets, most confident first, that is answered with at least this accuracy."""
    if len(gold) == 0:
        return 0.0
    order = np.argsort(-np.asarray(probabilities).max(axis=1), kind="stable")
    right = (np.asarray(probabilities).argmax(axis=1) == gold)[order]
    running = np.cumsum(right) / np.arange(1, len(gold) + 1)
    enough = np.flatnonzero(running >= accuracy)
    return float((enough[-1] + 1) / len(gold)) if len(enough) else 0.0


def compute_overlap(texts: Sequence[str], references: Sequence[str]) -> tuple[float, float]:
    """Return mean unigram F1 and mean ROUGE-L of summaries against references; zeros for none."""
    if not texts:
        return 0.0, 0.0
    pairs = list(zip(texts, references, strict=True))
    return float(np.mean([unigram_f1(*pair) for pair in pairs])), float(np.mean([rouge_l(*pair) for pair in pairs]))
