"""Summaries: cutting a ticket into units, an excerpt from scored units, a decoder's prompt, and cleaning what it wrote.

Pure functions; knows nothing of engines or tables. All text that goes in is masked already.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from bot.engine.protocol import FloatArray
from bot.tasks.scoring import split_words
from bot.tasks.ticket import is_customer
from bot.types import Turn
from db.types import MaskedText, TaskKind

SUMMARY_PROMPT_VERSION: Final = "summary-1"
MAX_UNIT_WORDS: Final = 40
MAX_UNITS: Final = 200
MAX_EXCERPT_UNITS: Final = 2
MAX_EXCERPT_CHARS: Final = 320
MAX_SUMMARY_CHARS: Final = 800
ELLIPSIS: Final = "…"

_SENTENCE_END: Final = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[\"'(<\[]?[A-Z0-9<])|\s*\n+\s*|(?<=[。！？])")
_PLACEHOLDER: Final = re.compile(r"<[A-Z][A-Z_]*_\d+>")
# What people write around the matter: a unit of these words alone says nothing about the ticket.
_COURTESY: Final = frozenset(
    "a all am and anyone are at bye cheers day dear do doing evening for from good goodbye great greetings have hello hey hi hiya how "
    "i in is it kind many me morning much nice no ok okay please regards sincerely sir so team thank thanks thanx the there this to "
    "today too truly very warm weekend welcome with wishes yes you your yours afternoon agent assistant best help can may".split()
)
_PREAMBLE: Final = re.compile(
    r"^\W*(?:(?:here(?: is|'s)|this is)\b[^\n:]{0,60}:|(?:the )?(?:short )?summary\s*[:\-])\s*", re.IGNORECASE
)
_BULLET: Final = re.compile(r"^\s*(?:[-*•]|\d+[.)])\s+")
_MARKUP: Final = re.compile(r"<\|[^|>]*\|>|</?s>|[*`#]{2,}")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]")


@dataclass(frozen=True)
class Unit:
    """A piece of a ticket that can be shown on its own: a turn, a sentence, or a part of a long one."""

    text: MaskedText
    is_customer: bool


@dataclass(frozen=True)
class SummaryPrompt:
    """A decoder's prompt in three parts; `key` identifies `prefix` and `suffix` for caching."""

    key: str
    prefix: str
    text: MaskedText
    suffix: str


def split_units(text: str, turns: Sequence[Turn] = ()) -> tuple[Unit, ...]:
    """Cut a ticket into units of at most `MAX_UNIT_WORDS` words, in order, without empty ones and mere courtesies.

    Turns, where given, take the place of `text`. A ticket of courtesies alone keeps them; only a blank one gives no unit. Of more than
    `MAX_UNITS` the middle is left out.
    """
    return cut_units(text, turns)[0]


def cut_units(text: str, turns: Sequence[Turn] = ()) -> tuple[tuple[Unit, ...], bool]:
    """Return what `split_units` does, and whether the middle was left out."""
    first = turns[0].speaker if turns else ""
    spoken = [(turn.text, is_customer(turn.speaker, first_speaker=first)) for turn in turns] if turns else [(text, True)]
    units = [Unit(MaskedText(piece), own) for part, own in spoken for piece in _split_text(part)]
    units = [unit for unit in units if not _is_courtesy(unit.text)] or units
    is_cut = len(units) > MAX_UNITS
    if is_cut:
        units = [*units[: MAX_UNITS // 2], *units[-MAX_UNITS // 2 :]]
    return tuple(units), is_cut


def _split_text(text: str) -> list[str]:
    flat = " ".join(text.split())
    if len(flat.split()) <= MAX_UNIT_WORDS and "\n" not in text.strip() and len(_SENTENCE_END.findall(flat)) == 0:
        return [flat] if flat else []
    sentences = [" ".join(part.split()) for part in _SENTENCE_END.split(text) if part and part.strip()]
    return [piece for sentence in sentences for piece in _cut_long(sentence)]


def _cut_long(sentence: str) -> list[str]:
    words = sentence.split()
    n_pieces = -(-len(words) // MAX_UNIT_WORDS)
    size = -(-len(words) // max(n_pieces, 1))
    return [" ".join(words[start : start + size]) for start in range(0, len(words), size)] if words else []


def _is_courtesy(text: str) -> bool:
    # A sign-off is courtesy and names: the placeholders of masked names count as neither.
    return all(word in _COURTESY for word in split_words(_PLACEHOLDER.sub(" ", text)))


def pick_units(units: Sequence[Unit], scores: FloatArray, *, max_units: int = MAX_EXCERPT_UNITS) -> tuple[int, ...]:
    """Return the places of the highest-scored units, in the ticket's order; of two that say the same, the better one."""
    picked: list[int] = []
    said: list[frozenset[str]] = []
    for index in np.argsort(-np.asarray(scores, dtype=np.float32), kind="stable"):
        words = frozenset(split_words(units[int(index)].text))
        if any(words <= other or other <= words for other in said):
            continue
        picked.append(int(index))
        said.append(words)
        if len(picked) == max_units:
            break
    return tuple(sorted(picked))


def build_excerpt(
    units: Sequence[Unit], scores: FloatArray, *, max_units: int = MAX_EXCERPT_UNITS, max_chars: int = MAX_EXCERPT_CHARS
) -> MaskedText:
    """Return the most telling units in the ticket's own words and order; left-out text between them shows as an ellipsis.

    `scores` has shape (n_units,), higher is more telling. The result is empty for no units and never longer than `max_chars`.
    """
    if len(units) != len(scores):
        raise ValueError(f"{len(units)} units but {len(scores)} scores: rank the same units that are shown")
    text, previous = "", -1
    for index in pick_units(units, scores, max_units=max_units):
        gap = "" if not text else (" " if index == previous + 1 else f" {ELLIPSIS} ")
        text += gap + units[index].text
        previous = index
    return MaskedText(_cut_chars(text, max_chars))


def _cut_chars(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    kept = text[: limit - 1]
    # Break between words, so that no placeholder is cut in two and stays behind as junk; a single huge word has to be cut.
    kept = kept.rsplit(" ", 1)[0] if " " in kept else kept
    return kept.rstrip(" ,;:") + ELLIPSIS


def build_summary_prompt(units: Sequence[Unit]) -> SummaryPrompt:
    """Return a decoder's prompt over a ticket's units. Prefix and suffix are the same for every ticket."""
    lines: list[str] = []
    for unit in units:
        speaker = "Customer" if unit.is_customer else "Agent"
        if lines and lines[-1].startswith(f"{speaker}:"):
            lines[-1] += f" {unit.text}"
        else:
            lines.append(f"{speaker}: {unit.text}")
    prefix = (
        "Summarise the support ticket in one or two plain sentences: what the customer wants, what was done, what is open. "
        "Use only what the ticket says and keep placeholders such as <PERSON_1> as they are.\n\nTicket:\n"
    )
    return SummaryPrompt(
        key=f"{TaskKind.SUMMARY}:{SUMMARY_PROMPT_VERSION}",
        prefix=prefix,
        text=MaskedText("\n".join(lines)),
        suffix="\n\nSummary:",
    )


def render_summary_answer(summary: MaskedText) -> str:
    """Return a summary the way a decoder is trained to write it after the prompt: one paragraph, ended by an empty line."""
    return f" {' '.join(summary.split())}\n\n"


def parse_summary(text: str) -> MaskedText:
    """Clean what a decoder wrote: no preamble, markup, bullets or control characters, one paragraph of bounded length.

    The text a decoder wrote comes from a masked prompt; it is masked as its prompt was.
    """
    text = _CONTROL.sub("", _MARKUP.sub("", text)).strip()
    text = _PREAMBLE.sub("", text)
    paragraph = text.split("\n\n", 1)[0]
    lines = [_BULLET.sub("", line).strip() for line in paragraph.splitlines()]
    joined = " ".join(" ".join(lines).split()).strip("\"' ")
    return MaskedText(_cut_chars(joined, MAX_SUMMARY_CHARS))
