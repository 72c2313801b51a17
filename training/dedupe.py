"""Finds equal and nearly equal ticket texts: a normal form, MinHash signatures of its letter pieces, and banded look-up.

Knows texts as bytes and rows as numbers; labels, splits and what follows from a duplicate are `training.dataset`'s business.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

UInt32Array = NDArray[np.uint32]
UInt64Array = NDArray[np.uint64]
IntArray = NDArray[np.int64]

SHINGLE_LETTERS = 5
N_HASHES = 64
N_BANDS = 16  # 16 bands of 4: two texts of similarity 0.8 share a band with probability 0.9998, of 0.5 with 0.64 (then verified)
ROWS_PER_BAND = N_HASHES // N_BANDS

_PLACEHOLDER = re.compile(r"<([A-Z][A-Z_]*?)(?:_\d+)?>")
_SPACE = re.compile(r"\s+")
_ODD_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


def normalise(text: str) -> str:
    """Return the form under which two texts count as equal: case, spacing and the numbers of placeholders do not matter."""
    return _SPACE.sub(" ", _PLACEHOLDER.sub(r"<\1>", text)).strip().casefold()


def hash_text(normal: str) -> int:
    """Return 64 bits of the normal form, as an unsigned number."""
    return int.from_bytes(hashlib.blake2b(normal.encode(), digest_size=8).digest(), "little")


def _get_constants() -> tuple[UInt64Array, UInt64Array]:
    generator = np.random.default_rng(20_240_229)  # part of what "near-duplicate" means: never change it between runs
    multipliers = generator.integers(1, 2**63, size=N_HASHES, dtype=np.uint64) | np.uint64(1)
    offsets = generator.integers(0, 2**63, size=N_HASHES, dtype=np.uint64)
    return multipliers, offsets


class Signer:
    """Turns normal forms into MinHash signatures. The share of equal entries estimates the share of common letter pieces."""

    def __init__(self) -> None:
        self._multipliers, self._offsets = _get_constants()
        self._powers = np.array([pow(1_000_003, k, 2**64) for k in range(SHINGLE_LETTERS)], dtype=np.uint64)

    def sign(self, normal: str) -> UInt32Array:
        """Return the signature of one text, shape (N_HASHES,)."""
        letters = np.frombuffer(normal.encode().ljust(SHINGLE_LETTERS), dtype=np.uint8).astype(np.uint64)
        windows = np.lib.stride_tricks.sliding_window_view(letters, SHINGLE_LETTERS)
        pieces = np.unique((windows * self._powers).sum(axis=1, dtype=np.uint64) * _ODD_MULTIPLIER)
        hashed = pieces[:, None] * self._multipliers[None, :] + self._offsets[None, :]
        smallest: UInt32Array = (hashed >> np.uint64(32)).min(axis=0).astype(np.uint32)
        return smallest


def _iter_buckets(keys: UInt64Array) -> Iterator[IntArray]:
    """Yield the rows of each key that several rows share."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    sizes = np.diff(np.r_[starts, len(ordered)])
    for start, size in zip(starts[sizes > 1], sizes[sizes > 1], strict=True):
        yield order[start : start + size]


def _fold_band(signatures: UInt32Array, band: int) -> UInt64Array:
    columns = signatures[:, band * ROWS_PER_BAND : (band + 1) * ROWS_PER_BAND]
    key = np.zeros(len(signatures), dtype=np.uint64)
    for column in columns.T:
        key = key * np.uint64(1_099_511_628_211) + column.astype(np.uint64)
    return key


def find_pairs(signatures: UInt32Array, threshold: float) -> Iterator[tuple[int, int]]:
    """Yield pairs of rows whose estimated similarity reaches `threshold`; signatures have shape (n, N_HASHES).

    Within a bucket every row is compared with the first row and with the one before it: linear, and enough to tie a cluster together.
    """
    for band in range(N_BANDS):
        for rows in _iter_buckets(_fold_band(signatures, band)):
            block = signatures[rows]
            for shifted, rest in ((np.zeros(len(rows) - 1, dtype=np.int64), 1), (np.arange(len(rows) - 1), 1)):
                alike = (block[shifted] == block[rest:]).mean(axis=1) >= threshold
                for place in np.flatnonzero(alike):
                    yield int(rows[shifted[place]]), int(rows[rest + place])


class Clusters:
    """Sets of rows that belong together (union-find with path halving)."""

    def __init__(self, n: int) -> None:
        self._parent = np.arange(n, dtype=np.int64)

    def find(self, row: int) -> int:
        """Return the row that stands for this row's set."""
        parent = self._parent
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = int(parent[row])
        return row

    def join(self, first: int, second: int) -> None:
        """Make one set of two; the smaller row number stands for it."""
        one, other = sorted((self.find(first), self.find(second)))
        self._parent[other] = one

    def join_all(self, pairs: Iterable[tuple[int, int]]) -> None:
        """Join many pairs."""
        for first, second in pairs:
            self.join(first, second)

    def get_roots(self) -> IntArray:
        """Return for each row the row that stands for its set, shape (n,)."""
        return np.fromiter((self.find(row) for row in range(len(self._parent))), dtype=np.int64, count=len(self._parent))


def join_equal(clusters: Clusters, keys: UInt64Array) -> None:
    """Join rows of equal non-zero keys."""
    rows = np.flatnonzero(keys)
    for bucket in _iter_buckets(keys[rows]):
        for other in bucket[1:]:
            clusters.join(int(rows[bucket[0]]), int(rows[other]))
