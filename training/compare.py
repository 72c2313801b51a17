"""What simple models reach on the same examples: for the gate of every run, and for `python -m training baselines` on two files.

Masks files as the deployment does. Trains no adapter; `training.evaluate` does.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bot.settings import Settings
from bot.tasks.labels import load_label_set
from bot.tasks.measures import FloatArray, IntArray
from db.types import MaskedText, TaskKind
from training.baselines import build_vectoriser, predict_linear, predict_majority, predict_neighbours
from training.encoder.served import ServedEncoder
from training.evaluate import build_mask, read_rows
from training.metrics import compute_accuracy, compute_macro_f1
from training.source import build_checker, resolve_base

Embed = Callable[[Sequence[str]], NDArray[np.floating]]


MAX_LEARNT = 3_000
"""The simple models learn from the newest so many: their cost grows with the square, their accuracy hardly."""


def answer_simply(
    train: Sequence[str], labels: IntArray, test: Sequence[str], *, n_labels: int, embed: Embed
) -> dict[str, NDArray[np.floating]]:
    """Return the probabilities of the simple models by name, shape (n_test, n_labels); `train` in order of time."""
    train, labels = train[-MAX_LEARNT:], labels[-MAX_LEARNT:]
    before, after = (np.asarray(embed(texts), np.float64) for texts in (train, test))
    majority = predict_majority(labels, n_test=len(test), n_labels=n_labels)
    words = compute_word_features(train, test)
    return {
        "tfidf": majority if words is None else predict_linear(*_around(words, labels), n_labels=n_labels),
        "frozen": predict_linear(before, labels, after, n_labels=n_labels),
        "knn": predict_neighbours(before, labels, after, n_labels=n_labels),
        "majority": majority,
    }


def answer_by_words(
    train: Sequence[str], labels: IntArray, test: Sequence[str], *, n_labels: int
) -> dict[str, NDArray[np.floating]]:
    """Return what simple models answer that need no embeddings, for a base that gives none: linear and nearest neighbours, both on words."""
    train, labels = train[-MAX_LEARNT:], labels[-MAX_LEARNT:]
    words = compute_word_features(train, test)
    if words is None:
        majority = predict_majority(labels, n_test=len(test), n_labels=n_labels)
        return {"tfidf": majority, "knn": majority}
    before, after = (rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12) for rows in words)
    return {
        "tfidf": predict_linear(*_around(words, labels), n_labels=n_labels),
        "knn": predict_neighbours(before, labels, after, n_labels=n_labels),
    }


def _around(words: tuple[FloatArray, FloatArray], labels: IntArray) -> tuple[FloatArray, IntArray, FloatArray]:
    return words[0], labels, words[1]


def compute_word_features(train: Sequence[str], test: Sequence[str]) -> tuple[FloatArray, FloatArray] | None:
    """Return TF-IDF features turned into the space that the training texts span, None where no text has a word.

    A regularised linear model answers the same in that space, and fits some fifteen times faster than on tens of thousands of columns.
    """
    vectoriser = build_vectoriser()
    try:
        features = vectoriser.fit_transform(train)
    except ValueError:
        return None
    values, vectors = np.linalg.eigh((features @ features.T).toarray())
    kept = values > 1e-8
    scale = np.sqrt(values[kept])
    likeness = (vectoriser.transform(test) @ features.T).toarray()
    return vectors[:, kept] * scale, likeness @ vectors[:, kept] / scale


def compare_baselines(labels: Path, train: Path, test: Path, *, settings: Settings) -> dict[str, Any]:
    """Return per baseline accuracy, macro-F1 and the predicted label of every test line, in order. Raises UserError and others."""
    label_set = load_label_set(labels)
    learn, judge = (read_rows(path, label_set) for path in (train, test))
    mask, finds_anything = build_mask(settings), build_checker(settings)
    # Lines that are masked already stay as they are: masking a placeholder would make another one of it.
    texts = [[mask(row.text) if finds_anything(MaskedText(row.text)) else row.text for row in rows] for rows in (learn, judge)]
    gold = np.array([row.label for row in judge], dtype=np.int64)
    base_path = resolve_base(settings, TaskKind.CLASSIFICATION)
    with ServedEncoder(
        base_path,
        text_tokens=settings.engine.text_tokens,
        n_threads=settings.training.threads,
        merge_limit_mib=settings.engine.merge_limit_mib,
    ) as served:
        answers = answer_simply(
            texts[0],
            np.array([row.label for row in learn], dtype=np.int64),
            texts[1],
            n_labels=len(label_set.names),
            embed=served.embed,
        )
    found: dict[str, Any] = {}
    for name, probabilities in answers.items():
        predicted = probabilities.argmax(axis=1).astype(np.int64)
        found[name] = {
            "accuracy": round(compute_accuracy(gold, predicted), 4),
            "macro_f1": round(compute_macro_f1(gold, predicted), 4),
            "predictions": [label_set.names[place] for place in predicted],
        }
    return {"n_train": len(learn), "n_test": len(judge), "baselines": found}
