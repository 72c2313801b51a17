"""The first pass over the examples: numbers instead of texts, and what equal or nearly equal texts mean for a dataset.

Holds no text beyond the row at hand. Which split a row goes to is `training.split`'s business.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from db.tables import Example
from db.types import Split, TaskKind
from training.dedupe import N_HASHES, IntArray, Signer, UInt32Array, UInt64Array, hash_text, normalise
from training.split import GOLDEN, NONE, TEST, TRAIN, VALIDATION, Columns

_CODES = {None: NONE, Split.TRAIN: TRAIN, Split.VALIDATION: VALIDATION, Split.TEST: TEST, Split.GOLDEN: GOLDEN}
_BLOCK = 4096
_MOST_COMPARED = 50
"""Members of one cluster that are compared with each other; a person would not read more anyway."""

WITHDRAWN = "withdrawn"
NEGATIVE = "says only what a summary should not be"
NEGATIVE_UNSEEN = "handed off before the suggestion was shown"
NO_TEXT = "no text"
UNKNOWN_LABEL = "label not in the label set in force"
CONTRADICTION = "same text decided differently: to review"
OVERRULED = "same text with a stronger decision"
DUPLICATE = "duplicate"
NEAR_DUPLICATE = "near-duplicate with the same label"


@dataclass
class Scan:
    """One row per usable example; arrays of length n, in order of id. `label` is a number per target, all 0 for summaries."""

    id: IntArray
    text_hash: UInt64Array
    group: UInt64Array
    label: IntArray
    weight: NDArray[np.float32]
    created_at: NDArray[np.float64]
    assigned: NDArray[np.int8]
    is_blind: NDArray[np.bool_]
    is_negative: NDArray[np.bool_]
    signatures: UInt32Array
    left_out: Counter[str]
    unknown_labels: Counter[str]
    n_seen: int
    newest_id: int

    def __len__(self) -> int:
        return len(self.id)

    @property
    def is_kept_out(self) -> NDArray[np.bool_]:
        """Golden and blind rows. A handoff judges nothing."""
        kept_out: NDArray[np.bool_] = (self.is_blind & ~self.is_negative) | (self.assigned == GOLDEN)
        return kept_out

    def keep(self, rows: IntArray) -> None:
        """Keep these rows alone."""
        for name in (
            "id",
            "text_hash",
            "group",
            "label",
            "weight",
            "created_at",
            "assigned",
            "is_blind",
            "is_negative",
            "signatures",
        ):
            setattr(self, name, getattr(self, name)[rows])

    def to_columns(self, cluster: IntArray, rows: IntArray) -> Columns:
        """Return what the split needs of these rows."""
        return Columns(
            cluster=cluster[rows],
            group=self.group[rows],
            label=self.label[rows],
            created_at=self.created_at[rows],
            assigned=self.assigned[rows],
            is_kept_out=self.is_kept_out[rows],
        )


class _Builder:
    """Collects rows in blocks, since a million small arrays would cost more than their content."""

    _TYPE = np.dtype(
        [
            ("id", "i8"),
            ("text_hash", "u8"),
            ("group", "u8"),
            ("label", "i8"),
            ("weight", "f4"),
            ("created_at", "f8"),
            ("assigned", "i1"),
            ("is_blind", "?"),
            ("is_negative", "?"),
        ]
    )

    def __init__(self) -> None:
        self._blocks: list[tuple[NDArray[np.void], UInt32Array]] = []
        self._n = _BLOCK

    def add(self, values: tuple[object, ...], signature: UInt32Array) -> None:
        if self._n == _BLOCK:
            self._blocks.append((np.zeros(_BLOCK, self._TYPE), np.zeros((_BLOCK, N_HASHES), np.uint32)))
            self._n = 0
        numbers, signatures = self._blocks[-1]
        numbers[self._n] = values
        signatures[self._n] = signature
        self._n += 1

    def build(self) -> tuple[NDArray[np.void], UInt32Array]:
        n = max(len(self._blocks) - 1, 0) * _BLOCK + (self._n if self._blocks else 0)
        numbers = np.zeros(n, self._TYPE)
        signatures = np.zeros((n, N_HASHES), np.uint32)
        for place in range(len(self._blocks)):
            start, stop = place * _BLOCK, min((place + 1) * _BLOCK, n)
            numbers[start:stop] = self._blocks[place][0][: stop - start]
            signatures[start:stop] = self._blocks[place][1][: stop - start]
            self._blocks[place] = (numbers[:0], signatures[:0])  # free the block as soon as it is copied
        return numbers, signatures


def scan(rows: Iterable[Example], task: TaskKind, *, labels: Sequence[str]) -> Scan:
    """Read every example once. Those that can never be used are counted here and do not become rows."""
    codes = {name: code for code, name in enumerate(labels)}
    left_out: Counter[str] = Counter()
    unknown: Counter[str] = Counter()
    builder, signer = _Builder(), Signer()
    n_seen = newest_id = 0
    for example in rows:
        n_seen += 1
        newest_id = max(newest_id, example.id or 0)
        reason = _find_reason(example, task, codes)
        if reason is not None:
            left_out[reason] += 1
            if reason == UNKNOWN_LABEL:
                unknown[example.target] += 1
            continue
        normal = normalise(example.text)
        values = (
            example.id,
            hash_text(normal),
            hash_text(example.group_key) if example.group_key else 0,
            codes.get(example.target, 0),
            example.weight,
            example.created_at.timestamp(),
            _CODES[example.split],
            example.is_blind,
            example.is_negative,
        )
        builder.add(values, signer.sign(normal))
    numbers, signatures = builder.build()
    columns = {name: np.ascontiguousarray(numbers[name]) for name in numbers.dtype.names or ()}
    return Scan(**columns, signatures=signatures, left_out=left_out, unknown_labels=unknown, n_seen=n_seen, newest_id=newest_id)


def _find_reason(example: Example, task: TaskKind, codes: dict[str, int]) -> str | None:
    if example.is_withdrawn:
        return WITHDRAWN
    if example.is_negative and task is TaskKind.SUMMARY:
        return NEGATIVE
    if example.is_negative and example.is_blind:
        return NEGATIVE_UNSEEN  # whoever handed it off could not mean the label they had not seen
    if not example.text.strip() or not example.target.strip():
        return NO_TEXT
    return UNKNOWN_LABEL if task is TaskKind.CLASSIFICATION and example.target not in codes else None


def resolve_equal_texts(found: Scan, left_out: Counter[str], *, is_classification: bool) -> list[tuple[int, ...]]:
    """Keep one row per normal form and return the contradictions as groups of example ids.

    The strongest decisions on a text must agree; if they do, they win over weaker ones, and if not, nobody does. Golden rows decide alone.
    """
    order = np.lexsort((found.id, found.text_hash))
    ordered = found.text_hash[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if len(order) else np.zeros(0, np.int64)
    sizes = np.diff(np.r_[starts, len(order)])
    kept = np.ones(len(found), dtype=bool)
    contradictions: list[tuple[int, ...]] = []
    for start, size in zip(starts[sizes > 1], sizes[sizes > 1], strict=True):
        rows = order[start : start + size]
        winner, reasons = _decide(found, rows, is_classification=is_classification)
        kept[rows] = False
        left_out.update(reasons)
        if winner is None:
            contradictions.append(tuple(int(number) for number in found.id[rows]))
            continue
        kept[winner] = True
    found.keep(np.flatnonzero(kept))
    return contradictions


def _decide(found: Scan, rows: IntArray, *, is_classification: bool) -> tuple[int | None, Counter[str]]:
    golden = rows[found.assigned[rows] == GOLDEN]
    positive = rows[~found.is_negative[rows]]
    if not len(positive):  # nobody said what it is: the newest word on what it is not
        return int(rows[-1]), Counter({DUPLICATE: len(rows) - 1})
    judges = golden if len(golden) else positive
    strongest = judges[found.weight[judges] == found.weight[judges].max()]
    labels = np.unique(found.label[strongest])
    if len(labels) > 1:
        return None, Counter({CONTRADICTION: len(rows)})
    agreeing = positive[found.label[positive] == labels[0]] if is_classification else strongest
    # Those that judge stay (golden, blind, test), then what was assigned already, then the newest.
    rank = np.select([found.is_kept_out[agreeing], found.assigned[agreeing] == TEST, found.assigned[agreeing] > 0], [3, 2, 1], 0)
    best = int(agreeing[np.lexsort((found.id[agreeing], found.created_at[agreeing], rank))[-1]])
    found.weight[best] = found.weight[agreeing].max()
    n_overruled = len(rows) - len(agreeing)
    return best, Counter({DUPLICATE: len(agreeing) - 1, OVERRULED: n_overruled})


def drop_near_duplicates(
    found: Scan, cluster: IntArray, codes: NDArray[np.int8], left_out: Counter[str], *, threshold: float
) -> None:
    """Set to 0 the code of every row that is nearly the same as one kept in its split with its label. Golden and blind rows all stay."""
    rows = np.flatnonzero((codes != NONE) & ~found.is_kept_out & ~found.is_negative)
    key = (cluster[rows] * 8 + codes[rows]) * (int(found.label.max(initial=0)) + 1) + found.label[rows]
    order = np.lexsort((-found.id[rows], -found.created_at[rows], -found.weight[rows], found.assigned[rows] == NONE, key))
    ordered = key[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if len(order) else np.zeros(0, np.int64)
    sizes = np.diff(np.r_[starts, len(order)])
    for start, size in zip(starts[sizes > 1], sizes[sizes > 1], strict=True):
        members = rows[order[start : start + size]]
        kept = found.signatures[members[:1]]
        for row in members[1:]:
            if ((kept == found.signatures[row]).mean(axis=1) >= threshold).any():
                codes[row] = NONE
                left_out[NEAR_DUPLICATE] += 1
            else:
                kept = np.vstack([kept, found.signatures[row]])


def find_disagreements(found: Scan, cluster: IntArray, codes: NDArray[np.int8], *, threshold: float) -> list[tuple[int, ...]]:
    """Return groups of example ids that are nearly the same and carry different labels; golden ones are settled and stay out."""
    rows = np.flatnonzero((codes != NONE) & ~found.is_negative & (found.assigned != GOLDEN))
    order = rows[np.lexsort((found.id[rows], cluster[rows]))]
    ordered = cluster[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if len(order) else np.zeros(0, np.int64)
    sizes = np.diff(np.r_[starts, len(order)])
    groups = []
    for start, size in zip(starts[sizes > 1], sizes[sizes > 1], strict=True):
        members = order[start : start + min(int(size), _MOST_COMPARED)]
        if len(np.unique(found.label[members])) == 1:
            continue
        block = found.signatures[members]
        alike = (block[:, None, :] == block[None, :, :]).mean(axis=2) >= threshold
        differs = found.label[members][:, None] != found.label[members][None, :]
        involved = members[(alike & differs).any(axis=1)]
        if len(involved):
            groups.append(tuple(int(number) for number in found.id[involved]))
    return groups
