"""What the gate looks at and what it says: contenders' answers on the same tickets, checks, and the numbers kept with them.

Pure values and sums; which numbers are good enough is decided in `training.gate` and `training.gate_summary`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from bot.tasks.measures import (
    BoolArray,
    FloatArray,
    IntArray,
    compute_ece,
    compute_f1,
    compute_macro_f1,
    compute_paired_interval,
    compute_reliability,
)
from bot.training_settings import TrainingSettings

UNSAFE_CONFIDENCE = 0.9
COVERED_PRECISION = 0.95
BASELINE_NAMES = {
    "tfidf": "a linear model on words",
    "frozen": "a linear model on the bare model's embeddings",
    "knn": "the nearest examples",
    "few_shot": "the bare model shown a few examples in its prompt",
}
"""How sentences call the simple baselines."""


@dataclass(frozen=True)
class Answers:
    """What one contender answered. `probabilities` has shape (n, n_labels) in the contest's label order; latencies are per ticket."""

    probabilities: NDArray[np.floating]
    latencies_ms: NDArray[np.floating] | None = None

    @property
    def predicted(self) -> IntArray:
        """Index of the best label per ticket."""
        best: IntArray = np.asarray(self.probabilities).argmax(axis=1).astype(np.int64)
        return best

    @property
    def confidence(self) -> FloatArray:
        """Probability of the best label per ticket."""
        largest: FloatArray = np.asarray(self.probabilities, dtype=np.float64).max(axis=1)
        return largest


@dataclass(frozen=True)
class Contest:
    """Everything the gate looks at; all arrays are paired by ticket. `gold[i]` indexes `labels`.

    `base` is the bare model, `active` the adapter that is live (None where the bare model is). `baselines` maps a name people
    understand to its answers. `escalate` are indices of labels that must not be missed. `is_golden` marks approved tickets.
    """

    labels: tuple[str, ...]
    gold: IntArray
    candidate: Answers
    base: Answers
    active: Answers | None = None
    baselines: Mapping[str, Answers] = field(default_factory=dict)
    escalate: frozenset[int] = frozenset()
    is_golden: BoolArray | None = None

    @property
    def live(self) -> Answers:
        """What answers today."""
        return self.base if self.active is None else self.active

    @property
    def live_name(self) -> str:
        """What answers today, in words."""
        return "the bare model" if self.active is None else "the live adapter"


@dataclass(frozen=True)
class Check:
    """One question of the gate and its answer in a sentence with numbers."""

    name: str
    is_passed: bool
    sentence: str


@dataclass(frozen=True)
class GateDecision:
    """Whether the candidate may go live, why (what speaks against it first), and every number that was looked at."""

    is_passed: bool
    reasons: tuple[str, ...]
    numbers: Mapping[str, object]
    checks: tuple[Check, ...]


def build_decision(checks: list[Check], numbers: Mapping[str, object]) -> GateDecision:
    """Turn checks into a decision: all must pass."""
    failed = [check for check in checks if not check.is_passed]
    ordered = failed + [check for check in checks if check.is_passed]
    kept = {**numbers, "checks": [{"name": c.name, "is_passed": c.is_passed, "sentence": c.sentence} for c in checks]}
    return GateDecision(
        is_passed=bool(checks) and not failed,
        reasons=tuple(check.sentence for check in ordered),
        numbers=kept,
        checks=tuple(checks),
    )


def is_right(answers: Answers, gold: IntArray) -> BoolArray:
    """Return per ticket whether the best label is the gold one."""
    return np.asarray(answers.predicted == gold)


def count_unsafe(answers: Answers, gold: IntArray) -> float:
    """Return the share of tickets answered wrongly with high confidence."""
    return float(((answers.confidence >= UNSAFE_CONFIDENCE) & ~is_right(answers, gold)).mean())


def build_numbers(contest: Contest, settings: TrainingSettings) -> dict[str, object]:
    """Return every number the decision rests on, JSON-ready; accuracies per contender, the paired gain, F1 per label."""
    gold = contest.gold
    numbers: dict[str, object] = {"n_test": len(gold), "live": contest.live_name}
    contenders: list[tuple[str, Answers]] = [("base", contest.base), ("candidate", contest.candidate)]
    if contest.active is not None:
        contenders.append(("active", contest.active))
    contenders += list(contest.baselines.items())
    for name, answers in contenders:
        right = is_right(answers, gold)
        numbers[f"{name}_accuracy"] = float(right.mean()) if len(gold) else 0.0
        numbers[f"{name}_macro_f1"] = compute_macro_f1(gold, answers.predicted)
        numbers[f"{name}_ece"] = compute_ece(answers.confidence, right)
        if answers.latencies_ms is not None and len(answers.latencies_ms):
            numbers[f"{name}_latency_p50_ms"] = float(np.median(answers.latencies_ms))
            numbers[f"{name}_latency_p95_ms"] = float(np.quantile(answers.latencies_ms, 0.95))
    if len(gold):
        before, after = is_right(contest.live, gold).astype(np.float64), is_right(contest.candidate, gold).astype(np.float64)
        gain, low, high = compute_paired_interval(before, after, confidence=settings.gate_confidence, seed=settings.seed)
        numbers |= {"gain": gain, "gain_low": low, "gain_high": high, "unsafe_share": count_unsafe(contest.candidate, gold)}
        for name, answers in (("live", contest.live), ("candidate", contest.candidate)):
            numbers[f"{name}_wrong_escalations"] = count_wrong_escalations(answers, contest)
            numbers[f"{name}_coverage_at_95"] = compute_coverage(answers.confidence, is_right(answers, gold))
    numbers["per_label"] = _build_per_label(contest)
    numbers["confusion"] = count_confusion(gold, contest.candidate.predicted)
    numbers["label_names"] = list(contest.labels)
    numbers["reliability"] = {
        name: compute_reliability(answers.confidence, is_right(answers, gold))
        for name, answers in (("before", contest.live), ("after", contest.candidate))
    }
    return numbers


def _build_per_label(contest: Contest) -> dict[str, dict[str, float]]:
    gold = contest.gold
    contenders = (("before", contest.live.predicted), ("after", contest.candidate.predicted))
    found: dict[str, dict[str, float]] = {}
    for label, name in enumerate(contest.labels):
        rows = gold == label
        if rows.any():
            found[name] = {"support": float(rows.sum())}
            for key, predicted in contenders:
                found[name][f"{key}_f1"] = compute_f1(gold, predicted, label=label)
                found[name][f"{key}_recall"] = float((predicted[rows] == label).mean())
            for key, answers in (("before", contest.live), ("after", contest.candidate)):
                said = answers.predicted == label
                found[name][f"{key}_coverage_at_95"] = compute_coverage(answers.confidence[said], is_right(answers, gold)[said])
    return found


def count_wrong_escalations(answers: Answers, contest: Contest) -> float:
    """Return the share of the tickets that need no escalation which would be escalated; 0 without such tickets or labels."""
    must = np.array(sorted(contest.escalate), dtype=np.int64)
    others = ~np.isin(contest.gold, must)
    return float(np.isin(answers.predicted[others], must).mean()) if others.any() else 0.0


def compute_coverage(confidence: FloatArray, is_correct: BoolArray, *, precision: float = COVERED_PRECISION) -> float:
    """Return the largest share of answers that could go out unseen, the most confident first, with so many of them right; 0 for no rows."""
    n = len(confidence)
    if n == 0:
        return 0.0
    order = np.argsort(-confidence, kind="stable")
    ranked = np.asarray(confidence)[order]
    shares = np.cumsum(np.asarray(is_correct)[order]) / np.arange(1, n + 1)
    is_end = np.r_[ranked[1:] < ranked[:-1], True]  # a threshold takes all answers of the same confidence
    kept = np.flatnonzero((shares >= precision) & is_end)
    return float((kept[-1] + 1) / n) if len(kept) else 0.0


def count_confusion(gold: IntArray, predicted: IntArray) -> list[list[int]]:
    """Return [label, answered label, tickets] for each pair that occurs, as indices; sparse, since label sets can be large."""
    pairs, counts = np.unique(np.stack([gold, predicted], axis=1), axis=0, return_counts=True)
    return [[int(label), int(answer), int(count)] for (label, answer), count in zip(pairs, counts, strict=True)]
