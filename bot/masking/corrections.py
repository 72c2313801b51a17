"""What people corrected, applied after the masker: phrases that must be masked, and masked ones that are not personal.

Works on keyed hashes of words, so that no phrase need be readable. Knows nothing of who corrected what.
"""

import asyncio
import hmac
import logging
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import regex
from sqlmodel import Session

from bot.masking.masker import TextMasker
from bot.masking.normalize import normalize
from bot.masking.placeholders import LITERAL, PLACEHOLDER, Masked, PlaceholderMap, Span, replace_spans
from bot.masking.vault import Vault
from db.privacy_tables import CorrectionKind
from db.queries import privacy_corrections
from db.types import MaskedText

logger = logging.getLogger(__name__)

MAX_WORDS: Final = 12
SALT_KEY: Final = "salt"
"""Names the hash key of an installation without a vault key: a secret in the database itself."""
_WORD: Final = regex.compile(r"[\p{L}\p{N}\p{M}_]+")
_MAX_GAP_CHARS: Final = 3
_NAMES: Final = frozenset({"PERSON", "LOCATION", "USERNAME"})
"""Types that the masker may mix up: what is no person is no place either."""


@dataclass(frozen=True)
class PhraseRule:
    """An approved correction."""

    kind: CorrectionKind
    entity: str
    phrase_hash: str
    hash_key: str
    n_words: int


@dataclass(frozen=True)
class Match:
    """Where a phrase stands in a text, in code points of it."""

    start: int
    end: int
    entity: str


@dataclass(frozen=True)
class _Word:
    plain: str
    start: int
    end: int


def split_words(phrase: str) -> list[str]:
    """The words of a phrase in plain form: compatibility forms and case folded, punctuation and invisible characters gone."""
    return [word.plain for word in _read_words(phrase)]


def _read_words(text: str) -> list[_Word]:
    plain = normalize(text)
    found = []
    for match in _WORD.finditer(plain.text):
        start, end = plain.original(match.start(), match.end())
        found.append(_Word(match.group().casefold(), start, end))
    return found


def build_secrets(vault: Vault | None, salt: bytes) -> dict[str, bytes]:
    """Secrets to hash with, by name; the first one is for new hashes. With a vault key nobody without it can try phrases out."""
    derived = {} if vault is None else vault.derive(b"understudy corrections\0" + salt)
    return {**derived, SALT_KEY: salt}


def hash_words(words: Sequence[str], secret: bytes) -> str:
    """The keyed hash of a phrase."""
    return hmac.digest(secret, "\x1f".join(words).encode("utf-8", "replace"), "sha256").hex()[:40]


class Rules:
    """Approved corrections, ready to be looked up. Rules under a key that is not there cannot be and are counted in `n_unreadable`."""

    def __init__(self, rules: Iterable[PhraseRule] = (), secrets: Mapping[str, bytes] | None = None) -> None:
        self._secrets = secrets or {}
        self._rules: dict[tuple[int, str], dict[str, PhraseRule]] = {}
        self.n_unreadable = 0
        for rule in rules:
            if rule.hash_key not in self._secrets:
                self.n_unreadable += 1
                continue
            self._rules.setdefault((rule.n_words, rule.hash_key), {})[rule.phrase_hash] = rule

    def __bool__(self) -> bool:
        return bool(self._rules)

    def only(self, phrase_hash: str) -> "Rules":
        """The rules of one phrase to mask."""
        chosen = [rule for rules in self._rules.values() for rule in rules.values()]
        return Rules((rule for rule in chosen if rule.phrase_hash == phrase_hash), self._secrets)

    def find(self, text: str) -> tuple[list[Match], list[Match]]:
        """Where `text` holds phrases to mask, and where phrases to keep."""
        words = _read_words(text)
        found: dict[CorrectionKind, list[Match]] = {CorrectionKind.MASK: [], CorrectionKind.KEEP: []}
        for (n_words, hash_key), rules in self._rules.items():
            secret = self._secrets[hash_key]
            for first in range(len(words) - n_words + 1):
                window = words[first : first + n_words]
                if any(b.start - a.end > _MAX_GAP_CHARS for a, b in pairwise(window)):
                    continue
                rule = rules.get(hash_words([word.plain for word in window], secret))
                if rule is not None:
                    found[rule.kind].append(Match(window[0].start, window[-1].end, rule.entity))
        return found[CorrectionKind.MASK], found[CorrectionKind.KEEP]


class CorrectedMasker:
    """A masker that also knows what people corrected. `set_rules` takes effect with the next text."""

    def __init__(self, inner: TextMasker, rules: Rules | None = None) -> None:
        self.inner = inner
        self._rules = rules or Rules()
        self._numbering = threading.Lock()

    @property
    def rules(self) -> Rules:
        """The corrections in force."""
        return self._rules

    def set_rules(self, rules: Rules) -> None:
        """Put other corrections in force."""
        self._rules = rules

    def mask(self, text: str, mapping: PlaceholderMap | None = None) -> Masked:
        """As `TextMasker.mask`, with the corrections applied. Blocks."""
        rules = self._rules
        if not rules:
            return self.inner.mask(text, mapping)
        draft = PlaceholderMap() if mapping is None else mapping.copy()
        return self._correct(text, self.inner.mask(text, draft), rules, mapping=mapping)

    async def mask_async(self, text: str, mapping: PlaceholderMap | None = None) -> Masked:
        """As `TextMasker.mask_async`, with the corrections applied."""
        rules = self._rules
        if not rules:
            return await self.inner.mask_async(text, mapping)
        draft = PlaceholderMap() if mapping is None else mapping.copy()
        masked = await self.inner.mask_async(text, draft)
        return await asyncio.to_thread(self._correct, text, masked, rules, mapping=mapping)

    def _correct(self, text: str, masked: Masked, rules: Rules, *, mapping: PlaceholderMap | None) -> Masked:
        """Apply the corrections, and give the numbers anew: a value that is not personal shall have none."""
        to_mask, to_keep = rules.find(text)
        spans = _join([span for span in masked.spans if not _is_kept(span, to_keep)], to_mask)
        with self._numbering:  # two texts of one ticket at once must not both take the next number
            return _rebuild(text, spans, mapping=mapping)


def _is_kept(span: Span, to_keep: Sequence[Match]) -> bool:
    return span.type != LITERAL and any(
        match.start <= span.start and span.end <= match.end and (match.entity == span.type or {match.entity, span.type} <= _NAMES)
        for match in to_keep
    )


def _join(spans: Sequence[Span], to_mask: Sequence[Match]) -> list[Span]:
    """The spans with the matches taken in: what overlaps becomes one span, of the type that the masker found."""
    joined: list[Span] = []
    added = [Span(match.start, match.end, match.entity, 1.0) for match in to_mask]
    found = {(span.start, span.end) for span in spans}
    for span in sorted([*spans, *added], key=lambda s: (s.start, -s.end, (s.start, s.end) not in found)):
        if not joined or span.start >= joined[-1].end:
            joined.append(span)
            continue
        last = joined.pop()
        kind = last.type if (last.start, last.end) in found or (span.start, span.end) not in found else span.type
        joined.append(Span(last.start, max(last.end, span.end), kind, max(last.score, span.score)))
    return joined


def _rebuild(text: str, spans: Sequence[Span], *, mapping: PlaceholderMap | None) -> Masked:
    draft = PlaceholderMap() if mapping is None else mapping.copy()
    masked, surfaces = replace_spans(text, spans, draft)
    if mapping is not None:
        mapping.replace_with(draft)
    return Masked(MaskedText(masked), tuple(spans), surfaces)


def remask(text: str, rules: Rules, mapping: PlaceholderMap) -> MaskedText:
    """A stored masked text with the phrases to mask replaced; its placeholders stay. `mapping` gives and keeps the numbers."""
    parts: list[str] = []
    position = 0
    for match in [*PLACEHOLDER.finditer(text), None]:
        gap = text[position : match.start()] if match is not None else text[position:]
        to_mask, _ = rules.find(gap)
        parts.append(_rebuild(gap, _join([], to_mask), mapping=mapping).text if to_mask else gap)
        if match is not None:
            parts.append(match.group())
            position = match.end()
    return MaskedText("".join(parts))


def load_rules(session: Session, vault: Vault | None) -> Rules:
    """Read the approved corrections. Those hashed under a key that is not set are left out, which is logged."""
    rows = privacy_corrections.list_approved(session)
    salt = privacy_corrections.find_salt(session)
    if not rows or salt is None:
        return Rules()
    found = [PhraseRule(row.kind, row.entity, row.phrase_hash, row.hash_key, row.n_words) for row in rows]
    rules = Rules(found, build_secrets(vault, salt))
    if rules.n_unreadable:
        logger.warning(
            "%d corrections of masking are not in force: UNDERSTUDY_VAULT_KEY lacks the key they were made with",
            rules.n_unreadable,
        )
    return rules
