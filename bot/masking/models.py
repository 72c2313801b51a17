"""The name models of a deployment, one per language, and which of them reads a piece of text.

Imported only while a masker is being built. Loads from directories alone; transformers is imported only where a setting asks for it.
"""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import regex
import spacy
from spacy.language import Language
from spacy.tokens import Doc
from spacy.util import filter_spans, get_lang_class

from bot.masking.lexicon import FILE_NAME
from bot.masking.pipeline import load_pipeline
from bot.masking.settings import SHIPPED, TRANSFORMERS_PREFIX, MaskingSettings

_FACTORY: Final = "transformers_names"
_WORD: Final = regex.compile(r"[^\W\d_]+")
_WORDS_LOOKED_AT: Final = 400
_MIN_EVIDENCE: Final = 2
_UNUSED_PIPES: Final = ("parser", "tagger", "lemmatizer", "attribute_ruler", "morphologizer", "senter")


@dataclass(frozen=True)
class NameModels:
    """spaCy pipelines per language code, and the language of texts that do not show theirs."""

    pipelines: Mapping[str, Language]
    default: str
    _common: dict[str, frozenset[str]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        several = self.pipelines if len(self.pipelines) > 1 else ()
        common = {language: frozenset(get_lang_class(language).Defaults.stop_words) for language in several}
        object.__setattr__(self, "_common", common)

    def language_of(self, text: str) -> str:
        """The language whose common words `text` holds most of; the default one where fewer than two words, or a tie, decide."""
        if not self._common:
            return self.default
        words = [match.group().casefold() for match, _ in zip(_WORD.finditer(text), range(_WORDS_LOOKED_AT), strict=False)]
        counts = {language: sum(word in common for word in words) for language, common in self._common.items()}
        best = max(counts, key=lambda language: (counts[language], language == self.default))
        return best if counts[best] >= _MIN_EVIDENCE and counts[best] > counts[self.default] else self.default


def load_models(settings: MaskingSettings, shipped: Path) -> NameModels:
    """Every configured model. English is there wherever it is the default language or `model_dir` or `models` name it.

    Raises OSError or ValueError, naming the language, if one is missing or damaged. Never downloads.
    """
    named = dict(settings.models)
    if "en" not in named and (settings.language == "en" or settings.model_dir is not None):
        named["en"] = str(settings.model_dir or shipped)
    places = {language: str(shipped) if source == SHIPPED else source for language, source in named.items()}
    return NameModels({language: _load(language, source) for language, source in places.items()}, settings.language)


def _load(language: str, source: str) -> Language:
    if source.startswith(TRANSFORMERS_PREFIX):
        return _load_transformers(language, source.removeprefix(TRANSFORMERS_PREFIX))
    directory = Path(source)
    if not directory.is_dir():
        raise OSError(f"models[{language!r}] is {source!r}, which is no directory; models are not downloaded")
    if (directory / FILE_NAME).exists():
        return load_pipeline(directory)
    nlp = spacy.load(directory, exclude=list(_UNUSED_PIPES))
    if "ner" not in nlp.pipe_names:
        raise ValueError(f"models[{language!r}] at {source!r} has no 'ner' component")
    return nlp


def _load_transformers(language: str, directory: str) -> Language:
    """A blank pipeline of that language whose entities come from a transformers token classification model."""
    if not Path(directory).is_dir():
        raise OSError(f"models[{language!r}] is {directory!r}, which is no directory; models are not downloaded")
    try:
        # By name: the serving install has no transformers, and nothing else of the bot may import it.
        transformers = importlib.import_module("transformers")
    except ImportError as error:
        raise ValueError(
            f"models[{language!r}] names a transformers model, but transformers is not installed: install transformers and torch "
            "beside understudy[serve], or name the directory of a spaCy pipeline"
        ) from error
    tag = transformers.pipeline("token-classification", model=directory, aggregation_strategy="simple", device=-1)
    nlp = spacy.blank(language)
    if not Language.has_factory(_FACTORY):
        Language.factory(_FACTORY, func=_build_transformers_names)
    nlp.add_pipe(_FACTORY, name="ner")
    nlp.get_pipe("ner").tag = tag  # our own component, below
    return nlp


class _TransformersNames:
    """A spaCy component that asks a transformers pipeline for entities."""

    def __init__(self) -> None:
        self.tag: Any = None

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels of the model, for spaCy's overview."""
        names = self.tag.model.config.id2label.values() if self.tag is not None else ()
        return tuple(sorted({str(name).removeprefix("B-").removeprefix("I-") for name in names}))

    def __call__(self, doc: Doc) -> Doc:
        spans = [
            doc.char_span(int(found["start"]), int(found["end"]), label=str(found["entity_group"]), alignment_mode="expand")
            for found in self.tag(doc.text)
        ]
        doc.ents = tuple(filter_spans([span for span in spans if span is not None]))
        return doc


def _build_transformers_names(nlp: Language, name: str) -> _TransformersNames:  # noqa: ARG001 - spaCy calls by these names
    return _TransformersNames()
