"""The gate for summaries: overlap of candidate, live picker and bare picker with what people accepted or wrote, paired by ticket.

Pure. Where the overlap comes from is `training.scoring`'s business.
"""

from dataclasses import dataclass

import numpy as np

from bot.tasks.measures import FloatArray, compute_paired_interval, compute_sign_test
from bot.training_settings import TrainingSettings
from training.contest import Check, GateDecision, build_decision


@dataclass(frozen=True)
class SummaryContest:
    """Scores in [0, 1] per ticket against the accepted or edited summary, paired. `active` is None where the bare model is live."""

    candidate: FloatArray
    base: FloatArray
    active: FloatArray | None = None


def decide_summary(contest: SummaryContest, *, settings: TrainingSettings) -> GateDecision:
    """Judge a summary candidate by its overlap with what people accepted or wrote."""
    live = contest.base if contest.active is None else contest.active
    live_name = "the bare model" if contest.active is None else "the live adapter"
    n = len(contest.candidate)
    numbers: dict[str, object] = {"n_test": n, "live": live_name}
    for name, scores in (("base", contest.base), ("candidate", contest.candidate), ("active", contest.active)):
        if scores is not None:
            numbers[f"{name}_overlap"] = float(np.mean(scores)) if len(scores) else 0.0
    if n < settings.gate_min_test:
        sentence = f"{n} test tickets are too few to judge on: at least {settings.gate_min_test} are needed"
        return build_decision([Check("enough_tickets", is_passed=False, sentence=sentence)], numbers)
    checks = []
    if any(np.allclose(contest.candidate, other, atol=1e-6) for other in (contest.base, contest.active) if other is not None):
        checks.append(
            Check("new", is_passed=False, sentence="it picks exactly what is picked without it: it has learned nothing")
        )
    gain, low, high = compute_paired_interval(live, contest.candidate, confidence=settings.gate_confidence, seed=settings.seed)
    numbers |= {"gain": gain, "gain_low": low, "gain_high": high}
    n_wins, n_losses = int((contest.candidate > live + 1e-9).sum()), int((contest.candidate < live - 1e-9).sum())
    chance = compute_sign_test(n_wins, n_losses)
    is_passed = low > 0 and chance <= (1 - settings.gate_confidence) / 2
    if contest.active is not None and settings.gate_rule == "not_worse":
        is_passed = gain >= 0 and low > -settings.gate_margin
    sentence = (
        f"{'better' if is_passed else 'not surely better'}: overlap with people's summaries {np.mean(live):.3f} -> "
        f"{np.mean(contest.candidate):.3f} against {live_name} on {n} tickets ({100 * settings.gate_confidence:.0f} % interval of the "
        f"difference {low:+.3f} to {high:+.3f}; {n_wins} won, {n_losses} lost)"
    )
    return build_decision([*checks, Check("better", is_passed=is_passed, sentence=sentence)], numbers)
