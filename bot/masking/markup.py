"""Finds the syntax around text in HTML and MIME: which stretches of a text are markup, and what they read as.

Works by offsets on the original text; knows nothing of entity types. Linear in the length of the text, whatever it holds.
"""

import base64
import binascii
import re
from collections.abc import Iterator
from email.errors import HeaderParseError
from email.header import decode_header
from typing import Final

Edit = tuple[int, int, str]
"""A stretch of the original and what stands for it in the plain form."""

_INLINE: Final = frozenset("a abbr b big code em font i label mark s small span strong sub sup tt u wbr".split())
_TAGS: Final = _INLINE | frozenset(
    """address area article aside base blockquote body br button caption center cite col colgroup dd del details div dl dt fieldset figcaption
    figure footer form frame h1 h2 h3 h4 h5 h6 head header hr html iframe img input ins kbd legend li link main map meta nav noscript object ol
    optgroup option p param pre q samp script section select source strike style summary table tbody td template textarea tfoot th thead time
    title tr ul var video""".split()
)
_TAG: Final = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9]{0,11})((?:\s[^<>]{0,4000})?)/?>")
_ATTRIBUTE: Final = re.compile(r"([a-zA-Z_:][\w:.\-]{0,60})\s{0,3}=\s{0,3}(?:\"([^\"]*)\"|'([^']*)'|([^\s\"'>]+))")
# What says how a page looks holds nobody's data; reading it as prose finds names in font lists.
_LOOKS: Final = frozenset(
    """align background bgcolor border cellpadding cellspacing charset class color cols colspan dir face height hspace lang media method rel role
    rows rowspan size sizes style tabindex target type valign vspace width xmlns""".split()
)
# Attributes whose name says nothing about the value.
_UNNAMED: Final = frozenset(
    "action alt aria-description aria-label cite content href id label name placeholder src summary title value".split()
)
_ENCODED_WORD: Final = re.compile(
    r"=\?[\w-]{2,30}\?[bqBQ]\?[^?\s]{1,200}\?=(?:\s{1,3}=\?[\w-]{2,30}\?[bqBQ]\?[^?\s]{1,200}\?=){0,20}"
)
_BASE64_PART: Final = re.compile(
    r"content-transfer-encoding:[ \t]{0,3}base64[^\n]{0,80}\r?\n(?:[\w-]{1,60}:[^\n]{0,400}\r?\n(?:[ \t][^\n]{0,400}\r?\n){0,5}){0,10}"
    r"\r?\n(?P<body>(?:[A-Za-z0-9+/=]{4,200}\r?\n?){1,20000})",
    re.IGNORECASE,
)
_MIN_TEXT_SHARE: Final = 0.9


def markup_edits(text: str) -> list[Edit]:
    """The markup of `text` in reading order, without overlaps."""
    edits: list[Edit] = []
    if "=?" in text:
        edits += _encoded_words(text)
    if "base64" in text or "BASE64" in text or "Base64" in text:
        edits += _base64_parts(text)
    if "<" in text:
        edits += _tags(text)
    edits.sort()
    kept: list[Edit] = []
    for edit in edits:
        if not kept or edit[0] >= kept[-1][1]:
            kept.append(edit)
    return kept


def _encoded_words(text: str) -> Iterator[Edit]:
    for match in _ENCODED_WORD.finditer(text):
        try:
            parts = decode_header(match.group())
            decoded = "".join(part if isinstance(part, str) else part.decode(charset or "ascii") for part, charset in parts)
        except (HeaderParseError, LookupError, UnicodeDecodeError, ValueError):
            continue  # not an encoded word after all: it is read as it stands
        yield match.start(), match.end(), decoded.replace("_", " ")


def _base64_parts(text: str) -> Iterator[Edit]:
    for match in _BASE64_PART.finditer(text):
        try:
            decoded = base64.b64decode("".join(match["body"].split()), validate=True).decode("utf-8")
        except (binascii.Error, UnicodeDecodeError):
            continue  # a picture, not text
        if sum(c.isprintable() or c.isspace() for c in decoded) >= _MIN_TEXT_SHARE * len(decoded):
            yield match.start("body"), match.end("body"), decoded


def _tags(text: str) -> Iterator[Edit]:
    for match in _TAG.finditer(text):
        name = match[2].lower()
        if name not in _TAGS:
            continue
        if not match[3]:
            yield match.start(), match.end(), _seam(text, match.start(), match.end()) if name in _INLINE else "\n"
        else:
            yield from _attributes(match)


def _seam(text: str, start: int, end: int) -> str:
    """What an inline tag reads as: nothing inside a word, a blank where a new word begins ("Hello<b>Ann")."""
    before, after = text[max(0, start - 1) : start], text[end : end + 1]
    return " " if (before.islower() or before in {",", ".", ":", ";", "!", "?"}) and after.isupper() else ""


def _attributes(tag: "re.Match[str]") -> Iterator[Edit]:
    """The syntax of a tag with attributes. Values are left to be read, each on a line of its own, and so is what is no attribute."""
    text, previous = tag.string, ""
    cut, readable = (
        tag.start(),
        tag.start(3),
    )  # syntax not yet given out starts at `cut`; what follows `readable` is not judged yet
    for match in _ATTRIBUTE.finditer(text, tag.start(3), tag.end(3)):
        if text[readable : match.start()].strip():
            if cut < readable:
                yield cut, readable, "\n"
            cut, previous = match.start(), ""
        name = match[1].lower()
        readable = match.end()
        if name not in _LOOKS:
            start, end = match.span(int(match.lastindex or 0))
            yield cut, start, _lead(name, previous)
            cut = end
        previous = name
    if text[readable : tag.end(3)].strip():
        if cut < readable:
            yield cut, readable, "\n"
        cut = tag.end(3)
    yield cut, tag.end(), "\n"


def _lead(name: str, previous: str) -> str:
    """What stands before an attribute's value: data-owner="..." reads as "owner: ...", name="customer" value="..." as "customer: ..."."""
    if name == "value" and previous == "name":
        return ": "
    return "\n" if name in _UNNAMED else f"\n{name.removeprefix('data-')}: "
