"""Decides between findings: refuses implausible ones, cleans the edges of names, spreads names over the text, joins overlaps.

Pure functions on offsets; knows nothing of Presidio or placeholders.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import regex

from bot.masking.lexicon import FIRST_NAME, LAST_NAME, MOSTLY_LOWER, NAME_BITS, PLACE, SEEN_LOWER, Lexicon
from bot.masking.placeholders import ENTITY_TYPES
from bot.masking.recognizers.contact import is_phone
from bot.masking.words import DEMONYMS, NO_NAMES

STRENGTH: Final = {entity: len(ENTITY_TYPES) - index for index, entity in enumerate(ENTITY_TYPES)}
STRENGTH["LOCATION"] = STRENGTH["PERSON"]  # a cue decides between the two, not their order
_VERSION_BEFORE: Final = regex.compile(
    r"\b(?:(?:up|down)grad|updat|migrat|mov)\w+ (?:\w+ ){0,3}(?:from|to) (?:\d[\d.]{1,14} to )?\Z|"
    r"\b(?:v|ver|version|build|firmware|release|rev|revision|driver|patch|bios|os|kernel|update)[.: ]{0,3}(?:to |is |was )?v?$",
    regex.IGNORECASE,
)
_VERSION_AFTER: Final = regex.compile(
    r"\.\d|\w|[ ](?:firmware|release|version|build|driver|patch|update|upgrade|bios|beta|rc\d?)\b", regex.IGNORECASE
)
_BEFORE_VERB: Final = regex.compile(
    r"\b(?:please|pls|can|cannot|can't|could|will|would|should|must|may|don't|didn't|won't|you|we|they|i) \Z", regex.IGNORECASE
)
_BEFORE_NAME: Final = regex.compile(
    r"\b(?:hi|hello|hey|dear|hiya|thanks|thank you|cheers|regards|with|from|by|cc|ask|asked|tell|told|contact|called|named|"
    r"name is|i am|i'm|im|this is),? \Z",
    regex.IGNORECASE,
)
_DETERMINERS: Final = frozenset("my the a an your our his her their this that these those some any no".split())
_THRESHOLDS: Final = {"PHONE_NUMBER": 0.4, "US_SSN": 0.4}
_LONGEST_ABBREVIATION: Final = 4  # U.S., UAE, NYC
_UNANNOUNCED_PHONE: Final = 0.5
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
_LINE: Final = r"[ \t]{0,3}\n[> \t]{0,8}"
_TOWN: Final = r"(\p{Lu}[\w'.\-]{1,24}(?:[ ]\p{Lu}[\w'.\-]{1,24}){0,2})"
# A town behind a comma, or alone on the next line.
_TOWN_AFTER: Final = regex.compile(rf"(?:,[ ]?\n?[ ]?{_TOWN}|{_LINE}{_TOWN}(?=[ \t]{{0,3}}(?:,|\n|\Z)))")
_UNIT_AFTER: Final = regex.compile(
    rf"(?:,?[ ]|,?{_LINE})(?:apt|apto|apartment|suite|ste|unit|flat|floor|fl|room|building|bldg|box"
    r"|piso|puerta|lok|m)\b\.?[ ]?\#?\d{1,5}[A-Za-z]?\b",
    regex.IGNORECASE,
)
_REGION_AFTER: Final = regex.compile(rf"(?:,[ ]|{_LINE},[ ]|[ ]?-[ ]?)[A-Z]{{2,3}}\b(?:,?[ ]\d{{5}}(?:-\d{{3,4}})?\b)?")
# A line that is a country or a town with its code.
_CODE_TOWN_AFTER: Final = regex.compile(
    rf"(?:,?[ ]|,?{_LINE})(?:[A-Z]{{1,2}}-)?(?:\d{{4,5}}|\d\d-\d{{3}}|\d{{3}}[ ]\d\d)[ ]{_TOWN}"
)
_CODE_AFTER: Final = regex.compile(r"[ ]\d{4,6}(?=[ \t]{0,3}(?:\n|\Z))")
_PLOT_BEFORE: Final = regex.compile(
    r"(?<!\w)(?:plot|house|block|villa|shop|lot|no\.|nr\.|unit|flat|door|room)[ ]\#?\Z", regex.IGNORECASE
)
_NUMBER_BEFORE: Final = regex.compile(r"(?:^|[\s>])(\d{1,5}[A-Za-z]?,?[ ])\Z")
_BEFORE_CITY: Final = regex.compile(r"(?:^|[,\n][ ]?)((?:[A-Z]{1,2}-)?\d{4,6}|\d{3}[ ]\d{2}|\d\d-\d{3})[ ]$")
_ADDRESS_PARTS: Final = 4
_KEY_CHARS: Final = 3
_LONGEST_SPREAD: Final = 200
_UNMISTAKABLE: Final = 8
_SPREAD_SCORE: Final = 0.6


@dataclass(frozen=True)
class Finding:
    """A candidate span of one recogniser; offsets in whatever text it was found."""

    start: int
    end: int
    type: str
    score: float
    is_model: bool = False


def is_plausible(finding: Finding, text: str, lexicon: Lexicon) -> bool:
    """Whether a finding survives the score threshold and the checks on its surroundings."""
    if finding.score < _THRESHOLDS.get(finding.type, _DEFAULT_THRESHOLD):
        return False
    value = text[finding.start : finding.end]
    before, after = text[max(0, finding.start - 60) : finding.start], text[finding.end : finding.end + 40]
    if finding.type == "PHONE_NUMBER" and not value[0].isalpha():
        # Presidio's own findings score 0.4; a rule's cue has announced the number.
        return is_phone(value, before, after, is_announced=finding.score > _UNANNOUNCED_PHONE)
    if finding.type == "IP_ADDRESS":
        return _is_address(value, before, after)
    if finding.type == "MAC_ADDRESS":
        return not regex.match(r"\.[0-9a-f]{4}", after, regex.IGNORECASE)
    if finding.is_model:
        return _is_name_like(value, finding.type) and not (value.islower() and _is_ordinary(finding, text, lexicon))
    return finding.type != "PERSON" or not all(word in NO_NAMES for word in value.casefold().split())


def _is_address(value: str, before: str, after: str) -> bool:
    """Refuses versions and C++ names among IP addresses."""
    groups = [group for group in value.split(":") if group]
    if ":" in value and "." not in value and len(groups) < 3:
        return False  # "std::" and "be::"
    return _VERSION_BEFORE.search(before) is None and not _VERSION_AFTER.match(after)


def _is_name_like(value: str, entity: str) -> bool:
    """Refuses what the name model sometimes takes for a name: single letters, identifiers, links, numbers."""
    letters = sum(c.isalpha() for c in value)
    if (
        letters < 2
        or all(word in NO_NAMES for word in value.casefold().split())
        or regex.search(r"[_@#<>={}\\]|://|\w\.\w{2,}\.\w", value)
    ):
        return False
    if entity == "PERSON":
        # Hiragana is grammar, not a name.
        return not any(c.isdigit() for c in value) and not regex.search(r"\p{Hiragana}", value)
    if all(word in DEMONYMS for word in value.casefold().split()):
        return False
    return letters * 3 >= len(value) or " " in value


def _is_ordinary(finding: Finding, text: str, lexicon: Lexicon) -> bool:
    """Whether a stretch in lower case is no name: it stands where a verb does, or holds nothing but other words.

    A word that no list knows stays a name: in chats people write theirs in lower case.
    """
    words = text[finding.start : finding.end].split()
    before = text[max(0, finding.start - 40) : finding.start]
    if _BEFORE_VERB.search(before) or any(word in NO_NAMES for word in words):
        return True
    if finding.type != "PERSON":
        return False
    is_known_word = all(lexicon.bits(word) & (MOSTLY_LOWER | SEEN_LOWER) for word in words)
    return words[0] in _DETERMINERS or (is_known_word and not _BEFORE_NAME.search(before))


def is_everyday(value: str, lexicon: Lexicon) -> bool:
    """Whether a stretch is no name by itself: everyday words in lower case, or one word that neither case nor list speaks for."""
    words = value.split()
    bits = [lexicon.bits(word) for word in words]
    if value.islower():
        return all(b & MOSTLY_LOWER for b in bits)
    return len(words) == 1 and len(value) > _LONGEST_ABBREVIATION and value.isupper() and not bits[0] & NAME_BITS


def as_person(finding: Finding, text: str, lexicon: Lexicon) -> Finding | None:
    """A model's organisation as a person where the list knows its one word as a first name and nothing else; None if it is none."""
    value = text[finding.start : finding.end]
    if " " in value or not value.istitle() or lexicon.bits(value) & ~LAST_NAME != FIRST_NAME:
        return None
    return replace(finding, type="PERSON")


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
        if has_number:
            current = _with_rest(current, text, lexicon)
        elif (match := _CODE_AFTER.match(text[current.end : current.end + 12])) and _starts_line(current.start, text):
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


def _with_rest(address: Finding, text: str, lexicon: Lexicon) -> Finding:
    """A street address with the house number before it, and the flat, town and region behind it."""
    start, end = address.start, address.end
    if match := _NUMBER_BEFORE.search(text[max(0, start - 9) : start]):
        start -= len(match.group(1))
    if match := _PLOT_BEFORE.search(text[max(0, start - 9) : start]):
        start -= len(match.group())
    for _ in range(_ADDRESS_PARTS):
        after = text[end : end + 90]
        match = _UNIT_AFTER.match(after) or _REGION_AFTER.match(after)
        if match is None:
            match = _TOWN_AFTER.match(after) or _CODE_TOWN_AFTER.match(after)
            if match is None or not _is_town(_town(match), lexicon):
                break
        end += match.end()
    return replace(address, start=start, end=end)


def _town(match: "regex.Match[str]") -> str:
    return next(group for group in match.groups() if group)


def _starts_line(position: int, text: str) -> bool:
    return text[max(0, position - 20) : position].rpartition("\n")[2].strip("\t >") == ""


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
    return list(_occurrences(wanted, text))


def _occurrences(wanted: Mapping[str, str], text: str) -> Iterator[Finding]:
    """Where the wanted surfaces stand, leftmost and longest first. Linear in the text, however many surfaces there are."""
    lengths: dict[str, set[int]] = {}
    for surface in wanted:
        if _KEY_CHARS <= len(surface) <= _LONGEST_SPREAD:
            lengths.setdefault(surface[:_KEY_CHARS], set()).add(len(surface))
    ordered = {key: sorted(found, reverse=True) for key, found in lengths.items()}
    position = 0
    while ordered and position < len(text):
        for length in ordered.get(text[position : position + _KEY_CHARS], ()):
            # At the end of the text the slice is shorter than asked for, and may be another wanted surface.
            entity = wanted.get(text[position : position + length]) if position + length <= len(text) else None
            if entity is not None and _stands_alone(entity, text, position, position + length):
                yield Finding(position, position + length, entity, _SPREAD_SCORE, is_model=True)  # weaker than any rule
                position += length - 1
                break
        position += 1


def _stands_alone(entity: str, text: str, start: int, end: int) -> bool:
    """Long numbers and keys are themselves wherever they stand, glued to a word or not; a name must be a word."""
    if entity not in {"PERSON", "LOCATION"} and end - start >= _UNMISTAKABLE:
        return True
    return not (start > 0 and _is_word(text[start - 1])) and not (end < len(text) and _is_word(text[end]))


def _is_word(char: str) -> bool:
    return char.isalnum() or char == "_"


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
        best = max(group, key=lambda f: (STRENGTH[f.type], f.score, not f.is_model, f.end - f.start))
        spans.append(Finding(min(f.start for f in group), max(f.end for f in group), best.type, best.score))
    return spans
