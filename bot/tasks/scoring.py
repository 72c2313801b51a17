"""How close a summary is to a reference: word overlap, for feedback, training targets and the gate alike.

Knows nothing of models; both measures ignore case and punctuation.
"""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Final

_WORD: Final = re.compile(r"<[A-Z][A-Z_]*_\d+>|\w+")


def split_words(text: str) -> list[str]:
    """Return lower-case words; a placeholder such as `<PERSON_1>` is one word."""
    return [word.lower() for word in _WORD.findall(text)]


def unigram_f1(text: str, reference: str) -> float:
    """Return the F1 of shared words (with multiplicity) in [0, 1]."""
    words, wanted = Counter(split_words(text)), Counter(split_words(reference))
    return _f1((words & wanted).total(), n_text=words.total(), n_reference=wanted.total())


def rouge_l(text: str, reference: str) -> float:
    """Return ROUGE-L: the F1 of the longest common subsequence of words, in [0, 1]."""
    words, wanted = split_words(text), split_words(reference)
    return _f1(_count_common(words, wanted), n_text=len(words), n_reference=len(wanted))


def _f1(n_common: int, *, n_text: int, n_reference: int) -> float:
    return 2 * n_common / (n_text + n_reference) if n_common else 0.0


def _count_common(first: Sequence[str], second: Sequence[str]) -> int:
    row = [0] * (len(second) + 1)
    for word in first:
        previous = 0
        for column, other in enumerate(second, start=1):
            kept = row[column]
            row[column] = previous + 1 if word == other else max(row[column], row[column - 1])
            previous = kept
    return row[-1]
