"""Weighted softmax regression by L-BFGS, dense or sparse: the refitted head and the lexical expert.

Knows "not this" examples, rows that must not move and a centre the weights are drawn to; not what the features mean.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

Float = NDArray[np.float64]
Int = NDArray[np.int64]
Bool = NDArray[np.bool_]
_TINY = 1e-12


@dataclass(frozen=True)
class Targets:
    """What `n` rows are labelled with. `is_negative[i]` means that row i is anything but `label[i]`; weights have mean 1."""

    label: Int
    weight: Float
    is_negative: Bool

    def __len__(self) -> int:
        return len(self.label)

    def take(self, rows: Int) -> "Targets":
        """Return some rows."""
        return Targets(self.label[rows], self.weight[rows], self.is_negative[rows])


def compute_loss(log_probabilities: Float, targets: Targets) -> tuple[float, Float]:
    """Return the weighted sum of losses and its gradient by the logits, shape (n, n_labels).

    A label costs -log p; "not this" costs -log(1 - p).
    """
    rows = np.arange(len(targets))
    probabilities = np.exp(log_probabilities)
    chosen = probabilities[rows, targets.label]
    rest = np.maximum(1.0 - chosen, 1e-6)
    losses = np.where(targets.is_negative, -np.log(rest), -log_probabilities[rows, targets.label])
    # d(-log(1 - p_y))/dz_k is p_y for y itself and -p_y p_k / (1 - p_y) for the others: the positive gradient times -p_y / (1 - p_y)
    factor = np.where(targets.is_negative, -chosen / rest, 1.0) * targets.weight
    gradient = probabilities.copy()
    gradient[rows, targets.label] -= 1.0
    return float((losses * targets.weight).sum()), gradient * factor[:, None]


def fit_softmax(
    features: Any,
    targets: Targets,
    *,
    start: tuple[Float, Float],
    l2: float,
    is_fixed: Bool,
    max_steps: int = 200,
    centre: Float | None = None,
) -> tuple[Float, Float]:
    """Return weights (n_labels, n_features) and biases (n_labels,) that minimise mean loss + l2 / 2 * |weights - centre|^2.

    `features` is an array or a scipy sparse matrix, shape (n, n_features). Rows of labels in `is_fixed` stay as they start.
    """
    weight, bias = (np.asarray(part, np.float64) for part in start)
    pull = np.zeros_like(weight) if centre is None else np.asarray(centre, np.float64)
    total = max(float(targets.weight.sum()), _TINY)
    moves = ~is_fixed
    n_free, n_features = int(moves.sum()), weight.shape[1]
    if n_free == 0 or len(targets) == 0:
        return weight, bias
    full_weight, full_bias = weight.copy(), bias.copy()

    def evaluate(flat: Float) -> tuple[float, Float]:
        full_weight[moves] = flat[: n_free * n_features].reshape(n_free, n_features)
        full_bias[moves] = flat[n_free * n_features :]
        logits = np.asarray(features @ full_weight.T) + full_bias
        shifted = logits - logits.max(axis=1, keepdims=True)
        loss, by_logits = compute_loss(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)), targets)
        by_logits = by_logits[:, moves] / total
        off = full_weight[moves] - pull[moves]
        by_weight = np.asarray((features.T @ by_logits).T) + l2 * off
        return loss / total + 0.5 * l2 * float((off * off).sum()), np.concatenate([by_weight.ravel(), by_logits.sum(axis=0)])

    begin = np.concatenate([weight[moves].ravel(), bias[moves]])
    found = minimize(evaluate, begin, jac=True, method="L-BFGS-B", options={"maxiter": max_steps, "maxcor": 6, "ftol": 1e-7})
    evaluate(found.x)
    return full_weight, full_bias
