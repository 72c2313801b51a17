"""Fits temperature, the lexical expert's share and what labels without examples gain, on held-out predictions; drawn to a prior where these are few.

Pure functions of log-probabilities; knows neither model nor files.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.optimize import minimize_scalar

from bot.bundle import Calibration
from bot.engine.head import log_softmax, mix_experts
from bot.engine.protocol import FloatArray
from training.encoder.linear import Bool, Targets, compute_loss

PRIOR_TEMPERATURE: Final = 1.05
PRIOR_SHARE: Final = 0.35
TEMPERATURE_SPREAD: Final = 0.35
SHARE_SPREAD: Final = 0.12
SHARES: Final = tuple(round(0.05 * step, 2) for step in range(17))
MAX_LIFT: Final = 12.0
MIN_UNKNOWN: Final = 5
"""Held-out tickets of labels that a trial knew no example of, from which the lift is fitted."""
_BOUNDS: Final = (np.log(0.1), np.log(20.0))


def calibrate(encoder: FloatArray, lexical: FloatArray | None, targets: Targets) -> Calibration:
    """Return the calibration most probable given held-out log-probabilities of both experts, shape (n, n_labels).

    With no rows it is the prior's. The penalties count about as much as a dozen tickets would.
    """
    best, best_cost = (
        Calibration(temperature=PRIOR_TEMPERATURE, lexical_weight=PRIOR_SHARE if lexical is not None else 0.0),
        np.inf,
    )
    for share in SHARES if lexical is not None else (0.0,):

        def cost(log_temperature: float, share: float = share) -> float:
            mixed = mix_experts(encoder, lexical, Calibration(temperature=float(np.exp(log_temperature)), lexical_weight=share))
            loss = compute_loss(mixed.astype(np.float64), targets)[0] if len(targets) else 0.0
            away = (log_temperature - np.log(PRIOR_TEMPERATURE)) / TEMPERATURE_SPREAD
            off = (share - PRIOR_SHARE) / SHARE_SPREAD if lexical is not None else 0.0
            return float(loss + 0.5 * (away * away + off * off))

        found = minimize_scalar(cost, bounds=_BOUNDS, method="bounded", options={"xatol": 1e-3})
        if found.fun < best_cost:
            best_cost = float(found.fun)
            best = Calibration(temperature=round(float(np.exp(found.x)), 4), lexical_weight=share)
    return best


@dataclass(frozen=True)
class Answers:
    """Held-out log-probabilities of both experts, shape (n, n_labels), and which labels (`is_absent`, same shape) the trial knew no example of."""

    encoder: FloatArray
    lexical: FloatArray | None
    is_absent: Bool

    def lift(self, lift: float) -> "Answers":
        """Return the answers with the encoder's logits of the absent labels raised."""
        return Answers(
            log_softmax(self.encoder + np.where(self.is_absent, np.float32(lift), np.float32(0.0))), self.lexical, self.is_absent
        )

    def take(self, rows: Bool) -> "Answers":
        """Return some rows."""
        return Answers(self.encoder[rows], None if self.lexical is None else self.lexical[rows], self.is_absent[rows])


def calibrate_with_lift(answers: Answers, targets: Targets, *, unseen_share: float) -> tuple[Calibration, float]:
    """Return the calibration, and by how much the encoder's logits of labels without examples have to be raised; from 0 up.

    Training pushes labels that no ticket has away from all tickets. How far is seen on held-out tickets whose label the trial knew no example
    of; `unseen_share` is how often such a ticket is to be expected after the last run, and they count for that much.
    """
    is_unknown = answers.is_absent[np.arange(len(targets)), targets.label] if len(targets) else np.zeros(0, bool)
    known = answers.take(~is_unknown)
    first = calibrate(known.encoder, known.lexical, targets.take(np.flatnonzero(~is_unknown)))
    n_unknown = int(is_unknown.sum())
    if n_unknown < MIN_UNKNOWN or n_unknown == len(targets) or unseen_share <= 0.0:
        return first, 0.0
    ratio = unseen_share / (1.0 - unseen_share) * (len(targets) - n_unknown) / n_unknown
    weighted = Targets(targets.label, targets.weight * np.where(is_unknown, ratio, 1.0), targets.is_negative)

    def cost(lift: float) -> float:
        mixed = mix_experts(answers.lift(lift).encoder, answers.lexical, first)
        return compute_loss(mixed.astype(np.float64), weighted)[0]

    lift = round(float(minimize_scalar(cost, bounds=(0.0, MAX_LIFT), method="bounded", options={"xatol": 0.05}).x), 2)
    lifted = answers.lift(lift)
    return calibrate(lifted.encoder, lifted.lexical, weighted), lift


def estimate_unseen_share(targets: Targets, *, n_absent: int) -> float:
    """Return the share of coming tickets whose label has no example yet: as many as there are labels seen just once (Good and Turing)."""
    counts = np.bincount(targets.label[~targets.is_negative])
    total = int(counts.sum())
    if n_absent == 0 or total == 0:
        return 0.0
    return min(float((counts == 1).sum()) / total, 0.5)
