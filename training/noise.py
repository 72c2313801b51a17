"""Finds examples whose label the other examples speak against: confident learning on answers to tickets the model had not seen.

Knows texts and label numbers; what becomes of a suspect (a question in the review queue, or being left out) is decided elsewhere.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedKFold
from threadpoolctl import threadpool_limits

from training.baselines import FloatArray, IntArray, build_vectoriser, compress, fit_linear, spread_linear

N_FOLDS: Final = 5
STRENGTH: Final = 3.0
"""Inverse regularisation strength. Tuning it per set cost five times the time and moved precision and recall by 0.02 or less."""


@dataclass(frozen=True)
class Suspect:
    """Row `row` carries a label of probability `p_given`; `suggested` has `p_suggested`, by a model that never saw the row."""

    row: int
    suggested: int
    p_given: float
    p_suggested: float

    @property
    def margin(self) -> float:
        """How far the suggested label is ahead, 0 to 1."""
        return self.p_suggested - self.p_given


def find_suspects(
    texts: Sequence[str],
    labels: IntArray,
    *,
    margin: float,
    n_labels: int,
    seed: int = 0,
    on_step: Callable[[int, int], None] = lambda _done, _total: None,
) -> list[Suspect]:
    """Return the rows whose label is probably wrong, the surest first; none where there are too few examples to tell.

    `margin` is what the suggested label has to be ahead by. Labels with fewer than `N_FOLDS` examples are not judged.
    """
    counts = np.bincount(labels, minlength=n_labels)
    rows = np.flatnonzero(counts[labels] >= N_FOLDS)
    if len(np.unique(labels[rows])) < 2:
        return []
    judged = [texts[int(row)] for row in rows]
    probabilities = _predict_held_out(judged, labels[rows], n_labels=n_labels, seed=seed, on_step=on_step)
    if probabilities is None:
        return []
    suspects = [
        Suspect(int(rows[place]), int(suggested), float(probabilities[place, labels[rows[place]]]), float(ahead))
        for place, suggested, ahead in _pick_confident(probabilities, labels[rows])
    ]
    found = [suspect for suspect in suspects if suspect.margin >= margin]
    return sorted(found, key=lambda suspect: (-suspect.margin, suspect.row))


def _predict_held_out(
    texts: Sequence[str], labels: IntArray, *, n_labels: int, seed: int, on_step: Callable[[int, int], None]
) -> FloatArray | None:
    """Return what models that did not see a row say of it, shape (n, n_labels); None where no text has a word."""
    try:
        found = build_vectoriser().fit_transform(texts)
    except ValueError:
        return None
    probabilities = np.zeros((len(labels), n_labels))
    folds = StratifiedKFold(N_FOLDS, shuffle=True, random_state=seed).split(labels, labels)
    with threadpool_limits(
        1
    ):  # on a busy machine a second thread of these small products waits more than it helps: six times slower
        features, _ = compress(found, found[:1])
        for done, (fit, held) in enumerate(folds):
            on_step(done, N_FOLDS)
            model = fit_linear(features[fit], labels[fit], STRENGTH)
            probabilities[held] = spread_linear(model, features[held], n_labels=n_labels)
    return probabilities


def _pick_confident(probabilities: FloatArray, labels: IntArray) -> list[tuple[int, int, float]]:
    """Return (row, label, probability) where another label is as probable as it usually is for the tickets that carry it.

    The bar of each label is its mean probability among its own tickets (Northcutt, Jiang and Chuang, 2021), so that labels which are hard
    to tell in general raise no flood of questions.
    """
    n_labels = probabilities.shape[1]
    own: NDArray[np.float64] = np.array(
        [probabilities[labels == label, label].mean() if (labels == label).any() else np.inf for label in range(n_labels)]
    )
    reached = np.where(probabilities >= own, probabilities, -1.0)
    best = reached.argmax(axis=1)
    rows = np.flatnonzero((reached.max(axis=1) >= 0.0) & (best != labels))
    return [(int(row), int(best[row]), float(probabilities[row, best[row]])) for row in rows]
