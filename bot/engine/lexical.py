"""The lexical expert: TF-IDF over word and character n-grams and a linear layer, in plain numpy.

Counts and weighs exactly as scikit-learn's `TfidfVectorizer` (lower case, sublinear tf, l2 norm per block) without needing it at serving.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Final, Self

import numpy as np

from bot.engine.protocol import FloatArray

MAX_CHARACTERS: Final = 20_000
"""Characters of one text that are counted, half from each end: a pasted log must not hold up an answer."""

MAX_KNOWN_WORDS: Final = 20_000
MAX_KNOWN_LENGTH: Final = 40
"""Bounds of the memory for words met before."""

_WORD: Final = re.compile(r"(?u)\b\w\w+\b")


def cut_ends(text: str) -> str:
    """Return the text, without its middle where it is longer than `MAX_CHARACTERS`."""
    if len(text) <= MAX_CHARACTERS:
        return text
    half = MAX_CHARACTERS // 2
    return f"{text[:half]} {text[-half:]}"


def count_terms(text: str, kind: str, *, min_n: int, max_n: int) -> Counter[str]:
    """Return how often each n-gram occurs. `kind` is "word" or "char_wb" (characters within words, padded by a space)."""
    if kind == "word":
        return _count_words(_WORD.findall(text.lower()), min_n, max_n)
    if kind == "char_wb":
        return _count_characters(text.lower(), min_n, max_n)
    raise ValueError(f"an n-gram kind must be 'word' or 'char_wb', not '{kind}'")


def _count_words(words: Sequence[str], min_n: int, max_n: int) -> Counter[str]:
    counts: Counter[str] = Counter()
    for n in range(min_n, max_n + 1):
        if n == 1:
            counts.update(words)
        else:
            counts.update(" ".join(words[start : start + n]) for start in range(len(words) - n + 1))
    return counts


def _count_characters(text: str, min_n: int, max_n: int) -> Counter[str]:
    return Counter(chain.from_iterable(_cut_word(word, min_n, max_n) for word in text.split()))


def _cut_word(word: str, min_n: int, max_n: int) -> Iterator[str]:
    """Yield the n-grams within one word, with a space at each end."""
    padded = f" {word} "
    for n in range(min_n, max_n + 1):
        for start in range(max(len(padded) - n, 0) + 1):
            yield padded[start : start + n]
        if len(padded) <= n:
            return  # longer n-grams of so short a word are the word itself, counted once


@dataclass(frozen=True)
class Block:
    """One n-gram analyser: its terms have the columns `offset` to `offset + len(columns)`; it is l2-normalised for itself."""

    kind: str
    min_n: int
    max_n: int
    columns: dict[str, int]
    known_words: dict[str, tuple[int, ...]] = field(default_factory=dict, repr=False, compare=False)
    """Columns of the n-grams within words met before: tickets repeat words, and cutting them up is most of the work."""

    def count(self, text: str) -> Counter[int]:
        """Return how often each of the terms occurs, by column."""
        if self.kind == "word":
            counts = count_terms(text, self.kind, min_n=self.min_n, max_n=self.max_n)
            return Counter({self.columns[term]: count for term, count in counts.items() if term in self.columns})
        return Counter(chain.from_iterable(map(self._cut, text.lower().split())))

    def _cut(self, word: str) -> tuple[int, ...]:
        found = self.known_words.get(word)
        if found is None:
            found = tuple(self.columns[term] for term in _cut_word(word, self.min_n, self.max_n) if term in self.columns)
            if len(word) <= MAX_KNOWN_LENGTH:
                if len(self.known_words) >= MAX_KNOWN_WORDS:
                    self.known_words.clear()
                self.known_words[word] = found
        return found


@dataclass(frozen=True)
class Lexicon:
    """All terms and their inverse document frequencies, shape (n_terms,)."""

    blocks: tuple[Block, ...]
    idf: FloatArray

    @classmethod
    def build(cls, blocks: Sequence[tuple[str, int, int, Sequence[str]]], idf: FloatArray) -> Self:
        """Build from (kind, min_n, max_n, terms in column order) per block. Raises ValueError where the counts do not fit."""
        built, offset = [], 0
        for kind, min_n, max_n, terms in blocks:
            built.append(Block(kind, min_n, max_n, {term: offset + place for place, term in enumerate(terms)}))
            offset += len(terms)
        if offset != len(idf):
            raise ValueError(f"the lexicon names {offset} terms but has weights for {len(idf)}")
        return cls(tuple(built), np.ascontiguousarray(idf, np.float32))

    @classmethod
    def load(cls, path: Path, idf: FloatArray) -> Self:
        """Read what `save` wrote. Raises ValueError or KeyError for a malformed file."""
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return cls.build([(block["kind"], *block["n"], block["terms"]) for block in content["blocks"]], idf)

    def save(self, path: Path) -> None:
        """Write the terms; the numbers lie in the head's file."""
        blocks = [{"kind": b.kind, "n": [b.min_n, b.max_n], "terms": list(b.columns)} for b in self.blocks]
        path.write_text(json.dumps({"blocks": blocks}, ensure_ascii=False) + "\n", encoding="utf-8")

    def transform(self, text: str) -> tuple[np.ndarray[Any, np.dtype[np.int64]], FloatArray]:
        """Return the columns of the known terms in a text and their weights; each block has unit norm or no term at all."""
        text = cut_ends(text)
        columns: list[np.ndarray[Any, np.dtype[np.int64]]] = []
        weights: list[FloatArray] = []
        for block in self.blocks:
            counts = block.count(text)
            if not counts:
                continue
            places = np.fromiter(counts.keys(), np.int64, len(counts))
            values = (1.0 + np.log(np.fromiter(counts.values(), np.float64, len(counts)))) * self.idf[places]
            columns.append(places)
            weights.append((values / np.linalg.norm(values)).astype(np.float32))
        if not columns:
            return np.empty(0, np.int64), np.empty(0, np.float32)
        return np.concatenate(columns), np.concatenate(weights)


@dataclass(frozen=True)
class LexicalExpert:
    """A linear layer over a lexicon: `weight` has shape (n_terms, n_labels), `bias` (n_labels,)."""

    lexicon: Lexicon
    weight: FloatArray
    bias: FloatArray

    def logits(self, texts: Sequence[str]) -> FloatArray:
        """Return unnormalised log-probabilities, shape (n, n_labels)."""
        rows = np.empty((len(texts), len(self.bias)), np.float32)
        for row, text in enumerate(texts):
            columns, weights = self.lexicon.transform(text)
            rows[row] = weights @ self.weight[columns] + self.bias
        return rows
