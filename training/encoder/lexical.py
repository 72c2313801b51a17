"""Fits the lexical expert: which n-grams count, and a softmax regression over their TF-IDF weights.

The counting itself is the serving code's (`bot.engine.lexical`), so both sides see the same features.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from scipy.sparse import csr_matrix

from bot.engine.lexical import LexicalExpert, Lexicon, count_terms, cut_ends
from training.encoder.linear import Bool, Float, Targets, fit_softmax

BLOCKS: Final = (("word", 1, 2), ("char_wb", 3, 5))
MIN_TICKETS: Final = 2
"""A term must occur in this many tickets: what one person alone wrote is not stored."""
MAX_WEIGHTS: Final = 2_000_000
MAX_TERMS: Final = 60_000
INVERSE_STRENGTH: Final = 30.0
NEAR_DUPLICATE: Final = 0.7
_ABSENT_MARGIN: Final = 1.0


def build_lexicon(texts: Sequence[str], *, n_labels: int) -> Lexicon:
    """Choose the terms, most frequent first, and weigh them by (smoothed) inverse document frequency."""
    most = int(np.clip(MAX_WEIGHTS // max(n_labels, 1), 5_000, MAX_TERMS)) // len(BLOCKS)
    chosen: list[tuple[str, int, int, list[str]]] = []
    found: list[int] = []
    cut = [cut_ends(text) for text in texts]
    for kind, min_n, max_n in BLOCKS:
        tickets: Counter[str] = Counter()
        for text in cut:
            tickets.update(count_terms(text, kind, min_n=min_n, max_n=max_n).keys())
        ranked = sorted((item for item in tickets.items() if item[1] >= MIN_TICKETS), key=lambda item: (-item[1], item[0]))[:most]
        terms = sorted(ranked)
        chosen.append((kind, min_n, max_n, [term for term, _ in terms]))
        found += [count for _, count in terms]
    idf = np.log((1.0 + len(texts)) / (1.0 + np.array(found, np.float64))) + 1.0
    return Lexicon.build(chosen, idf.astype(np.float32))


def build_matrix(lexicon: Lexicon, texts: Sequence[str]) -> Any:
    """Return the TF-IDF features of texts as a sparse matrix, shape (n, n_terms)."""
    rows = [lexicon.transform(text) for text in texts]
    starts = np.concatenate([[0], np.cumsum([len(columns) for columns, _ in rows])])
    columns = np.concatenate([columns for columns, _ in rows]) if rows else np.empty(0, np.int64)
    values = np.concatenate([weights for _, weights in rows]) if rows else np.empty(0, np.float32)
    return csr_matrix((values.astype(np.float64), columns, starts), shape=(len(texts), len(lexicon.idf)))


def find_unlike(known: Sequence[str], texts: Sequence[str]) -> Bool:
    """Return which texts have no near-duplicate among the known ones; all of them where that would leave less than half.

    Tickets that repeat a learnt one are answered well and surely; counted in the calibration, they make it too sure of new ones.
    """
    lexicon = build_lexicon(known, n_labels=1)
    if not texts or len(lexicon.idf) == 0:
        return np.ones(len(texts), bool)
    likeness = np.asarray((build_matrix(lexicon, texts) @ build_matrix(lexicon, known).T).max(axis=1).todense()).ravel()
    is_unlike: Bool = likeness < NEAR_DUPLICATE * len(BLOCKS)  # each block has unit norm
    return is_unlike if 2 * int(is_unlike.sum()) >= len(texts) else np.ones(len(texts), bool)


def fit_expert(texts: Sequence[str], targets: Targets, *, is_absent: Bool) -> LexicalExpert | None:
    """Fit the expert on all texts; None where they share no term. Labels in `is_absent` get less than the average label's prior."""
    lexicon = build_lexicon(texts, n_labels=len(is_absent))
    if len(lexicon.idf) == 0:
        return None
    start: tuple[Float, Float] = (np.zeros((len(is_absent), len(lexicon.idf))), np.zeros(len(is_absent)))
    strength = 1.0 / (INVERSE_STRENGTH * max(len(targets), 1))
    weight, bias = fit_softmax(build_matrix(lexicon, texts), targets, start=start, l2=strength, is_fixed=is_absent, max_steps=100)
    if is_absent.any() and not is_absent.all():
        bias[is_absent] = bias[~is_absent].mean() - _ABSENT_MARGIN
    half = np.ascontiguousarray(weight.T.astype(np.float16).astype(np.float32))  # as it will be stored
    return LexicalExpert(lexicon, half, bias.astype(np.float32))
