"""Fits temperature and the lexical expert's share on held-out predictions, drawn to a prior where these are few.

Pure functions of log-probabilities; knows neither model nor files.
"""

from typing import Final

import numpy as np
from scipy.optimize import minimize_scalar

from bot.bundle import Calibration
from bot.engine.head import mix_experts
from bot.engine.protocol import FloatArray
from training.encoder.linear import Targets, compute_loss

PRIOR_TEMPERATURE: Final = 1.05
PRIOR_SHARE: Final = 0.35
TEMPERATURE_SPREAD: Final = 0.35
SHARE_SPREAD: Final = 0.12
SHARES: Final = tuple(round(0.05 * step, 2) for step in range(17))
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
