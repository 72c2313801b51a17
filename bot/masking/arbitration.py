"""Decides between findings: refuses implausible ones, cleans the edges of names, spreads names over the text, joins overlaps.

Pure functions on offsets; knows nothing of Presidio or placeholders.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import regex

from bot.masking.lexicon import MOSTLY_LOWER, PLACE, SEEN_LOWER, Lexicon
from bot.masking.placeholders import ENTITY_TYPES
from bot.masking.recognizers.contact import is_phone

STRENGTH: Final = {entity: len(ENTITY_TYPES) - index for index, entity in enumerate(ENTITY_TYPES)}
STRENGTH["LOCATION"] = STRENGTH["PERSON"]  # a cue decides between the two, not their order
_VERSION_BEFORE: Final = regex.compile(
    r"\b(?:up|down)grad\w+ (?:\w+ )?(?:from|to) $|"
    r"\b(?:v|ver|version|build|firmware|release|rev|revision|driver|patch|bios|os|kernel|update)[.: ]{0,3}(?:to |is |was )?v?$",
    regex.IGNORECASE,
)
_THRESHOLDS: Final = {"PHONE_NUMBER": 0.4, "US_SSN": 0.4}
_DEFAULT_THRESHOLD: Final = 0.5
_TRAILING: Final = regex.compile(r"(?:'s|[\s,;:!?)\]}>\"'*_|/\\=&-])+$")
_LEADING: Final = regex.compile(r"^[\s,;:!?(\[{<\"'*_|/\\=&.@#-]+")
_BRIDGE: Final = regex.compile(
    r"[\s,.;\-]{0,3}(?:(?:[A-Z]{1,2}-)?\d{3,6}(?:-\d{3,4})?|[A-Z]{2}(?:[ ,]{1,2}\d{5}(?:-\d{4})?)?|\d{2}-\d{3})?[\s,.;\-]{1,3}"
)
_AFTER_ADDRESS: Final = regex.compile(
    r"(?:,?[ \n]{1,2}(?:[A-Z]{2,3},?[ ])?(?:[A-Z]{1,2}-)?(?:\d{4}[ ]?[A-Z]{2}|\d{4,6}(?:-\d{3,4})?|\d{3}[ ]\d{2}|\d\d-\d{3}|"
    r"[A-Z]{1,2}\d[A-Z\d]?[ ]?\d[A-Z]{2}|[A-Z]\d[A-Z][ ]?\d[A-Z]\d)|-\d{6}|[ ]\([A-Z]{2}\))(?![\w-])"
)
_TOWN_AFTER: Final = regex.compile(r",[ \n]{1,2}(\p{Lu}[\w'.\-]{1,24}(?:[ ]\p{Lu}[\w'.\-]{1,24}){0,2})")
_BEFORE_CITY: Final = regex.compile(r"(?:^|[,\n][ ]?)((?:[A-Z]{1,2}-)?\d{4,6}|\d{3}[ ]\d{2}|\d\d-\d{3})[ ]$")


_NO_NAMES: Final = frozenset(
    """iban bic swift ssn dob otp pin cvv cvc vpn mfa sso api url sdk jwt amex visa mastercard maestro paypal host cookie error warning info debug
    status queue billing wifi outlook bitcoin ethereum btc eth eta gold silver platinum premium freemium password
    aadhaar pesel nino steuer steuer-id danke merci gracias grazie""".split()
)
"""Words the name model now and then takes for a name, because they stand where names stand."""


@dataclass(frozen=True)
class Finding:
    """A candidate span of one recogniser; offsets in whatever text it was found."""

    start: int
    end: int
    type: str
    score: float
    is_model: bool = False


def is_plausible(finding: Finding, text: str) -> bool:
    """Whether a finding survives the score threshold and the checks on its surroundings."""
    if finding.score < _THRESHOLDS.get(finding.type, _DEFAULT_THRESHOLD):
        return False
    value = text[finding.start : finding.end]
    before, after = text[max(0, finding.start - 60) : finding.start], text[finding.end : finding.end + 40]
    if finding.type == "PHONE_NUMBER" and not value[0].isalpha():
        return is_phone(value, before, after)
    if finding.type == "IP_ADDRESS":
        return _is_address(value, before, after)
    if finding.type == "MAC_ADDRESS":
        return not regex.match(r"\.[0-9a-f]{4}", after, regex.IGNORECASE)
    if finding.is_model:
        return _is_name_like(value, finding.type)
    return True


def _is_address(value: str, before: str, after: str) -> bool:
    """Refuses versions and C++ names among IP addresses."""
    groups = [group for group in value.split(":") if group]
    if ":" in value and "." not in value and len(groups) < 3:
        return False  # "std::" and "be::"
    return _VERSION_BEFORE.search(before) is None and not regex.match(r"\.\d|\w", after)


def _is_name_like(value: str, entity: str) -> bool:
    """Refuses what the name model sometimes takes for a name: single letters, identifiers, links, numbers."""
    letters = sum(c.isalpha() for c in value)
    if letters < 2 or value.casefold() in _NO_NAMES or regex.search(r"[_@#<>={}\\]|://|\w\.\w{2,}\.\w", value):
        return False
    if entity == "PERSON":
        return not any(c.isdigit() for c in value)
    return letters * 3 >= len(value) or " " in value


def is_everyday(value: str, lexicon: Lexicon) -> bool:
    """Whether a stretch is written in lower case and made of everyday words only: no name by itself."""
    words = value.split()
    return value.islower() and all(lexicon.bits(word) & MOSTLY_LOWER for word in words)


def clean(finding: Finding, text: str) -> list[Finding]:
    """The finding without blanks and punctuation at its edges; a person over several lines is several persons."""
    if finding.type not in {"PERSON", "LOCATION"}:
        return [finding]
    pieces = [(finding.start, finding.end)]
    if finding.type == "PERSON":
        pieces = [
            (finding.start + m.start(), finding.start + m.end())
            for m in regex.finditer(r"[^\n\r\t]+", text[finding.start : finding.end])
        ]
    cleaned = []
    for start, end in pieces:
        value = text[start:end]
        value = value[: len(value) - len(m.group())] if (m := _TRAILING.search(value)) else value
        skipped = len(m.group()) if (m := _LEADING.match(value)) else 0
        if len(value) - skipped >= 2:
            cleaned.append(replace(finding, start=start + skipped, end=start + len(value)))
    return cleaned


def grow_address(findings: Sequence[Finding], text: str, lexicon: Lexicon) -> list[Finding]:
    """Places joined over the post codes and commas between them, and with the post code or town that follows a street."""
    grown: list[Finding] = []
    for finding in sorted(findings, key=lambda f: f.start):
        current = finding
        if match := _BEFORE_CITY.search(text[max(0, finding.start - 12) : finding.start]):
            current = replace(current, start=finding.start - (match.end() - match.start(1)))
        has_number = any(c.isdigit() for c in text[current.start : current.end])
        if (
            has_number
            and (match := _TOWN_AFTER.match(text[current.end : current.end + 60]))
            and _is_town(match.group(1), lexicon)
        ):
            current = replace(current, end=current.end + match.end())
        if match := _AFTER_ADDRESS.match(text[current.end : current.end + 16]):
            is_code = (
                has_number or match.group().strip(", \n-(")[0].isalpha() or (grown and 0 <= current.start - grown[-1].end < 4)
            )
            current = replace(current, end=current.end + match.end()) if is_code else current
        if grown and current.start >= grown[-1].end and _BRIDGE.fullmatch(text[grown[-1].end : current.start]):
            current = replace(grown.pop(), end=current.end)
        grown.append(current)
    return grown


def _is_town(value: str, lexicon: Lexicon) -> bool:
    return not any(lexicon.bits(word) & SEEN_LOWER and not lexicon.bits(word) & PLACE for word in regex.split(r"[ \-]", value))


def spread(known: Iterable[tuple[str, str]], text: str, is_name: Callable[[str], bool]) -> list[Finding]:
    """Every further place where a value found once stands again: whole values, and for persons each part that is clearly a name."""
    wanted: dict[str, str] = {}
    for entity, surface in known:
        words = surface.split()
        if entity == "PERSON":
            if len(words) > 1 or is_name(surface):
                wanted.setdefault(surface, entity)
            wanted.update({w: entity for w in words if len(w) > 2 and w[0].isupper() and is_name(w) and w not in wanted})
        elif entity == "LOCATION":
            if len(words) > 1:
                wanted.setdefault(surface, entity)
        elif len(surface) >= 6:
            wanted.setdefault(surface, entity)
    if not wanted:
        return []
    # Long numbers and keys are themselves wherever they stand, glued to a word or not; a name must be a word.
    patterns = [
        regex.escape(surface)
        if wanted[surface] not in {"PERSON", "LOCATION"} and len(surface) >= 8
        else rf"(?<!\w){regex.escape(surface)}(?!\w)"
        for surface in sorted(wanted, key=len, reverse=True)
    ]
    found = regex.finditer("|".join(patterns), text)
    return [Finding(m.start(), m.end(), wanted[m.group()], 0.6) for m in found]


def resolve(findings: Iterable[Finding]) -> list[Finding]:
    """Overlapping findings joined into one span each, typed by the strongest member. Nothing found is left bare."""
    joined: list[list[Finding]] = []
    end = -1
    for finding in sorted(findings, key=lambda f: (f.start, -f.end)):
        if joined and finding.start < end:
            joined[-1].append(finding)
        else:
            joined.append([finding])
            end = finding.end
        end = max(end, finding.end)
    spans = []
    for group in joined:
        best = max(group, key=lambda f: (STRENGTH[f.type], not f.is_model, f.score, f.end - f.start))
        spans.append(Finding(min(f.start for f in group), max(f.end for f in group), best.type, best.score))
    return spans
