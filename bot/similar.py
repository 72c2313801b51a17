"""Past decided tickets near a new one, by the cosine of the embeddings that classification computes anyway.

Held in memory for the adapter that serves; knows nothing of the database. After a swap the old vectors mean nothing, so the index is
rebuilt for the new digest and answers nothing until then. What people decide while a rebuild runs stands against what it brings.
"""

import threading
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np

from bot.engine.protocol import FloatArray


@dataclass(frozen=True)
class Neighbour:
    """A decided ticket: its masked text, the label people settled on, and the cosine to the query."""

    ticket_id: int
    label: str
    text: str
    similarity: float = 0.0


class SimilarIndex:
    """Unit-norm vectors of the most recent decided tickets under one adapter. Thread-safe."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._lock = threading.Lock()
        self._digest = ""
        self._rows: OrderedDict[int, tuple[Neighbour, FloatArray]] = OrderedDict()
        self._removed: set[int] = set()
        self._matrix: FloatArray | None = None

    @property
    def digest(self) -> str:
        """Digest of the adapter whose embeddings the index holds."""
        return self._digest

    def __len__(self) -> int:
        return len(self._rows)

    def reset(self, digest: str) -> None:
        """Forget everything and start over for another adapter."""
        with self._lock:
            self._digest, self._matrix = digest, None
            self._rows.clear()
            self._removed.clear()

    def add(self, neighbour: Neighbour, embedding: FloatArray, *, digest: str, is_rebuild: bool = False) -> None:
        """Add or replace a ticket; ignored when `digest` is not the one the index is for. The oldest goes when it is full.

        `is_rebuild` marks what was read from the past, newest first: it goes in as the oldest, only while there is room, and never over a
        ticket that is there already or was removed since the reset.
        """
        ticket_id = neighbour.ticket_id
        with self._lock:
            if digest != self._digest or self._capacity == 0:
                return
            if is_rebuild and (ticket_id in self._rows or ticket_id in self._removed or len(self._rows) >= self._capacity):
                return
            self._rows.pop(ticket_id, None)
            self._rows[ticket_id] = (neighbour, embedding)
            if is_rebuild:
                self._rows.move_to_end(ticket_id, last=False)
            self._removed.discard(ticket_id)
            while len(self._rows) > self._capacity:
                self._rows.popitem(last=False)
            self._matrix = None

    def remove(self, ticket_id: int) -> None:
        """Take a ticket out, whether it is there or not, and keep a running rebuild from bringing it back."""
        with self._lock:
            self._rows.pop(ticket_id, None)
            self._removed.add(ticket_id)
            self._matrix = None

    def search(self, embedding: FloatArray, *, digest: str, limit: int, without: int | None = None) -> tuple[Neighbour, ...]:
        """Return the nearest tickets, best first, leaving out ticket `without`; nothing for another adapter's embedding."""
        with self._lock:
            if digest != self._digest or not self._rows or limit == 0:
                return ()
            if self._matrix is None:
                self._matrix = np.stack([vector for _, vector in self._rows.values()])
            matrix, rows = self._matrix, [neighbour for neighbour, _ in self._rows.values()]
        cosines = matrix @ embedding
        found = []
        for index in np.argsort(-cosines)[: limit + 1]:
            row = rows[int(index)]
            if row.ticket_id != without:
                found.append(Neighbour(row.ticket_id, row.label, row.text, float(cosines[index])))
        return tuple(found[:limit])
