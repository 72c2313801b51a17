"""Decides which example is trained on and which one judges: by group and time, and never differently the next time.

Pure: columns of numbers in, one split per row out. Knows nothing of texts, tables or why rows belong together.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.dedupe import Clusters, IntArray, UInt64Array, join_equal

NONE, TRAIN, VALIDATION, TEST, GOLDEN = 0, 1, 2, 3, 4
"""Split codes in columns; NONE is "not assigned yet"."""

MAX_GROUP_SHARE = 0.2
"""A group key that covers more than this share of all rows says nothing (one mailbox for everybody) and is not used."""


@dataclass(frozen=True)
class Columns:
    """One row per example, all arrays of length n. `cluster` stands for near-duplicates; `group` is 0 where there is no group key."""

    cluster: IntArray
    group: UInt64Array
    label: IntArray
    created_at: NDArray[np.float64]
    assigned: NDArray[np.int8]
    is_kept_out: NDArray[np.bool_]  # golden and blind: they judge and are never trained on

    def __len__(self) -> int:
        return len(self.cluster)


@dataclass(frozen=True)
class Assignment:
    """`split[i]` is TRAIN, VALIDATION or TEST, or NONE where the row is left out because one that judges is nearly the same."""

    split: NDArray[np.int8]
    n_leaking: int


def _get_groups(columns: Columns) -> IntArray:
    """Rows that must not be parted: near-duplicates, and rows of one group key unless that key covers nearly everything."""
    groups = Clusters(len(columns))
    join_equal(groups, columns.cluster.astype(np.uint64) + np.uint64(1))
    keys = columns.group.copy()
    found, counts = np.unique(keys[keys != 0], return_counts=True)
    too_big = found[counts > max(MAX_GROUP_SHARE * len(columns), 2)]
    keys[np.isin(keys, too_big)] = 0
    keys[columns.is_kept_out] = 0  # a customer with one golden ticket may still teach with the others
    join_equal(groups, keys)
    return groups.get_roots()


def _mark(roots: IntArray, rows: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether each row's set holds one of the given rows."""
    return np.isin(roots, roots[rows])


def compute_test_share(n: int, *, share: float, min_test: int) -> float:
    """Return the share kept for the gate: the asked one, or more (at most 0.45) where that is what it takes to judge at all."""
    wanted = 1.15 * min_test + 1 if min_test else 0.0  # some of those kept turn out to be near-duplicates or refused
    return max(share, min(wanted / n, 0.45)) if n else share


def _assign_new(
    columns: Columns, groups: IntArray, rows: IntArray, *, test_share: float, validation_share: float
) -> dict[int, int]:
    """Return the split of each new group: within a label the newest groups judge, the next validate, the oldest train."""
    newest: dict[int, tuple[int, float, int, int]] = {}
    sizes: dict[int, int] = {}
    for row in rows:
        root = int(groups[row])
        sizes[root] = sizes.get(root, 0) + 1
        entry = (int(columns.label[row]), float(columns.created_at[row]), int(row), root)
        if root not in newest or entry[1:3] > newest[root][1:3]:
            newest[root] = entry
    by_label: dict[int, list[tuple[float, int, int]]] = {}
    for label, created_at, row, root in newest.values():
        by_label.setdefault(label, []).append((created_at, row, root))
    splits: dict[int, int] = {}
    owed_test = owed_validation = 0.0
    for label in sorted(by_label):
        ordered = [root for _, _, root in sorted(by_label[label], reverse=True)]
        n = sum(sizes[root] for root in ordered)
        owed_test, owed_validation = owed_test + n * test_share, owed_validation + n * validation_share
        for place, root in enumerate(ordered):
            is_last = place == len(ordered) - 1  # a label keeps at least one group to learn from
            if owed_test >= sizes[root] / 2 and not is_last:
                splits[root], owed_test = TEST, owed_test - sizes[root]
            elif owed_validation >= sizes[root] / 2 and not is_last:
                splits[root], owed_validation = VALIDATION, owed_validation - sizes[root]
            else:
                splits[root] = TRAIN
    return splits


def assign_splits(columns: Columns, *, test_share: float, validation_share: float) -> Assignment:
    """Assign every row. A row that has a split keeps it, unless it may teach while a near-duplicate judges: then it is left out."""
    split = columns.assigned.copy()
    split[split == GOLDEN] = TEST
    split[columns.is_kept_out] = TEST
    groups = _get_groups(columns)
    is_new = split == NONE
    for code in (TEST, VALIDATION, TRAIN):  # a new row joins what its group already is; judging goes before teaching
        known = (columns.assigned == code) & ~columns.is_kept_out
        split[is_new & (split == NONE) & _mark(groups, known)] = code
    rows = np.flatnonzero(split == NONE)
    chosen = _assign_new(columns, groups, rows, test_share=test_share, validation_share=validation_share)
    split[rows] = [chosen[int(groups[row])] for row in rows]
    leaking = (split != TEST) & _mark(columns.cluster, split == TEST)
    leaking |= ~columns.is_kept_out & _mark(columns.cluster, columns.is_kept_out)
    leaking |= (split == TRAIN) & _mark(columns.cluster, split == VALIDATION)
    split[leaking] = NONE
    return Assignment(split=split, n_leaking=int(leaking.sum()))


def choose_replay(rows: IntArray, labels: IntArray, created_at: NDArray[np.float64], *, limit: int, seed: int) -> IntArray:
    """Return at most `limit` of the rows: the newest half, then older ones drawn label by label, so that rare labels are not forgotten."""
    if len(rows) <= limit:
        return rows
    ordered = rows[np.lexsort((rows, created_at[rows]))[::-1]]
    newest, older = ordered[: limit // 2], ordered[limit // 2 :]
    generator = np.random.default_rng(seed)
    shuffled = generator.permutation(older)
    rank = _rank_within(labels[shuffled])
    drawn = shuffled[np.argsort(rank, kind="stable")][: limit - len(newest)]
    return np.sort(np.concatenate([newest, drawn]))


def _rank_within(labels: IntArray) -> IntArray:
    """Number the rows of each label from 0 in the order given."""
    order = np.argsort(labels, kind="stable")
    ordered = labels[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    run = np.arange(len(labels)) - np.repeat(starts, np.diff(np.r_[starts, len(labels)]))
    rank = np.empty(len(labels), dtype=np.int64)
    rank[order] = run
    return rank
