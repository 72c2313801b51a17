"""Asks whether the live model needs a run though no crontab line struck: people correct it too often, or it is worse than measured.

Pure functions from counts to a sentence or None. Reading the counts and remembering when a trigger fired is `training.schedule`'s.
"""

import math
from dataclasses import dataclass

from bot.tasks.measures import compute_binomial_tail
from db.queries.decisions import DecisionCounts

REARM = 0.8
"""A trigger that fired is armed again once the rate has fallen below this part of its threshold."""
MIN_JUDGED = 30
"""Decisions below which nothing is said about degradation."""
SURE = 0.01
_Z = 1.645


@dataclass(frozen=True)
class Measured:
    """What the gate measured of the live adapter: its accuracy on so many tickets."""

    accuracy: float
    n: int

    @property
    def low(self) -> float:
        """Lower bound (95 %, one-sided, Wilson) of the accuracy: it may have been lucky."""
        if self.n == 0:
            return 0.0
        share, square = self.accuracy, _Z * _Z / self.n
        middle = share + square / 2
        spread = _Z * math.sqrt(share * (1 - share) / self.n + square / (4 * self.n))
        return (middle - spread) / (1 + square)


def find_override_reason(counts: DecisionCounts, *, threshold: float, window: int) -> str | None:
    """Return why a run is asked for, or None: too few decisions yet, or few enough of them corrected."""
    rate = counts.override_rate
    if rate is None or counts.n_shown < window or rate <= threshold:
        return None
    return f"people changed {counts.n_corrected} of the last {counts.n_shown} answers ({100 * rate:.0f} %, more than {100 * threshold:.0f} %)"


def is_calm(counts: DecisionCounts, *, threshold: float) -> bool:
    """Say whether the rate has fallen so far that the next rise is a new one."""
    rate = counts.override_rate
    return rate is None or rate <= REARM * threshold


def find_degradation_reason(counts: DecisionCounts, measured: Measured) -> str | None:
    """Return why the live adapter is surely worse than measured, or None. Blind tickets tell first: nobody was led by the answer."""
    for n, n_right, words in (
        (counts.n_blind, counts.n_agreed, "right on blind tickets"),
        (counts.n_shown, counts.n_accepted, "accepted"),
    ):
        if n < MIN_JUDGED or n_right / n >= measured.low:
            continue
        chance = compute_binomial_tail(n, n - n_right, share=1.0 - measured.low)
        if chance < SURE:
            return (
                f"the live adapter is {words} in {100 * n_right / n:.0f} % of {n} decisions; the gate measured "
                f"{100 * measured.accuracy:.0f} % on {measured.n} tickets"
            )
    return None
