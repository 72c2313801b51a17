"""Fits temperature and the prior's weight on what the served adapter answers to held-out tickets.

Pure functions of log-probabilities; knows neither model nor files.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from bot.bundle import Calibration
from bot.engine.decoder_answers import calibrate as apply_calibration
from bot.engine.protocol import FloatArray
from training.encoder.calibrate import PRIOR_TEMPERATURE, TEMPERATURE_SPREAD
from training.encoder.linear import Targets, compute_loss

PRIOR_WEIGHTS: Final = tuple(round(0.1 * step, 1) for step in range(11))
WEIGHT_SPREAD: Final = 0.3
_BOUNDS: Final = (np.log(0.1), np.log(20.0))


def fit_calibration(log_probabilities: FloatArray, prior: FloatArray, targets: Targets) -> Calibration:
    """Return the calibration most probable given raw answers, shape (n, n_labels), and the null tickets' log mean, shape (n_labels,).

    With no rows it is the assumption: no prior taken out, a little doubt. The penalties count about as much as a dozen tickets would.
    """
    best, best_cost = Calibration(temperature=PRIOR_TEMPERATURE), np.inf
    if len(targets) == 0:
        return best
    for weight in PRIOR_WEIGHTS:

        def cost(log_temperature: float, weight: float = weight) -> float:
            calibration = Calibration(temperature=float(np.exp(log_temperature)), prior_weight=weight)
            loss = compute_loss(_apply(log_probabilities, prior, calibration), targets)[0]
            away = (log_temperature - np.log(PRIOR_TEMPERATURE)) / TEMPERATURE_SPREAD
            return float(loss + 0.5 * (away * away + (weight / WEIGHT_SPREAD) ** 2))

        found = minimize_scalar(cost, bounds=_BOUNDS, method="bounded", options={"xatol": 1e-2})
        if found.fun < best_cost:
            best_cost = float(found.fun)
            best = Calibration(temperature=round(float(np.exp(found.x)), 4), prior_weight=weight)
    return best


def measure_answers(
    log_probabilities: FloatArray, prior: FloatArray, targets: Targets, *, calibration: Calibration
) -> dict[str, float]:
    """Return how good calibrated answers to held-out tickets are: their number, the mean log loss in nats, and the accuracy."""
    rows = _apply(log_probabilities, prior, calibration)
    return {
        "n": len(targets),
        "log_loss": round(float(compute_loss(rows, targets)[0] / targets.weight.sum()), 4),
        "accuracy": round(float((rows.argmax(axis=1) == targets.label).mean()), 4),
    }


def _apply(log_probabilities: FloatArray, prior: FloatArray, calibration: Calibration) -> NDArray[np.float64]:
    rows = [apply_calibration(row, prior, calibration=calibration) for row in log_probabilities]
    logs: NDArray[np.float64] = np.log(np.maximum(np.stack(rows).astype(np.float64), 1e-12))
    return logs
