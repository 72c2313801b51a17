"""The other side: Presidio as it comes out of the box without a model. A blank English pipeline and its default recognisers, nothing tuned.

Its recogniser of e-mail addresses is kept from fetching a list; nothing else is changed.
"""

from typing import Any, Final

from bot.masking.imports import blocked_heavy_imports, keep_tldextract_offline

_TYPES: Final = {
    "US_DRIVER_LICENSE": "DRIVER_LICENSE",
    "US_BANK_NUMBER": "BANK_ACCOUNT",
    "US_PASSPORT": "PASSPORT",
    "US_ITIN": "NATIONAL_ID",
    "UK_NHS": "NATIONAL_ID",
}
_UNSCORED: Final = frozenset({"URL", "DATE_TIME", "MEDICAL_LICENSE", "UUID"})
"""Types that no set marks: they are not held against it."""


class PresidioPeer:
    """Presidio's analyzer. Loading takes about a second."""

    def __init__(self) -> None:
        with blocked_heavy_imports():
            import spacy
            from presidio_analyzer import AnalyzerEngine, RecognizerRegistry
            from presidio_analyzer.nlp_engine import SpacyNlpEngine
        keep_tldextract_offline()

        nlp_engine = SpacyNlpEngine(models=[{"lang_code": "en", "model_name": "blank"}])
        nlp_engine.nlp = {"en": spacy.blank("en")}  # a loaded engine: it would look for a download otherwise
        registry = RecognizerRegistry(supported_languages=["en"])
        registry.load_predefined_recognizers(languages=["en"], nlp_engine=nlp_engine)
        self._engine: Any = AnalyzerEngine(registry=registry, nlp_engine=nlp_engine, supported_languages=["en"])

    def find(self, text: str) -> list[tuple[int, int, str]]:
        """Return what it finds at its default threshold, under our names for the types."""
        found = self._engine.analyze(text, language="en")
        spans = {(r.start, r.end, _TYPES.get(r.entity_type, r.entity_type)) for r in found if r.entity_type not in _UNSCORED}
        return sorted(spans)
