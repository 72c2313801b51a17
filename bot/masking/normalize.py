"""Rewrites text into the plain form the recognisers expect, keeping for every character where it came from.

Undoes what hides personal data: entities, quoted-printable, escapes, zero-width characters, look-alike digits; `markup` does tags and MIME.
"""

import html
import json
import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from bot.masking.markup import Edit, markup_edits

_INVISIBLE: Final = "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\u206a-\u206f\ufeff"
_SPECIAL: Final = re.compile(
    rf"(?P<drop>[{_INVISIBLE}]+|=\r?\n)"
    r"|(?P<entity>&(?:\#\d{1,6}|\#x[0-9a-f]{1,5}|[a-z]{2,8}\d?);)"
    r"|(?P<percent>(?<=\w)%40(?=\w))"
    r"|(?P<quoted>(?:=[0-9A-F]{2}){1,8})"
    r"|(?P<escape>(?:\\u[0-9a-f]{4}){1,40})"
    r"|(?P<wide>[^\x00-\x7f][\u0300-\u036f\u20d0-\u20ff\ufe0f]*|[\x20-\x7e][\u0300-\u036f]+)",
    re.IGNORECASE,
)
_QUOTES_AND_DASHES: Final = str.maketrans(
    {
        "‘": "'", "’": "'", "‚": "'", "‛": "'", "“": '"', "”": '"', "„": '"', "‐": "-", "‑": "-", "‒": "-", "–": "-", "—": "-",
        "−": "-", "﹣": "-", "\u2028": "\n", "\u2029": "\n", "﹫": "@",
    }
)  # fmt: skip


@dataclass(frozen=True)
class Normalized:
    """Plain text and, for each of its characters, the stretch of the original it stands for."""

    text: str
    starts: list[int]
    ends: list[int]

    def original(self, start: int, end: int) -> tuple[int, int]:
        """Original offsets of the plain stretch `start:end`, which must not be empty."""
        return self.starts[start], self.ends[end - 1]


@lru_cache(maxsize=4096)
def _plain_character(cluster: str) -> str:
    """One visible character with its marks: composed, compatibility forms folded, any script's digit as 0-9."""
    folded = unicodedata.normalize("NFKC", cluster).translate(_QUOTES_AND_DASHES)
    return "".join(str(unicodedata.decimal(c)) if c.isdecimal() else " " if c.isspace() and c != "\n" else c for c in folded)


def _entity(found: str) -> str:
    value = html.unescape(found)
    if value == found:
        return found
    return "" if re.fullmatch(rf"[{_INVISIBLE}]*", value) else _plain_character(value)


def _quoted(found: str) -> str:
    # Without a header that says so, only a run of UTF-8 bytes and an @ are quoted characters; "a=FF" in a log is not.
    if len(found) == 3 and found != "=40":
        return found
    try:
        return bytes.fromhex(found.replace("=", "")).decode("utf-8")
    except UnicodeDecodeError:
        return found


def _surely_quoted(found: str) -> str:
    data = bytes.fromhex(found.replace("=", ""))
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _escape(found: str) -> str:
    r"""JSON's \u00e9, as logs and API payloads carry it."""
    value = str(json.loads(f'"{found}"'))
    return found if any("\ud800" <= c <= "\udfff" or not c.isprintable() for c in value) else value


_REPLACEMENTS: Final[dict[str, Callable[[str], str]]] = {
    "drop": lambda _: "",
    "percent": lambda _: "@",
    "entity": _entity,
    "quoted": _quoted,
    "escape": _escape,
    "wide": _plain_character,
}


def _edits(text: str) -> Iterator[Edit]:
    """Every stretch that reads as something else, in order: markup, and the characters between."""
    replacements = _REPLACEMENTS
    if "quoted-printable" in text.lower():
        replacements = {**_REPLACEMENTS, "quoted": _surely_quoted}
    position = 0
    for edit in (*markup_edits(text), (len(text), len(text), "")):
        for match in _SPECIAL.finditer(text, position, edit[0]):
            replacement = replacements[str(match.lastgroup)](match.group())
            if replacement != match.group():
                yield match.start(), match.end(), replacement
        yield edit
        position = edit[1]


def normalize(text: str) -> Normalized:
    """The plain form of `text`."""
    if text.isascii() and not any(c in text for c in "&<=%\\"):
        return Normalized(text, list(range(len(text))), list(range(1, len(text) + 1)))
    parts: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    position = 0
    for start, end, replacement in _edits(text):
        parts += [text[position:start], replacement]
        starts.extend(range(position, start))
        ends.extend(range(position + 1, start + 1))
        starts.extend([start] * len(replacement))
        ends.extend([end] * len(replacement))
        position = end
    parts.append(text[position:])
    starts.extend(range(position, len(text)))
    ends.extend(range(position + 1, len(text) + 1))
    return Normalized("".join(parts), starts, ends)
