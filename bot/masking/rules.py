"""What a rule is: an entity type, a pattern with the personal part as group `pii`, and checks on the match.

Pure data and text; knows nothing of Presidio. The rules themselves are in `bot.masking.recognizers`, by theme.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

import regex

Refine = Callable[[str, str, str], tuple[int, int] | None]
"""(value, text before, text after) -> the part of the value to mask, or None if it is no entity after all."""

_CONTEXT_CHARS: Final = 60

ID_BEFORE: Final = regex.compile(
    r"\b(?:order|ticket|invoice|ref(?:erence)?|case|tracking|parcel|shipment|serial|sku|part|product|item|model|imei|article|"
    r"booking|ean|gtin|upc|isbn|issn|asin|gs1|barcode|vin|"
    r"incident|request|quote|po|rma|asset|build|version|revision|commit|job|batch|transaction|receipt|confirmation|customer|"
    r"member|"
    r"subscription|licen[cs]e|bug|issue|error|event|message|task|process|thread|session|timestamp|epoch)s?"
    r"(?:[ _-]{0,2}(?:number|num|no|nr|nbr|id|code|key|ref))?[.]?[ \t]{0,2}(?:is|was|:|=|#|\(|-){0,2}[ \t]{0,2}[#\"'(]{0,2}$",
    regex.IGNORECASE,
)
"""Matches text that ends where an order, ticket or serial number is about to follow."""


@dataclass(frozen=True)
class Rule:
    """One pattern. Cheap ways to skip it: the text must contain one of `needs` (lower-case substrings) and match `gate` somewhere."""

    entity: str
    pattern: str
    score: float = 0.85
    needs: tuple[str, ...] = ()
    refine: Refine | None = None
    ignore_case: bool = True
    gate: str = ""
    compiled: "regex.Pattern[str]" = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        flags = regex.MULTILINE | regex.VERSION1 | (regex.IGNORECASE if self.ignore_case else 0)
        object.__setattr__(self, "compiled", regex.compile(self.pattern, flags))

    @cached_property
    def _gate(self) -> "regex.Pattern[str] | None":
        return regex.compile(self.gate, regex.IGNORECASE) if self.gate else None

    @cached_property
    def _group(self) -> str | int:
        return "pii" if "pii" in self.compiled.groupindex else 0

    def find(self, text: str, lowered: str, timeout_s: float) -> Iterator[tuple[int, int]]:
        """Offsets of the entities in `text`. Raises TimeoutError when the pattern takes longer than `timeout_s`."""
        if self.needs and not any(need in lowered for need in self.needs):
            return
        if self._gate is not None and not self._gate.search(text, timeout=timeout_s):
            return
        for match in self.compiled.finditer(text, timeout=timeout_s):
            for start, end in match.spans(self._group):
                if start == end:
                    continue
                if self.refine is None:
                    yield start, end
                    continue
                before, after = text[max(0, start - _CONTEXT_CHARS) : start], text[end : end + _CONTEXT_CHARS]
                part = self.refine(text[start:end], before, after)
                if part is not None:
                    yield start + part[0], start + part[1]


def unless_number_of_something(value: str, before: str, _after: str) -> tuple[int, int] | None:
    """Refuses a value that is announced as an order, ticket or serial number."""
    return None if ID_BEFORE.search(before) else (0, len(value))


def has_digit(value: str, before: str, after: str) -> tuple[int, int] | None:  # noqa: ARG001 - a Refine
    """Accepts values with a digit."""
    return (0, len(value)) if any(c.isdigit() for c in value) else None


def with_digits(count: int) -> Refine:
    """Accepts values with at least `count` digits."""

    def refine(value: str, _before: str, _after: str) -> tuple[int, int] | None:
        return (0, len(value)) if sum(c.isdigit() for c in value) >= count else None

    return refine
