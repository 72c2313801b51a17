"""Cutting long texts and token lists the way both serving and training must: keep the head and the tail, leave out the middle.

Knows nothing of any tokenizer; numbers are tokens or characters as the caller says.
"""

from collections.abc import Sequence
from typing import Final, TypeVar

T = TypeVar("T")
TAIL_SHARE: Final = 4
"""One part in four of what is kept comes from the end: the last lines of a ticket often hold the question."""
CHARACTERS_PER_TOKEN: Final = 32


def cut_middle(items: Sequence[T], limit: int) -> tuple[list[T], bool]:
    """Return at most `limit` items, three quarters from the head and the rest from the tail, and whether any were left out."""
    if len(items) <= limit:
        return list(items), False
    tail = limit // TAIL_SHARE
    head = limit - tail
    return [*items[:head], *items[len(items) - tail :]], True


def cut_text(text: str, limit_tokens: int) -> tuple[str, bool]:
    """Shorten a text far beyond `limit_tokens` tokens before it is tokenised, so that a pasted log cannot hold up the engine."""
    limit = limit_tokens * CHARACTERS_PER_TOKEN
    if len(text) <= limit:
        return text, False
    tail = limit // TAIL_SHARE
    return text[: limit - tail] + "\n" + text[-tail:], True
