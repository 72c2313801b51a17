"""The spaCy pipeline that tags persons, places and organisations, with the lexicon as an input feature.

Imported only while a masker is being built (spaCy takes a second to load); knows nothing of Presidio or of placeholders.
"""

from pathlib import Path
from typing import Any, Final

from spacy.attrs import PREFIX
from spacy.lang.en import English
from spacy.language import Language

from bot.masking.lexicon import FILE_NAME, Lexicon, load_lexicon

LABELS: Final = ("PERSON", "LOCATION", "ORGANIZATION")

NER_CONFIG: Final[dict[str, Any]] = {
    "model": {
        "@architectures": "spacy.TransitionBasedParser.v2",
        "state_type": "ner",
        "extra_state_tokens": False,
        "hidden_width": 64,
        "maxout_pieces": 2,
        "use_upper": True,
        "tok2vec": {
            "@architectures": "spacy.Tok2Vec.v2",
            "embed": {
                "@architectures": "spacy.MultiHashEmbed.v2",
                "width": 96,
                # PREFIX carries the lexicon bits, see build_language.
                "attrs": ["NORM", "PREFIX", "SUFFIX", "SHAPE"],
                "rows": [5000, 2500, 2500, 2500],
                "include_static_vectors": False,
            },
            "encode": {
                "@architectures": "spacy.MaxoutWindowEncoder.v2",
                "width": 96,
                "depth": 4,
                "window_size": 1,
                "maxout_pieces": 3,
            },
        },
    }
}

_ON_DISK_EXCLUDE: Final = ("vocab", "tokenizer", "meta.json")


def build_language(lexicon: Lexicon) -> Language:
    """An English pipeline with an untrained `ner` whose PREFIX feature is the lexicon's bits.

    spaCy offers a fixed set of lexical features; replacing the least useful one costs nothing at run time.
    """

    class Defaults(English.Defaults):  # type: ignore[misc]
        lex_attr_getters = {**English.Defaults.lex_attr_getters, PREFIX: lexicon.feature}  # noqa: RUF012 - spaCy reads it as a class attribute

    class TicketEnglish(English):  # type: ignore[misc]
        lang = "en"

    TicketEnglish.Defaults = Defaults
    nlp: Language = TicketEnglish()
    nlp.add_pipe("ner", config=NER_CONFIG)
    return nlp


def save_pipeline(nlp: Language, directory: Path) -> None:
    """Write the trained weights. Vocabulary and tokenizer are left out: they are spaCy's own defaults."""
    nlp.to_disk(directory, exclude=list(_ON_DISK_EXCLUDE))


def load_pipeline(directory: Path) -> Language:
    """The trained pipeline in `directory`. Raises OSError or ValueError if a part is missing or damaged; never downloads."""
    nlp = build_language(load_lexicon(directory / FILE_NAME))
    nlp.from_disk(directory, exclude=list(_ON_DISK_EXCLUDE))
    for word in nlp.Defaults.stop_words:
        # Half of any text: known for good, they are not looked up anew in the memory zone of each text (0.2 ms of 500 characters).
        _ = nlp.vocab[word], nlp.vocab[word.capitalize()]
    return nlp
