"""The word list (names, places, common words) that the name model reads as a feature.

Holds only the mapping from a case-folded word to a few bits; knows nothing of spaCy, of spans or of how the list was made.
"""

import gzip
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

FIRST_NAME: Final = 1
LAST_NAME: Final = 2
PLACE: Final = 4
COUNTRY: Final = 8
SEEN_LOWER: Final = 16  # met in lower case in ordinary text
MOSTLY_LOWER: Final = 32  # met in lower case more often than not

NAME_BITS: Final = FIRST_NAME | LAST_NAME | PLACE | COUNTRY
FILE_NAME: Final = "lexicon.tsv.gz"


def fold(word: str) -> str:
    """The form under which a word is looked up: composed, case-folded, without a trailing possessive."""
    folded = unicodedata.normalize("NFC", word).casefold()
    return folded[:-2] if folded.endswith(("'s", "’s")) else folded


@dataclass(frozen=True)
class Lexicon:
    """Bits per case-folded word. Unknown words have no bits."""

    words: Mapping[str, int] = field(default_factory=dict)

    def bits(self, word: str) -> int:
        """The bits of `word` in any case, 0 if it is not listed."""
        return self.words.get(fold(word), 0)

    def feature(self, word: str) -> str:
        """The same as a short string: spaCy keeps lexical features as strings."""
        return f"lex{self.bits(word)}"

    def is_name(self, word: str) -> bool:
        """Whether the word is listed as a first or last name and is not mostly an ordinary word."""
        bits = self.bits(word)
        return bool(bits & (FIRST_NAME | LAST_NAME)) and not bits & MOSTLY_LOWER

    def without(self, hidden: Iterable[str]) -> "Lexicon":
        """A copy in which the name and place bits of the `hidden` (folded) words are cleared: used in training."""
        hidden_words = set(hidden)
        return Lexicon({w: (b & ~NAME_BITS if w in hidden_words else b) for w, b in self.words.items()})


def load_lexicon(path: Path) -> Lexicon:
    """Read a gzipped file of `bits<TAB>word word ...` lines. Raises OSError or ValueError if it is missing or damaged."""
    words: dict[str, int] = {}
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            bits, _, listed = line.rstrip("\n").partition("\t")
            value = int(bits)
            for word in listed.split(" "):
                words[word] = value
    return Lexicon(words)


def save_lexicon(lexicon: Lexicon, path: Path) -> None:
    """Write the file that `load_lexicon` reads; the same lexicon always gives the same bytes."""
    by_bits: dict[int, list[str]] = {}
    for word, bits in sorted(lexicon.words.items()):
        if bits and " " not in word:
            by_bits.setdefault(bits, []).append(word)
    content = "".join(f"{bits}\t{' '.join(words)}\n" for bits, words in sorted(by_bits.items()))
    path.write_bytes(gzip.compress(content.encode(), compresslevel=9, mtime=0))
