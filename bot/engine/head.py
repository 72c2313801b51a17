"""The classification head of an encoder: unit-norm embeddings and texts go in, calibrated log-probabilities come out.

Plain numpy. Knows the head's file and how its experts are mixed; not where embeddings come from nor how the numbers were fitted.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import numpy as np
from safetensors.numpy import load_file, save_file

from bot.bundle import CALIBRATION_FILE, HEAD_FILE, LEXICON_FILE, Calibration, Manifest
from bot.engine.lexical import LexicalExpert, Lexicon
from bot.engine.protocol import FloatArray

ZERO_SHOT_SCALE: Final = 20.0
"""What cosines are multiplied with before the softmax where no example was seen; also what a new head starts from."""


ZERO_SHOT_SHARPNESS: Final = 4.0
"""Times ln(number of labels) it is the scale at which zero-shot cosines are calibrated: the least log loss lay at 8 for 8 labels, 12 for 22,
16 for 76 and 20 for 140 (training parts of six open sets; docs/training-study.md)."""


def log_softmax(logits: FloatArray) -> FloatArray:
    """Return the logarithm of the softmax over the last axis."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    result: FloatArray = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return result


def mix_experts(encoder: FloatArray, lexical: FloatArray | None, calibration: Calibration) -> FloatArray:
    """Return the tempered product of experts: both are log-probabilities, shape (n, n_labels), and so is the result."""
    share = calibration.lexical_weight if lexical is not None else 0.0
    mixed = encoder if lexical is None or share == 0.0 else (1.0 - share) * encoder + share * lexical
    return log_softmax(np.asarray(mixed / calibration.temperature, np.float32))


@dataclass(frozen=True)
class EncoderHead:
    """A linear layer over embeddings, `weight` (n_labels, n_embd) and `bias` (n_labels,), and perhaps a lexical expert beside it."""

    labels: tuple[str, ...]
    weight: FloatArray
    bias: FloatArray
    calibration: Calibration
    lexical: LexicalExpert | None = None

    @classmethod
    def zero_shot(cls, label_embeddings: FloatArray, labels: Sequence[str]) -> Self:
        """Return the head that answers before any example: the nearest label description, by cosine."""
        weight = np.ascontiguousarray(label_embeddings, np.float32) * np.float32(ZERO_SHOT_SCALE)
        temperature = ZERO_SHOT_SCALE / (ZERO_SHOT_SHARPNESS * math.log(max(len(labels), 2)))
        return cls(tuple(labels), weight, np.zeros(len(labels), np.float32), Calibration(temperature=temperature))

    @classmethod
    def load(cls, directory: Path, manifest: Manifest) -> Self:
        """Read the head of a bundle. Raises OSError, KeyError or ValueError where it is damaged or does not fit the manifest."""
        tensors = load_file(directory / HEAD_FILE)
        weight, bias = (np.ascontiguousarray(tensors[name], np.float32) for name in ("weight", "bias"))
        if weight.ndim != 2 or len(weight) != len(manifest.labels) or bias.shape != (len(weight),):
            raise ValueError(f"the head has {len(weight)} rows for {len(manifest.labels)} labels")
        calibration = Calibration.model_validate_json((directory / CALIBRATION_FILE).read_bytes())
        lexical = None
        if "lexical.weight" in tensors:
            lexicon = Lexicon.load(directory / LEXICON_FILE, tensors["lexical.idf"])
            terms, offset = (tensors[name].astype(np.float32) for name in ("lexical.weight", "lexical.bias"))
            if terms.shape != (len(lexicon.idf), len(weight)) or offset.shape != bias.shape:
                raise ValueError("the lexical expert does not fit the labels and the lexicon")
            lexical = LexicalExpert(lexicon, np.ascontiguousarray(terms), offset)
        return cls(manifest.labels, weight, bias, calibration, lexical)

    def save(self, directory: Path) -> None:
        """Write head and lexicon; the lexical weights in half precision, as there are many. The calibration is the caller's to write."""
        tensors = {"weight": np.ascontiguousarray(self.weight, np.float32), "bias": np.asarray(self.bias, np.float32)}
        if self.lexical is not None:
            tensors["lexical.weight"] = np.ascontiguousarray(self.lexical.weight, np.float16)
            tensors["lexical.bias"] = np.asarray(self.lexical.bias, np.float32)
            tensors["lexical.idf"] = np.asarray(self.lexical.lexicon.idf, np.float32)
            self.lexical.lexicon.save(directory / LEXICON_FILE)
        save_file(tensors, directory / HEAD_FILE)
        (directory / HEAD_FILE).chmod(0o644)  # safetensors writes for the owner alone; the bot may run as another user

    def log_probabilities(self, embeddings: FloatArray, texts: Sequence[str]) -> FloatArray:
        """Return calibrated log-probabilities, shape (n, n_labels), for unit-norm `embeddings` (n, n_embd) of `texts`."""
        encoder = log_softmax(embeddings @ self.weight.T + self.bias)
        lexical = None
        if self.lexical is not None and self.calibration.lexical_weight > 0.0:
            lexical = log_softmax(self.lexical.logits(texts))
        return mix_experts(encoder, lexical, self.calibration)
