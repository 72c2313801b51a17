"""Which units (turns, sentences) of a ticket are most telling: features in numpy and a linear score over them.

Serving and training compute the same features here. Knows nothing of how excerpts are cut or shown, nor how the weights were fitted.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import numpy as np
from safetensors.numpy import load_file, save_file

from bot.bundle import HEAD_FILE
from bot.engine.protocol import FloatArray

FEATURES: Final = (
    "is_first",  # the customer's first line that says something
    "is_central",  # nearest to the mean of the customer's lines
    "centrality",  # cosine with the mean of all lines
    "customer_centrality",  # cosine with the mean of the customer's lines
    "similarity_to_first",
    "is_customer",
    "position",  # 0 first, 1 last
    "earliness",  # 1 / (1 + index)
    "length",  # logarithm of the number of words, 1 at 40
    "is_short",  # fewer than four words: greetings, "yes"
    "has_question",
    "has_figure",  # digits or a placeholder of masked data
    "is_last_customer",
)
DEFAULT_WEIGHTS: Final = {
    "is_first": 1.5,
    "is_central": 0.7,
    "centrality": 0.5,
    "customer_centrality": 0.7,
    "similarity_to_first": -0.5,
    "is_customer": 0.3,
    "length": 2.0,
    "is_short": -0.7,
}
"""The first and the most central of the customer's lines, long ones rather than short ones, and not twice the same."""
MIN_WORDS: Final = 4
_FIGURE: Final = re.compile(r"\d|<[A-Z][A-Z_]*_\d+>")


def _unit(vectors: FloatArray) -> FloatArray:
    result: FloatArray = vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
    return result


def compute_features(embeddings: FloatArray, is_customer: Sequence[bool], units: Sequence[str]) -> FloatArray:
    """Return the features of each unit, shape (n_units, len(FEATURES)); `embeddings` are unit-norm, shape (n_units, n_embd)."""
    n = len(units)
    if n == 0:
        return np.zeros((0, len(FEATURES)), np.float32)
    words = np.array([len(unit.split()) for unit in units])
    own = np.asarray(is_customer, bool)
    own = own if own.any() else np.ones(n, bool)
    telling = own & (words >= MIN_WORDS)
    telling = telling if telling.any() else own
    first = int(np.flatnonzero(telling)[0])
    centrality = embeddings @ _unit(embeddings.mean(axis=0))
    customer_centrality = embeddings @ _unit(embeddings[telling].mean(axis=0))
    index = np.arange(n)
    columns = {
        "is_first": index == first,
        "is_central": index == int(np.argmax(np.where(telling & (index != first), customer_centrality, -2.0))),
        "centrality": centrality,
        "customer_centrality": customer_centrality,
        "similarity_to_first": embeddings @ embeddings[first],
        "is_customer": own,
        "position": index / max(n - 1, 1),
        "earliness": 1.0 / (1.0 + index),
        "length": np.log1p(words) / np.log(41.0),
        "is_short": words < MIN_WORDS,
        "has_question": ["?" in unit for unit in units],
        "has_figure": [_FIGURE.search(unit) is not None for unit in units],
        "is_last_customer": index == int(np.flatnonzero(own)[-1]),
    }
    return np.stack([np.asarray(columns[name], np.float32) for name in FEATURES], axis=1)


@dataclass(frozen=True)
class TurnHead:
    """One weight per feature, shape (len(FEATURES),), and once edits taught it a direction of telling lines, shape (n_embd,)."""

    weight: FloatArray
    direction: FloatArray | None = None

    @classmethod
    def default(cls) -> Self:
        """Return the untrained head."""
        return cls(np.array([DEFAULT_WEIGHTS.get(name, 0.0) for name in FEATURES], np.float32))

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read the head of a bundle. Raises OSError, KeyError or ValueError where it is damaged or was made for other features."""
        tensors = load_file(directory / HEAD_FILE)
        weight, direction = tensors["turn_weight"], tensors.get("turn_direction")
        if weight.shape != (len(FEATURES),):
            raise ValueError(f"the turn head has {weight.size} weights for {len(FEATURES)} features; train it again")
        return cls(np.asarray(weight, np.float32), None if direction is None else np.asarray(direction, np.float32))

    def save(self, directory: Path) -> None:
        """Write the head's file."""
        tensors = {"turn_weight": np.ascontiguousarray(self.weight, np.float32)}
        if self.direction is not None:
            tensors["turn_direction"] = np.ascontiguousarray(self.direction, np.float32)
        save_file(tensors, directory / HEAD_FILE)
        (directory / HEAD_FILE).chmod(0o644)  # safetensors writes for the owner alone; the bot may run as another user

    def scores(self, embeddings: FloatArray, is_customer: Sequence[bool], units: Sequence[str]) -> FloatArray:
        """Return one score per unit, shape (n_units,); higher is more telling."""
        scores = compute_features(embeddings, is_customer, units) @ self.weight
        if self.direction is not None:
            scores = scores + embeddings @ self.direction
        return np.asarray(scores, np.float32)
