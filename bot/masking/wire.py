"""What the bot and its masking processes say to each other: length-prefixed JSON over a socket pair, with a time limit on each message.

JSON and not pickle: nothing that comes back can be code or a traceback. Knows nothing of processes or of masking.
"""

import json
import socket
import struct
import time
from collections.abc import Mapping
from typing import Any, Final

from bot.masking.placeholders import Masked, PlaceholderMap, Span
from db.types import MaskedText

_HEAD: Final = struct.Struct("!I")
Entries = list[list[Any]]


class Channel:
    """One end of a socket pair."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock

    def send(self, message: Mapping[str, Any], *, timeout_s: float | None = None) -> None:
        """Write one message. Raises OSError when the other end is gone, TimeoutError when it does not read in time."""
        # Lone surrogates go through as they are: escaped, two in a row would come back as one character.
        content = json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
        self._socket.settimeout(timeout_s)
        self._socket.sendall(_HEAD.pack(len(content)) + content)

    def receive(self, *, timeout_s: float | None = None) -> dict[str, Any]:
        """Read one message. Raises EOFError or OSError when the other end is gone, TimeoutError when it is not complete in time."""
        end = None if timeout_s is None else time.monotonic() + timeout_s
        (size,) = _HEAD.unpack(self._read(_HEAD.size, end))
        message: dict[str, Any] = json.loads(self._read(size, end).decode("utf-8", "surrogatepass"))
        return message

    def _read(self, size: int, end: float | None) -> bytes:
        parts = bytearray()
        while len(parts) < size:
            # Zero would mean "do not block" and not "time is up".
            self._socket.settimeout(None if end is None else max(0.001, end - time.monotonic()))
            piece = self._socket.recv(min(size - len(parts), 1 << 20))
            if not piece:
                raise EOFError
            parts += piece
            if end is not None and len(parts) < size and time.monotonic() > end:
                raise TimeoutError
        return bytes(parts)

    def close(self) -> None:
        """Close this end; the other one reads an end of file."""
        self._socket.close()


def pack_map(mapping: PlaceholderMap) -> Entries:
    """The map's values as rows of type, key, number, surface."""
    return [[entity, key, number, surface] for (entity, key), (number, surface) in mapping.entries.items()]


def unpack_map(entries: Entries) -> PlaceholderMap:
    """The map that `pack_map` took apart."""
    return PlaceholderMap({(entity, key): (number, surface) for entity, key, number, surface in entries})


def pack_masked(masked: Masked) -> dict[str, Any]:
    """A result as plain values."""
    spans = [[span.start, span.end, span.type, span.score] for span in masked.spans]
    return {"text": masked.text, "spans": spans, "surfaces": masked.surfaces}


def unpack_masked(packed: Mapping[str, Any]) -> Masked:
    """The result that `pack_masked` took apart."""
    spans = tuple(Span(*span) for span in packed["spans"])
    surfaces = tuple((placeholder, surface) for placeholder, surface in packed["surfaces"])
    return Masked(MaskedText(packed["text"]), spans, surfaces)
