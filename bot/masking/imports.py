"""Keeps heavy optional libraries out of the process that masks, and the network out of Presidio.

spaCy imports torch and Presidio imports transformers whenever they are installed; the masker needs neither.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

HEAVY: Final = (
    "torch",
    "transformers",
    "tensorflow",
    "mxnet",
    "cupy",
    "stanza",
    "gliner",
    "langextract",
    "spacy_transformers",
    "sklearn",
)


@contextmanager
def blocked_heavy_imports() -> Iterator[None]:
    """Make the heavy libraries look absent inside the block, unless they are loaded already; afterwards they import as usual."""
    blocked = [name for name in HEAVY if name not in sys.modules]
    modules: dict[str, object] = sys.modules  # type: ignore[assignment]  # None is how Python marks "do not import"
    for name in blocked:
        modules[name] = None
    try:
        yield
    finally:
        for name in blocked:
            if modules.get(name, 0) is None:
                del modules[name]


def keep_tldextract_offline() -> None:
    """Make tldextract use the suffix list it ships; by default its first use fetches one (john-kurkowski/tldextract#332)."""
    import tldextract.tldextract

    tldextract.tldextract.TLD_EXTRACTOR = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)
