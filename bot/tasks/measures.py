"""The small statistics the gate rests on: paired intervals, an exact sign test, calibration error and what of it chance explains.

Pure functions of arrays; the order of rows never matters, and the same numbers always give the same answer.
"""

import math

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

N_RESAMPLES = 10_000
N_BINS = 15


def compute_paired_interval(before: FloatArray, after: FloatArray, *, confidence: float, seed: int) -> tuple[float, float, float]:
    """Return (mean difference, lower, upper) of `after - before`, paired by row, from a bootstrap over the rows; zeros for no rows."""
    differences = np.sort(np.asarray(after, dtype=np.float64) - np.asarray(before, dtype=np.float64))
    n = len(differences)
    if n == 0:
        return 0.0, 0.0, 0.0
    generator = np.random.default_rng(seed)
    values, counts = np.unique(differences, return_counts=True)
    chunk = max(1, 5_000_000 // len(values))
    means = np.concatenate(
        [
            generator.multinomial(n, counts / n, size=min(chunk, N_RESAMPLES - start)) @ values / n
            for start in range(0, N_RESAMPLES, chunk)
        ]
    )
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(means, [tail, 1.0 - tail])
    return float(differences.mean()), float(low), float(high)


def compute_sign_test(n_wins: int, n_losses: int) -> float:
    """Return the exact one-sided probability of at least `n_wins` wins among the rows that differ, were both equally good."""
    n = n_wins + n_losses
    if n == 0:
        return 1.0
    logs = [math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) - n * math.log(2.0) for k in range(n_wins, n + 1)]
    return float(min(1.0, sum(math.exp(value) for value in logs)))


def compute_binomial_tail(n: int, k: int, *, share: float) -> float:
    """Return the exact probability of at least `k` cases among `n` where each has the probability `share`."""
    if k <= 0:
        return 1.0
    if share <= 0.0 or share >= 1.0:
        return float(share >= 1.0)
    log_yes, log_no = math.log(share), math.log1p(-share)
    logs = [
        math.lgamma(n + 1) - math.lgamma(j + 1) - math.lgamma(n - j + 1) + j * log_yes + (n - j) * log_no for j in range(k, n + 1)
    ]
    return float(min(1.0, sum(math.exp(value) for value in logs)))


def compute_ece(confidence: FloatArray, is_correct: BoolArray, *, n_bins: int = N_BINS) -> float:
    """Return the expected calibration error over bins of equal width; 0 for no rows."""
    n = len(confidence)
    if n == 0:
        return 0.0
    order = np.lexsort((is_correct, confidence))  # sums of floats depend on their order; the error must not
    confidence, is_correct = np.asarray(confidence, dtype=np.float64)[order], is_correct[order]
    bins = np.minimum((confidence * n_bins).astype(np.int64), n_bins - 1)
    gap = np.bincount(bins, weights=confidence - is_correct.astype(np.float64), minlength=n_bins)
    return float(np.abs(gap).sum() / n)


def compute_reliability(confidence: FloatArray, is_correct: BoolArray, *, n_bins: int = 10) -> list[list[float]]:
    """Return [mean confidence, share right, count] for each bin of equal width that holds any row."""
    bins = np.minimum((np.asarray(confidence) * n_bins).astype(np.int64), n_bins - 1)
    found = [(bins == place) for place in range(n_bins)]
    return [[float(confidence[rows].mean()), float(is_correct[rows].mean()), float(rows.sum())] for rows in found if rows.any()]


def compute_chance_ece(
    confidence: FloatArray, *, seed: int, tolerance: float = 0.0, quantile: float = 0.995, n_draws: int = 2_000
) -> float:
    """Return the calibration error that answers of these confidences exceed only in 1 - `quantile` of cases.

    The answers are supposed to be right as often as they say, or off by `tolerance` throughout, to the side that shows more: few tickets
    always show some error, and a tolerated one adds to it.
    """
    ordered = np.sort(np.asarray(confidence, dtype=np.float64))
    if len(ordered) == 0:
        return 0.0
    generator = np.random.default_rng(seed)
    bounds = []
    for shift in dict.fromkeys((-tolerance, tolerance)):
        share = np.clip(ordered + shift, 0.0, 1.0)
        draws = [compute_ece(ordered, generator.random(len(ordered)) < share) for _ in range(n_draws)]
        bounds.append(float(np.quantile(draws, quantile)))
    return max(bounds)


def compute_f1(gold: IntArray, predicted: IntArray, *, label: int) -> float:
    """Return the F1 of one label; 0 where it is neither right nor found."""
    hits = int(((gold == label) & (predicted == label)).sum())
    total = int((gold == label).sum() + (predicted == label).sum())
    return 2.0 * hits / total if total else 0.0


def compute_macro_f1(gold: IntArray, predicted: IntArray) -> float:
    """Return the mean F1 over the labels that occur in `gold`; 0 for no rows."""
    found = np.unique(gold)
    return float(np.mean([compute_f1(gold, predicted, label=int(label)) for label in found])) if len(found) else 0.0
