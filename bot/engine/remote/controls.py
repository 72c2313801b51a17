"""The control tokens of a vocabulary (`<|im_end|>` and the like), for servers that would read them in a ticket's text.

Reads the GGUF's own list; knows no server.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from gguf import GGUFReader

UNKNOWN: Final = 2
CONTROL: Final = 3


def read_control_tokens(path: Path) -> dict[int, str]:
    """Return id and text of the tokens that only a prompt's author may write. Takes a second or two for a large vocabulary."""
    fields = GGUFReader(path).fields
    types, texts = fields.get("tokenizer.ggml.token_type"), fields.get("tokenizer.ggml.tokens")
    if types is None or texts is None:
        return {}
    found = {}
    for token, at in enumerate(types.data):
        if int(types.parts[at][0]) in {UNKNOWN, CONTROL}:
            found[token] = bytes(texts.parts[texts.data[token]]).decode("utf-8", errors="replace")
    return found


def split_at_controls(text: str, controls: Iterable[str]) -> list[str]:
    """Return the text in pieces, none of which holds a control sequence: each is cut after its first character."""
    marks = sorted((mark for mark in controls if len(mark) > 1), key=len, reverse=True)
    if not marks:
        return [text]
    pieces, start = [], 0
    for match in re.finditer("|".join(map(re.escape, marks)), text):
        pieces.append(text[start : match.start() + 1])
        start = match.start() + 1
    pieces.append(text[start:])
    return [piece for piece in pieces if piece]
