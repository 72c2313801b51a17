"""How true a summary is to its ticket, and how much a person had to change: no number, name or placeholder may come from nowhere.

Pure text; the measures of overlap are in `bot.tasks.scoring`.
"""

import re
from collections.abc import Sequence

from bot.tasks.scoring import split_words

_PLACEHOLDER = re.compile(r"<[A-Z][A-Z_]*_\d+>")
_NUMBER = re.compile(r"\d+(?:[.,:]\d+)*")
_NAME = re.compile(r"(?<![\w<])[A-Z][\w'’-]+")
_SENTENCE_END = re.compile(r"[.!?:;\n]\s*$")


def find_unsupported(summary: str, ticket: str) -> list[str]:
    """Return what the summary states and the ticket lacks, in order: placeholders, numbers, and words written as names.

    A capital at the beginning of a sentence is no name. Numbers are compared without separators of thousands, names without case.
    """
    known = set(_PLACEHOLDER.findall(ticket))
    numbers = {_normalise(number) for number in _NUMBER.findall(_PLACEHOLDER.sub(" ", ticket))}
    words = set(split_words(ticket))
    found = [text for text in _PLACEHOLDER.findall(summary) if text not in known]
    plain = _PLACEHOLDER.sub(" ", summary)
    found += [text for text in _NUMBER.findall(plain) if _normalise(text) not in numbers]
    for match in _NAME.finditer(plain):
        is_first = not plain[: match.start()].strip() or _SENTENCE_END.search(plain[: match.start()]) is not None
        if not is_first and not set(split_words(match.group())) <= words:
            found.append(match.group())
    return found


def _normalise(number: str) -> str:
    return re.sub(r"[.,](?=\d{3}\b)", "", number).replace(",", ".")


def measure_edit_distance(text: str, reference: str) -> float:
    """Return the words to add, drop or change between the two, as a share of the longer one, in [0, 1]; 0 where both are empty."""
    words, wanted = split_words(text), split_words(reference)
    longest = max(len(words), len(wanted))
    return _count_edits(words, wanted) / longest if longest else 0.0


def _count_edits(first: Sequence[str], second: Sequence[str]) -> int:
    row = list(range(len(second) + 1))
    for place, word in enumerate(first, start=1):
        diagonal, row[0] = row[0], place
        for column, other in enumerate(second, start=1):
            cost = min(row[column] + 1, row[column - 1] + 1, diagonal + (word != other))
            diagonal, row[column] = row[column], cost
    return row[-1]
