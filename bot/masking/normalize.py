"""Rewrites text into the plain form the recognisers expect, keeping for every character where it came from.

Undoes what hides personal data: entities, quoted-printable, zero-width characters, look-alike digits, tags inside words.
"""

import html
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

_INVISIBLE: Final = "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\u206a-\u206f\ufeff"
_INLINE_TAGS: Final = "b|i|u|s|em|strong|span|wbr|font|small|mark|code|tt|sub|sup"
_BLOCK_TAGS: Final = "p|br|div|td|th|tr|li|ul|ol|table|tbody|blockquote|pre|h[1-6]|hr|section|article"
_SPECIAL: Final = re.compile(
    rf"(?P<drop>[{_INVISIBLE}]+|=\r?\n|</?(?:{_INLINE_TAGS})\s?/?>)"
    rf"|(?P<block></?(?:{_BLOCK_TAGS})\s?/?>)"
    r"|(?P<entity>&(?:\#\d{1,6}|\#x[0-9a-f]{1,5}|[a-z]{2,8}\d?);)"
    r"|(?P<percent>(?<=\w)%40(?=\w))"
    r"|(?P<quoted>(?:=[0-9A-F]{2}){2,8}|(?<=\w)=40(?=\w))"
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
    # Only a run of UTF-8 bytes is a quoted character; "a=FF" in a log is not.
    try:
        return bytes.fromhex(found.replace("=", "")).decode("utf-8")
    except UnicodeDecodeError:
        return found


_REPLACEMENTS: Final[dict[str, Callable[[str], str]]] = {
    "drop": lambda _: "",
    "block": lambda _: "\n",
    "percent": lambda _: "@",
    "entity": _entity,
    "quoted": _quoted,
    "wide": _plain_character,
}


def normalize(text: str) -> Normalized:
    """The plain form of `text`."""
    if text.isascii() and not any(c in text for c in "&<=%"):
        return Normalized(text, list(range(len(text))), list(range(1, len(text) + 1)))
    parts: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    position = 0
    for match in _SPECIAL.finditer(text):
        start, end = match.span()
        replacement = _REPLACEMENTS[str(match.lastgroup)](match.group())
        if replacement == match.group():
            continue
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
