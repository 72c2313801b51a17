"""Presidio's analyzer over our rules, a few of its own recognisers and the name model: text in, findings out, offline.

Imported only while a masker is being built. Knows nothing of placeholders. Works around faults of presidio-analyzer 2.2.366, each
named where it is.
"""

import copy
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import regex
from presidio_analyzer import AnalyzerEngine, LocalRecognizer, RecognizerRegistry, RecognizerResult, pattern_recognizer
from presidio_analyzer.nlp_engine import NerModelConfiguration, SpacyNlpEngine
from presidio_analyzer.predefined_recognizers import (
    CryptoRecognizer,
    IpRecognizer,
    MacAddressRecognizer,
    PhoneRecognizer,
    SpacyRecognizer,
)
from spacy.language import Language

from bot.masking.arbitration import Finding, as_person, is_plausible
from bot.masking.lexicon import Lexicon
from bot.masking.models import NameModels
from bot.masking.rules import Rule

_LABELS: Final = {
    **dict.fromkeys(("PERSON", "PER"), "PERSON"),
    **dict.fromkeys(("LOCATION", "LOC", "GPE", "FAC"), "LOCATION"),
    **dict.fromkeys(("ORGANIZATION", "ORG"), "ORGANIZATION"),
}
"""What name models call the types; an ORGANIZATION is never masked, but may turn out to be a person."""
_LONG_RUN: Final = regex.compile(r"([^\w\s])\1{63,}|\S{300,}")


# What sticks to a name and hides it from the tokenizer: an emoji behind it, the @ of a mention before it.
_GLUED: Final = regex.compile(r"\p{So}|[\U0001f3fb-\U0001f3ff\ufe0f]|(?<![\w.])@(?=\p{Lu})")


class RegexTimeoutError(Exception):
    """A pattern of Presidio's ran out of time. Not a TimeoutError: Presidio swallows those and returns what it has so far."""


class _StrictPattern:
    """Stands in for a compiled pattern of Presidio's; a time-out is an error instead of an unmasked text."""

    def __init__(self, compiled: Any, deadline: "Deadline") -> None:
        self._compiled = compiled
        self._deadline = deadline

    def finditer(self, text: str, **_: Any) -> Iterator[Any]:
        try:
            yield from self._compiled.finditer(text, timeout=self._deadline.left_s())
        except TimeoutError:
            raise RegexTimeoutError from None


class Deadline:
    """The moment until which the current piece of text must be analysed."""

    def __init__(self) -> None:
        self._at = float("inf")

    def start(self, seconds: float) -> None:
        """Allow `seconds` from now."""
        self._at = time.monotonic() + seconds

    def left_s(self) -> float:
        """Seconds left. Raises RegexTimeoutError when there are none."""
        left = self._at - time.monotonic()
        if left <= 0:
            raise RegexTimeoutError
        return left


class RuleRecognizer(LocalRecognizer):  # type: ignore[misc]  # Presidio is untyped
    """All of our rules as one Presidio recognizer."""

    def __init__(self, rules: tuple[Rule, ...], deadline: Deadline) -> None:
        self._rules = rules
        self._deadline = deadline
        super().__init__(supported_entities=sorted({rule.entity for rule in rules}), supported_language="en", name="rules")

    def load(self) -> None:
        """Rules are compiled already."""

    def analyze(self, text: str, entities: list[str], nlp_artifacts: Any = None) -> list[RecognizerResult]:  # noqa: ARG002 - Presidio calls by these names
        """Findings of every rule."""
        lowered = text.lower()
        return [
            RecognizerResult(rule.entity, start, end, rule.score)
            for rule in self._rules
            for start, end in rule.find(text, lowered, self._deadline.left_s())
        ]


class _LocalNlpEngine(SpacyNlpEngine):  # type: ignore[misc]  # Presidio is untyped
    """A spaCy engine around a pipeline that is in memory already: Presidio's own would look for a download."""

    def __init__(self, models: Mapping[str, Language]) -> None:
        known = {label for nlp in models.values() for name in nlp.pipe_names for label in nlp.pipe_labels.get(name, ())}
        configuration = NerModelConfiguration(
            model_to_presidio_entity_mapping=dict(_LABELS), labels_to_ignore=sorted(known - set(_LABELS))
        )
        names = [{"lang_code": language, "model_name": "local"} for language in models]
        super().__init__(models=names, ner_model_configuration=configuration)
        self.nlp = dict(models)

    def load(self) -> None:
        """Nothing to load."""

    def is_loaded(self) -> bool:
        """Always."""
        return True


class Analyzer:
    """Finds entities in one piece of normalised text. Not thread-safe: its owner holds a lock."""

    def __init__(self, models: NameModels, rules: tuple[Rule, ...], *, phone_regions: tuple[str, ...], lexicon: Lexicon) -> None:
        # Presidio reports every single call at INFO.
        logging.getLogger("presidio-analyzer").setLevel(logging.WARNING)
        self._models = models
        self._lexicon = lexicon
        self._deadline = Deadline()
        # Asked beside the engine: its removal of duplicates is quadratic in the findings,.
        self._rules = RuleRecognizer(rules, self._deadline)
        recognizers = [
            PhoneRecognizer(supported_regions=phone_regions),
            self._strict(IpRecognizer()),
            self._strict(MacAddressRecognizer()),
            self._strict(CryptoRecognizer()),
            SpacyRecognizer(supported_entities=["PERSON", "LOCATION", "ORGANIZATION"]),
        ]
        for recognizer in recognizers:
            # Presidio's context words look at five lemmas, match "lic" in "public" (presidio #1063), lift "order number 4815162342" to a
            # phone and take time quadratic in the findings; `arbitration.is_plausible` looks at the surroundings instead.
            recognizer.context = []
        self._nlp_engine = _LocalNlpEngine(models.pipelines)
        self._engine = AnalyzerEngine(
            # An empty list would load every recognizer Presidio has; this one never is.
            registry=RecognizerRegistry(recognizers=recognizers, supported_languages=["en"]),
            nlp_engine=self._nlp_engine,
            supported_languages=["en"],
        )

    def _strict(self, recognizer: pattern_recognizer.PatternRecognizer) -> pattern_recognizer.PatternRecognizer:
        flags = recognizer.global_regex_flags
        # Presidio's patterns belong to the class: without copies a second masker in the process would set the first one's deadline.
        recognizer.patterns = [copy.copy(pattern) for pattern in recognizer.patterns]
        for pattern in recognizer.patterns:
            pattern.compiled_with_flags = flags  # or Presidio compiles it anew and drops the guard
            pattern.compiled_regex = _StrictPattern(regex.compile(pattern.regex, flags=flags), self._deadline)
        return recognizer

    def find(self, text: str, timeout_s: float) -> list[Finding]:
        """Every plausible finding in `text`, overlaps included. Raises RegexTimeoutError or TimeoutError when time runs out."""
        self._deadline.start(timeout_s)
        language = self._models.language_of(text)
        with self._memory_zone(language):
            artifacts = self._nlp_engine.process_text(_tokenizable(text), language)
            self._deadline.left_s()
            results = self._rules.analyze(text, self._rules.supported_entities)
            # "en" names the recognisers; the artifacts are of the text's own language.
            results += self._engine.analyze(text, language="en", nlp_artifacts=artifacts)
            self._deadline.left_s()
            findings = [Finding(r.start, r.end, r.entity_type, float(r.score), _is_model(r)) for r in results]
        people = (as_person(f, text, self._lexicon) if f.type == "ORGANIZATION" else f for f in findings)
        return [finding for finding in people if finding is not None and is_plausible(finding, text, self._lexicon)]

    @contextmanager
    def _memory_zone(self, language: str) -> Iterator[None]:
        """Frees the words of this text afterwards: spaCy's string store otherwise grows with every new word."""
        with self._models.pipelines[language].memory_zone():
            yield


def _is_model(result: RecognizerResult) -> bool:
    metadata = result.recognition_metadata or {}
    return metadata.get(RecognizerResult.RECOGNIZER_NAME_KEY) == "SpacyRecognizer"


def _tokenizable(text: str) -> str:
    """`text` with runs the tokenizer is quadratic in broken up; same length, so offsets hold. The rules see the text itself."""

    def split(match: "regex.Match[str]") -> str:
        run = match.group()
        if match.group(1):
            return " " * len(run)
        return "".join(" " if index % 100 == 99 else char for index, char in enumerate(run))

    return _GLUED.sub(" ", _LONG_RUN.sub(split, text))
