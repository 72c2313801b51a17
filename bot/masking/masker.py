"""The masker: normalise, find, decide, replace, check. The only maker of `MaskedText`.

Never returns unmasked text: whatever goes wrong becomes a `MaskingError` that says nothing of the text.
"""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, Protocol

from bot.masking.arbitration import Finding, clean, grow_address, is_everyday, resolve, spread
from bot.masking.imports import blocked_heavy_imports, keep_tldextract_offline
from bot.masking.lexicon import FILE_NAME, load_lexicon
from bot.masking.normalize import Normalized, normalize
from bot.masking.placeholders import (
    LITERAL,
    LOOKALIKE,
    PLACEHOLDER,
    TOLERANT,
    Masked,
    MaskingError,
    PlaceholderMap,
    Span,
    replace_spans,
)
from bot.masking.recognizers import build_rules
from bot.masking.settings import MaskingSettings
from bot.masking.tripwires import residual
from db.types import MaskedText

SHIPPED_MODEL: Final = Path(__file__).with_name("model")
_OVERLAP_CHARS: Final = 200


class TextMasker(Protocol):
    """What callers need of a masker, wherever it works: in this process (`Masker`) or in others (`MaskerPool`)."""

    def mask(self, text: str, mapping: PlaceholderMap | None = None) -> Masked:
        """`text` with every entity replaced. Blocks. Raises MaskingError; `mapping` is then unchanged."""
        ...

    async def mask_async(self, text: str, mapping: PlaceholderMap | None = None) -> Masked:
        """`mask` without blocking the event loop."""
        ...


class Masker:
    """Masks personal data and secrets. Building loads the pipeline (about two seconds); one instance serves all threads."""

    def __init__(self, settings: MaskingSettings) -> None:
        self._settings = settings
        self._allowed = frozenset(" ".join(name.casefold().split()) for name in settings.allow_list)
        self._lock = threading.Lock()
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="masker")
        model_dir = settings.model_dir or SHIPPED_MODEL
        try:
            self._lexicon = load_lexicon(model_dir / FILE_NAME)
            self._analyzer = self._load_analyzer()
        except (OSError, ValueError) as error:
            raise MaskingError(
                f"cannot load the name model from {model_dir}: {error}. Leave model_dir unset to use the shipped one"
            ) from error
        # The first text pays for libphonenumber's region tables; better now than within somebody's time limit.
        self._analyzer.find("Call +1 202 555 0143 or 020 7946 0958 from 10.0.0.1.", 60.0)

    def _load_analyzer(self) -> Any:
        with blocked_heavy_imports():
            from bot.masking.analysis import Analyzer
            from bot.masking.models import load_models
        keep_tldextract_offline()
        rules = build_rules(self._lexicon, self._settings.is_masked)
        return Analyzer(
            load_models(self._settings, SHIPPED_MODEL), rules, phone_regions=self._settings.phone_regions, lexicon=self._lexicon
        )

    def mask(self, text: str, mapping: PlaceholderMap | None = None) -> Masked:
        """`text` with every entity replaced; `mapping` gives and keeps the ticket's numbers. Blocks: CPU bound.

        Raises MaskingError when the text is too long, analysis fails or takes too long, or something is left that must not be;
        `mapping` is then unchanged.
        """
        if len(text) > self._settings.max_chars:
            raise MaskingError(
                f"the text has {len(text)} characters and max_chars is {self._settings.max_chars}: attach it as a file or raise the limit"
            )
        failure = ""
        with self._lock:
            draft = mapping.copy() if mapping is not None else PlaceholderMap()
            try:
                masked = self._mask(text, draft)
            except MaskingError:
                raise
            except Exception as error:
                failure = type(error).__name__
            else:
                if mapping is not None:
                    mapping.replace_with(draft)
                return masked
        # Raised outside the handler: a chained exception would carry the original message into a log.
        if "Timeout" in failure:
            raise MaskingError("masking took longer than chunk_timeout_ms allows: the text is withheld")
        raise MaskingError(f"masking failed with {failure}: the text is withheld")

    async def mask_async(self, text: str, mapping: PlaceholderMap | None = None) -> Masked:
        """`mask` on the masker's own thread: long tickets queue there and never take the threads that other work needs."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, self.mask, text, mapping)

    def _mask(self, text: str, mapping: PlaceholderMap) -> Masked:
        plain = normalize(text)
        spans = self._spans(text, plain, mapping)
        masked, surfaces = replace_spans(text, spans, mapping)
        if [m.group() for m in TOLERANT.finditer(masked)] != [placeholder for placeholder, _ in surfaces]:
            raise MaskingError("the masked text holds something that reads as a placeholder but is none: the text is withheld")
        left = residual(PLACEHOLDER.sub(" ", masked), self._settings.is_masked)
        if left:
            raise MaskingError(f"the masked text still seems to hold {left}: the text is withheld")
        return Masked(MaskedText(masked), spans, surfaces)

    def _spans(self, text: str, plain: Normalized, mapping: PlaceholderMap) -> tuple[Span, ...]:
        findings = [Finding(m.start(), m.end(), LITERAL, 1.0) for m in LOOKALIKE.finditer(plain.text)]
        for start, chunk in _chunks(plain.text, self._settings.chunk_chars):
            found = self._analyzer.find(chunk, self._settings.chunk_timeout_ms / 1000)
            findings += [Finding(f.start + start, f.end + start, f.type, f.score, f.is_model) for f in found]
        findings = [piece for f in findings for piece in clean(f, plain.text) if self._is_wanted(piece, plain.text)]
        places = grow_address([f for f in findings if f.type == "LOCATION"], plain.text, self._lexicon)
        findings = [f for f in findings if f.type != "LOCATION"] + places
        known = [(f.type, plain.text[f.start : f.end]) for f in findings if f.type != LITERAL]
        known += [(entity, surface) for (entity, _), (_, surface) in mapping.entries.items() if entity != LITERAL]
        again = [f for f in spread(known, plain.text, self._lexicon.is_name) if self._is_wanted(f, plain.text)]
        if dropped := self._settings.first_dropped(finding.type for finding in findings + again):
            raise MaskingError(f"the text holds {dropped}, and the settings say to drop such tickets: it is withheld")
        original = [Finding(m.start(), m.end(), LITERAL, 1.0) for m in TOLERANT.finditer(text)]
        for finding in findings + again:
            if finding.end > finding.start:
                start, end = plain.original(finding.start, finding.end)
                original.append(Finding(start, end, finding.type, finding.score, finding.is_model))
        return tuple(Span(f.start, f.end, f.type, f.score) for f in resolve(original))

    def _is_wanted(self, finding: Finding, text: str) -> bool:
        """Whether settings want this finding masked."""
        if finding.type in {"PERSON", "LOCATION"}:
            value = " ".join(text[finding.start : finding.end].casefold().split())
            if finding.score < self._settings.min_score or value in self._allowed:
                return False
            if finding.is_model and is_everyday(text[finding.start : finding.end], self._lexicon):
                return False
        return self._settings.is_masked(finding.type)


def _chunks(text: str, size: int) -> Iterator[tuple[int, str]]:
    """Pieces of at most `size` characters with their offsets, cut at a blank line, a line end or a space, overlapping a little."""
    start = 0
    while len(text) - start > size:
        window = text[start : start + size]
        cut = (
            max(window.rfind("\n\n", size // 2), 0)
            or max(window.rfind("\n", size // 2), 0)
            or max(window.rfind(" ", size // 2), 0)
            or size
        )
        yield start, window[:cut]
        start += cut - _OVERLAP_CHARS
    yield start, text[start:]
