"""What any database can hold, made of what the world sends: JSON without halves of characters and NUL, keys of a bounded length.

Pure functions; knows no table.
"""

import hashlib
from collections.abc import Mapping
from typing import Any, Final

from db.queries.common import clean_text

MAX_KEY_CHARS: Final = 200


def clean_key(key: str) -> str:
    """Return a key as it is, or a digest of one that is too long or holds what no database takes: two different ones stay different."""
    if len(key) <= MAX_KEY_CHARS and clean_text(key) == key:
        return key
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def clean_json(node: Any) -> Any:
    """Return JSON whose texts can be stored."""
    if isinstance(node, str):
        return node if node.isascii() and "\0" not in node else clean_text(node)
    if isinstance(node, Mapping):
        return {clean_json(name): clean_json(value) for name, value in node.items()}
    return [clean_json(value) for value in node] if isinstance(node, list | tuple) else node
