"""Placeholders `<TYPE_n>`: their grammar, the numbering kept per ticket, and what one masked text carries.

Knows nothing of how entities are found.
"""

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from db.types import MaskedText

LITERAL: Final = "LITERAL"
"""The type given to text of the user that only looks like a placeholder."""

ENTITY_TYPES: Final = (
    "SECRET",
    "EMAIL_ADDRESS",
    "IBAN_CODE",
    "CREDIT_CARD",
    "CVV",
    "BANK_ACCOUNT",
    "CRYPTO",
    "US_SSN",
    "NATIONAL_ID",
    "PASSPORT",
    "DRIVER_LICENSE",
    "DATE_OF_BIRTH",
    "IP_ADDRESS",
    "MAC_ADDRESS",
    "USERNAME",
    "PHONE_NUMBER",
    "LOCATION",
    "PERSON",
    "CUSTOMER_NUMBER",
    "INVOICE_NUMBER",
    "ORDER_NUMBER",
    "TICKET_NUMBER",
    "HEALTH",
    LITERAL,
)
"""Every type a placeholder can have; where two findings overlap, the earlier type wins."""

KEPT_BY_DEFAULT: Final = frozenset({"CUSTOMER_NUMBER", "INVOICE_NUMBER", "ORDER_NUMBER", "TICKET_NUMBER", "HEALTH"})
"""Types that are left in the text unless the settings say otherwise: support work needs its own numbers."""

PLACEHOLDER: Final = re.compile(rf"<({'|'.join(ENTITY_TYPES)})_([1-9]\d{{0,5}})>")
"""The one form the masker writes."""

_SPELLINGS: Final = "|".join(ENTITY_TYPES).replace("_", r"\s?\\?[_ ]\s?")

TOLERANT: Final = re.compile(
    rf"(?:&lt;|&#60;|(?P<escaped>\\)?<)\s{{0,3}}(?P<type>{_SPELLINGS})"
    # A lone backslash before "<" belongs to the text: C:\\Users\\<USERNAME_1>
    r"\s?\\?[_ \-]\s?(?P<number>\d{1,9})\s{0,3}(?:&gt;|&#62;|(?(escaped)\\>|>))",
    re.IGNORECASE,
)
"""The forms in which a model may give a placeholder back."""

_LOOSE: Final = "|".join(t for t in ENTITY_TYPES if t not in KEPT_BY_DEFAULT).replace("_", r"[\s\\]{0,2}[_ \-]\s?")
# "(order number 12)" is how people write; of these types only the form with an underscore imitates a placeholder.
_STRICT: Final = "|".join(sorted(KEPT_BY_DEFAULT)).replace("_", r"\\?_")
LOOKALIKE: Final = re.compile(
    r"\$?(?:[<\[{(«‹〈⟨＜]\s{0,3}){1,3}[\\/]?(?:"
    rf"(?:{_LOOSE})\s?[\\]?[_ \-#:]\s?|(?:{_STRICT})\\?_)\d{{1,9}}(?:\s{{0,3}}[>\]}})»›〉⟩＞]){{0,3}}",
    re.IGNORECASE,
)
"""Anything a reader or a lenient parser could take for a placeholder: any bracket, any case, braces, no closing bracket needed."""

_DIGITS_ONLY: Final = frozenset({"PHONE_NUMBER", "CREDIT_CARD", "CVV", "BANK_ACCOUNT", "US_SSN"})
_COMPACT: Final = frozenset(
    {"IBAN_CODE", "NATIONAL_ID", "PASSPORT", "DRIVER_LICENSE", "MAC_ADDRESS"} | KEPT_BY_DEFAULT - {"HEALTH"}
)
_FOLDED: Final = frozenset({"PERSON", "LOCATION", "EMAIL_ADDRESS", "USERNAME", "DATE_OF_BIRTH", "HEALTH"})


class MaskingError(Exception):
    """Masking failed, so the text must be withheld. The message never contains any of the text."""


@dataclass(frozen=True)
class Span:
    """A masked stretch of the original text; offsets count code points."""

    start: int
    end: int
    type: str
    score: float


def canonical(entity: str, surface: str) -> str:
    """The form under which two spellings of a value count as one."""
    text = unicodedata.normalize("NFKC", surface)
    if entity in _DIGITS_ONLY:
        digits = "".join(str(unicodedata.digit(c)) for c in text if c.isdigit())
        return digits or " ".join(text.casefold().split())
    if entity in _COMPACT:
        return "".join(c for c in text.upper() if c.isalnum())
    if entity in _FOLDED:
        return " ".join(text.casefold().split())
    return surface


def type_of(written: str) -> str:
    """The entity type a tolerant match spelled, whatever its case and separators."""
    return re.sub(r"[\s\\_]+", "_", written.upper())


@dataclass
class PlaceholderMap:
    """Which value has which number in one ticket. Share one map between title, turns and edits of a ticket.

    Holds raw personal data: keep it in memory or in the vault, nowhere else.
    """

    entries: dict[tuple[str, str], tuple[int, str]] = field(default_factory=dict)
    _counters: Counter[str] = field(default_factory=Counter, repr=False, compare=False)
    _numbered: dict[tuple[str, int], str] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        for (entity, _), (number, surface) in self.entries.items():
            self._counters[entity] = max(self._counters[entity], number)
            self._numbered[entity, number] = surface

    def __repr__(self) -> str:
        return f"PlaceholderMap({len(self.entries)} values)"  # never the values: this may end up in a log

    def placeholder(self, entity: str, surface: str) -> str:
        """The placeholder of a value, numbered on first sight."""
        key = (entity, canonical(entity, surface))
        if key not in self.entries:
            self._counters[entity] += 1
            self.entries[key] = (self._counters[entity], surface)
            self._numbered[entity, self._counters[entity]] = surface
        return f"<{entity}_{self.entries[key][0]}>"

    def expect(self, entity: str, surface: str) -> None:
        """Name a value that is known beforehand (the requester's name): it will be masked wherever it turns up."""
        if entity not in ENTITY_TYPES:
            raise ValueError(f"unknown entity type {entity!r}; known: {', '.join(ENTITY_TYPES)}")
        if surface.strip():
            self.placeholder(entity, surface.strip())

    def surface(self, entity: str, number: int) -> str | None:
        """The first spelling of a numbered value, None if the number was never given."""
        return self._numbered.get((entity, number))

    def copy(self) -> "PlaceholderMap":
        """An independent copy."""
        return PlaceholderMap(dict(self.entries))

    def replace_with(self, other: "PlaceholderMap") -> None:
        """Take over all numbers of `other`."""
        self.entries, self._counters, self._numbered = dict(other.entries), other._counters.copy(), dict(other._numbered)

    def to_json(self) -> str:
        """The map as JSON, for the vault."""
        return json.dumps([[entity, key, number, surface] for (entity, key), (number, surface) in self.entries.items()])

    @classmethod
    def from_json(cls, text: str) -> "PlaceholderMap":
        """The map that `to_json` wrote. Raises ValueError, without the content, if it is anything else."""
        try:
            entries = {(str(e), str(k)): (int(n), str(s)) for e, k, n, s in json.loads(text)}
        except (TypeError, ValueError):
            entries = None
        if entries is None:
            raise ValueError("not a placeholder map: expected the JSON that PlaceholderMap.to_json writes")
        return cls(entries)


@dataclass(frozen=True)
class Masked:
    """One masked text. `surfaces` pairs each placeholder, in order, with exactly what it replaced."""

    text: MaskedText
    spans: tuple[Span, ...]
    surfaces: tuple[tuple[str, str], ...]

    def __repr__(self) -> str:
        return f"Masked({len(self.text)} characters, {len(self.spans)} spans)"  # surfaces are raw text: keep them out of logs


def replace_spans(text: str, spans: Iterable[Span], mapping: PlaceholderMap) -> tuple[str, tuple[tuple[str, str], ...]]:
    """Return the text with a placeholder in place of each span, and (placeholder, surface) of each in order; `mapping` gives the numbers."""
    parts: list[str] = []
    surfaces: list[tuple[str, str]] = []
    position = 0
    for span in spans:
        surface = text[span.start : span.end]
        placeholder = mapping.placeholder(span.type, surface)
        parts += [text[position : span.start], placeholder]
        surfaces.append((placeholder, surface))
        position = span.end
    return "".join([*parts, text[position:]]), tuple(surfaces)
