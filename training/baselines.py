"""The simple models an adapter has to beat, tuned as honestly as the adapter is: linear on words, linear on the bare embeddings, kNN, majority.

Knows texts, embeddings and labels; not the gate. Every one answers with probabilities over all labels.
"""

import warnings
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import FeatureUnion

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

STRENGTHS: Final = (1.0, 3.0, 10.0, 30.0, 100.0)
"""Inverse regularisation strengths that cross-validation chooses from."""
N_FOLDS: Final = 4
MAX_FOR_TUNING: Final = 2_000
MAX_FOR_SPAN: Final = 3_000
NEIGHBOURS: Final = (1, 3, 5, 10, 20)
NEIGHBOUR_SHARPNESS: Final = 20.0


def build_vectoriser() -> FeatureUnion:
    """Return the strongest plain text features found: words and pairs of words, and 3-5 characters within words, sublinear counts."""
    return FeatureUnion(
        [
            ("word", TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)),
            ("char", TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), sublinear_tf=True)),
        ]
    )


def predict_majority(labels: IntArray, *, n_test: int, n_labels: int) -> FloatArray:
    """Return the labels' shares among the examples, for every ticket alike; shape (n_test, n_labels)."""
    shares = np.bincount(labels, minlength=n_labels) / max(len(labels), 1)
    return np.tile(shares, (n_test, 1))


def predict_tfidf(train: Sequence[str], labels: IntArray, test: Sequence[str], *, n_labels: int, seed: int = 0) -> FloatArray:
    """Return the answers of TF-IDF and logistic regression, its strength chosen by cross-validation; shape (n_test, n_labels)."""
    vectoriser = build_vectoriser()
    try:
        features = vectoriser.fit_transform(train)
    except ValueError:  # no text has a word: nothing to learn from
        return predict_majority(labels, n_test=len(test), n_labels=n_labels)
    before, after = compress(features, vectoriser.transform(test))
    return predict_linear(before, labels, after, n_labels=n_labels, seed=seed)


def compress(train: Any, test: Any) -> tuple[Any, Any]:
    """Return sparse features as coordinates in the space that the training rows span, where these are few; else as they are.

    A linear model with an l2 penalty answers the same there, and fits many times faster than on tens of thousands of columns.
    """
    if train.shape[0] > MAX_FOR_SPAN or train.shape[1] <= train.shape[0]:
        return train, test
    values, vectors = np.linalg.eigh((train @ train.T).toarray())
    kept = values > 1e-9
    scale = np.sqrt(values[kept])
    return vectors[:, kept] * scale, (test @ train.T).toarray() @ (vectors[:, kept] / scale)


def predict_linear(train: Any, labels: IntArray, test: Any, *, n_labels: int, seed: int = 0) -> FloatArray:
    """Return the answers of a logistic regression on features (arrays or sparse matrices); shape (n_test, n_labels)."""
    if len(np.unique(labels)) < 2:
        return predict_majority(labels, n_test=test.shape[0], n_labels=n_labels)
    strength = choose_strength(train, labels, seed=seed)
    model = fit_linear(train, labels, strength)
    return spread_linear(model, test, n_labels=n_labels)


def choose_strength(features: Any, labels: IntArray, *, seed: int) -> float:
    """Return the inverse strength with the best accuracy under stratified cross-validation; labels too rare for it are left out."""
    rows = np.random.default_rng(seed).permutation(len(labels))[:MAX_FOR_TUNING]
    counts = np.bincount(labels[rows])
    rows = rows[counts[labels[rows]] >= 2]
    if len(rows) < 2 * N_FOLDS or len(np.unique(labels[rows])) < 2:
        return 10.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a label with fewer examples than folds: some folds lack it, no harm
        folds = list(StratifiedKFold(N_FOLDS, shuffle=True, random_state=seed).split(rows, labels[rows]))
    scores = {
        strength: float(np.mean([_score(features, labels, rows[fit], held=rows[held], strength=strength) for fit, held in folds]))
        for strength in STRENGTHS
    }
    return max(scores, key=lambda strength: scores[strength])


def _score(features: Any, labels: IntArray, rows: IntArray, *, held: IntArray, strength: float) -> float:
    if len(np.unique(labels[rows])) < 2:
        return 0.0
    predicted = fit_linear(features[rows], labels[rows], strength).predict(features[held])
    return float((predicted == labels[held]).mean())


def fit_linear(features: Any, labels: IntArray, strength: float) -> Any:
    """Return a logistic regression fitted to features (an array or a sparse matrix)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the last digits of the weights do not matter here
        return LogisticRegression(C=strength, max_iter=200, tol=1e-3).fit(features, labels)


def spread_linear(model: Any, features: Any, *, n_labels: int) -> FloatArray:
    """Return a fitted model's answers over all labels, those it never saw included; shape (n, n_labels)."""
    probabilities = np.zeros((features.shape[0], n_labels))
    probabilities[:, model.classes_] = model.predict_proba(features)
    return probabilities


def predict_neighbours(train: FloatArray, labels: IntArray, test: FloatArray, *, n_labels: int) -> FloatArray:
    """Return the vote of the nearest examples by cosine, their number chosen by leaving one out; embeddings are unit-norm."""
    near = train @ train.T
    np.fill_diagonal(near, -np.inf)
    usable = [k for k in NEIGHBOURS if k < len(labels)] or [1]
    if len(labels) < 2:
        return predict_majority(labels, n_test=len(test), n_labels=n_labels)
    scores = {k: float((_vote(near, labels, k, n_labels=n_labels).argmax(axis=1) == labels).mean()) for k in usable}
    best = max(scores, key=lambda k: scores[k])
    return _vote(test @ train.T, labels, best, n_labels=n_labels)


def _vote(similarity: FloatArray, labels: IntArray, k: int, *, n_labels: int) -> FloatArray:
    nearest = np.argpartition(-similarity, k - 1, axis=1)[:, :k]
    strength = np.exp(NEIGHBOUR_SHARPNESS * (np.take_along_axis(similarity, nearest, axis=1) - 1.0))
    votes = np.zeros((len(similarity), n_labels))
    rows = np.repeat(np.arange(len(similarity)), k)
    np.add.at(votes, (rows, labels[nearest].ravel()), strength.ravel())
    shares: FloatArray = votes / votes.sum(axis=1, keepdims=True)
    return shares


def compute_baselines(
    train: Sequence[str],
    labels: IntArray,
    test: Sequence[str],
    *,
    n_labels: int,
    embed: Callable[[Sequence[str]], NDArray[np.floating]],
    seed: int = 0,
) -> dict[str, FloatArray]:
    """Return the answers of all baselines by name: tfidf, frozen, knn, majority. `embed` gives the bare model's unit-norm embeddings."""
    before, after = (np.asarray(embed(texts), np.float64) for texts in (train, test))
    return {
        "tfidf": predict_tfidf(train, labels, test, n_labels=n_labels, seed=seed),
        "frozen": predict_linear(before, labels, after, n_labels=n_labels, seed=seed),
        "knn": predict_neighbours(before, labels, after, n_labels=n_labels),
        "majority": predict_majority(labels, n_test=len(test), n_labels=n_labels),
    }
