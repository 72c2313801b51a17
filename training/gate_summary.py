"""The gate for summaries: overlap with what people accepted or wrote, what they would have to change, and whether anything is made up.

Pure; candidate, live model and bare model are paired by ticket. Where the scores come from is `training.scoring`'s business.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

import numpy as np

from bot.tasks.measures import BoolArray, FloatArray, compute_binomial_tail, compute_paired_interval, compute_sign_test
from bot.training_settings import TrainingSettings
from training.contest import Check, GateDecision, build_decision

SURE = 0.05
"""Probability under which a shortfall is no longer put down to chance."""


@dataclass(frozen=True)
class SummaryScores:
    """One contender's summaries, per ticket: overlap with the accepted summary and words to change, both in [0, 1]; what is made up.

    `is_edited` marks tickets whose summary a person had rewritten: the words to change there are those of the human edit.
    """

    overlap: FloatArray
    edit_distance: FloatArray
    is_faithful: BoolArray
    is_edited: BoolArray

    @property
    def faithful_share(self) -> float:
        """Share of summaries without a number, name or placeholder that the ticket lacks."""
        return float(self.is_faithful.mean()) if len(self.is_faithful) else 1.0


@dataclass(frozen=True)
class SummaryContest:
    """Overlaps in [0, 1] per ticket, paired. `active` is None where the bare model is live. `scores` adds more by the contenders' names."""

    candidate: FloatArray
    base: FloatArray
    active: FloatArray | None = None
    scores: Mapping[str, SummaryScores] = field(default_factory=dict)

    @classmethod
    def from_scores(cls, scores: Mapping[str, SummaryScores]) -> Self:
        """Build it from what `training.scoring` brings: "candidate", "base" and perhaps "active"."""
        active = scores["active"].overlap if "active" in scores else None
        return cls(candidate=scores["candidate"].overlap, base=scores["base"].overlap, active=active, scores=scores)


def decide_summary(contest: SummaryContest, *, settings: TrainingSettings) -> GateDecision:
    """Judge a summary candidate."""
    numbers = _build_numbers(contest)
    n = len(contest.candidate)
    if n < settings.gate_min_test:
        sentence = f"{n} test tickets are too few to judge on: at least {settings.gate_min_test} are needed"
        return build_decision([Check("enough_tickets", is_passed=False, sentence=sentence)], numbers)
    checks = []
    if any(np.allclose(contest.candidate, other, atol=1e-6) for other in (contest.base, contest.active) if other is not None):
        checks.append(
            Check("new", is_passed=False, sentence="it picks exactly what is picked without it: it has learned nothing")
        )
    checks.append(_check_better(contest, numbers, settings))
    return build_decision([*checks, *_check_faithful(contest, settings)], numbers)


def _build_numbers(contest: SummaryContest) -> dict[str, object]:
    numbers: dict[str, object] = {
        "n_test": len(contest.candidate),
        "live": "the bare model" if contest.active is None else "the live adapter",
    }
    for name, overlap in (("base", contest.base), ("candidate", contest.candidate), ("active", contest.active)):
        if overlap is not None:
            numbers[f"{name}_overlap"] = float(np.mean(overlap)) if len(overlap) else 0.0
    for name, scores in contest.scores.items():
        numbers[f"{name}_faithful"] = scores.faithful_share
        for key, rows in (("edit_distance", np.ones(len(scores.overlap), dtype=bool)), ("human_edit_distance", scores.is_edited)):
            if rows.any():
                numbers[f"{name}_{key}"] = float(scores.edit_distance[rows].mean())
    return numbers


def _check_better(contest: SummaryContest, numbers: dict[str, object], settings: TrainingSettings) -> Check:
    live = contest.base if contest.active is None else contest.active
    gain, low, high = compute_paired_interval(live, contest.candidate, confidence=settings.gate_confidence, seed=settings.seed)
    numbers |= {"gain": gain, "gain_low": low, "gain_high": high}
    n_wins, n_losses = int((contest.candidate > live + 1e-9).sum()), int((contest.candidate < live - 1e-9).sum())
    chance = compute_sign_test(n_wins, n_losses)
    is_passed = low > 0 and chance <= (1 - settings.gate_confidence) / 2
    if contest.active is not None and settings.gate_rule == "not_worse":
        is_passed = gain >= 0 and low > -settings.gate_margin
    sentence = (
        f"{'better' if is_passed else 'not surely better'}: overlap with people's summaries {np.mean(live):.3f} -> "
        f"{np.mean(contest.candidate):.3f} against {numbers['live']} on {len(live)} tickets "
        f"({100 * settings.gate_confidence:.0f} % interval of the difference {low:+.3f} to {high:+.3f}; {n_wins} won, {n_losses} lost)"
    )
    return Check("better", is_passed=is_passed, sentence=sentence)


def _check_faithful(contest: SummaryContest, settings: TrainingSettings) -> list[Check]:
    """Refuse what makes things up surely more often than is tolerated, unless what is live does so as often."""
    mine = contest.scores.get("candidate")
    its = contest.scores.get("active", contest.scores.get("base"))
    if mine is None or its is None:
        return []
    n, n_wrong = len(mine.is_faithful), int((~mine.is_faithful).sum())
    tolerated = 1.0 - settings.gate_min_faithful
    is_passed = (
        mine.faithful_share >= min(settings.gate_min_faithful, its.faithful_share)
        or compute_binomial_tail(n, n_wrong, share=tolerated) > SURE
    )
    words = "it keeps to the ticket" if is_passed else "it states numbers, names or placeholders that the ticket lacks"
    sentence = f"{words}: {100 * its.faithful_share:.1f} % -> {100 * mine.faithful_share:.1f} % of {n} summaries without any"
    return [Check("faithful", is_passed=is_passed, sentence=sentence)]
