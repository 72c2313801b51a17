"""Builds the dataset of a run from the example table: what is used, in which split, what is left out and why.

Streams the rows twice (numbers first, texts of the chosen ones after), so a million examples need no gigabyte. Knows no model and no SQL:
the rows come from a function, the masker is handed in.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from bot.training_settings import TrainingSettings
from bot.types import Turn
from db.tables import Example
from db.types import MaskedText, Split, TaskKind
from training.columns import Scan, drop_near_duplicates, find_disagreements, resolve_equal_texts, scan
from training.dataset_report import DatasetReport, judge_size
from training.dedupe import Clusters, IntArray, find_pairs
from training.split import TEST, TRAIN, VALIDATION, assign_splits, choose_replay, compute_test_share

Rows = Callable[[], Iterable[Example]]
"""Streams all examples of one task in order of id; called twice."""

HAS_NEW_PERSONAL_DATA = "personal data found by the second masking"
LEAKS = "nearly the same as a ticket kept for judging"
REPLAY = "older than the newest ones, not drawn"
SPLIT_OF_CODE = {TRAIN: Split.TRAIN, VALIDATION: Split.VALIDATION, TEST: Split.TEST}


Checker = Callable[[MaskedText], bool]
"""Says whether masking a masked text once more finds anything new. Raises nothing that carries the text."""


@dataclass(frozen=True)
class Item:
    """One example as a run uses it. `target` is a label or a summary; `draft` is what had been suggested before an edit."""

    id: int
    text: MaskedText
    turns: tuple[Turn, ...]
    target: str
    draft: str | None
    weight: float
    created_at: datetime
    is_golden: bool
    is_blind: bool
    is_negative: bool = False
    """`target` is what the ticket is not."""


@dataclass(frozen=True)
class Dataset:
    """The three parts, each in order of id, and what was not used. `test` holds golden and blind examples too; `digest` names the content."""

    task: TaskKind
    train: tuple[Item, ...]
    validation: tuple[Item, ...]
    test: tuple[Item, ...]
    report: DatasetReport
    digest: str
    assignments: Mapping[int, Split] = field(default_factory=dict)
    """Example id to split, for those that had none yet; write them back so that they never change."""


def build_dataset(
    rows: Rows, task: TaskKind, *, labels: Sequence[str], settings: TrainingSettings, check: Checker | None = None
) -> Dataset:
    """Build the dataset of a task. `labels` are the names in force (ignored for summaries); `check` is the second masking, None skips it."""
    found = scan(rows(), task, labels=labels)
    left_out = Counter(found.left_out)
    contradictions = resolve_equal_texts(found, left_out, is_classification=task is TaskKind.CLASSIFICATION)
    clusters = Clusters(len(found))
    clusters.join_all(find_pairs(found.signatures, settings.near_duplicate))
    cluster = clusters.get_roots()
    codes = _assign(found, cluster, left_out, settings)
    is_classification = task is TaskKind.CLASSIFICATION
    disagreements = find_disagreements(found, cluster, codes, threshold=settings.near_duplicate) if is_classification else []
    drop_near_duplicates(found, cluster, codes, left_out, threshold=settings.near_duplicate)
    recorded = codes.copy()
    _keep_replay(found, codes, left_out, settings)
    _keep_newest(found, codes, VALIDATION, left_out, limit=settings.max_test // 2)
    _keep_newest(found, codes, TEST, left_out, limit=settings.max_test)
    has_drafts = not is_classification and settings.preference_epochs > 0
    parts = _load_items(rows, found, codes, left_out, check, has_drafts=has_drafts)
    report = _build_report(parts, found, left_out, (contradictions, disagreements), task=task, settings=settings)
    new = np.flatnonzero((found.assigned == 0) & (recorded != 0) & ~found.is_kept_out & ~found.is_negative)
    return Dataset(
        task=task,
        train=parts[TRAIN],
        validation=parts[VALIDATION],
        test=parts[TEST],
        report=report,
        digest=compute_digest(parts, has_drafts=has_drafts),
        assignments={int(found.id[row]): SPLIT_OF_CODE[int(recorded[row])] for row in new},
    )


def _assign(found: Scan, cluster: IntArray, left_out: Counter[str], settings: TrainingSettings) -> NDArray[np.int8]:
    """Return the split code of every row. Handoffs only ever teach, and only where nothing that judges is nearly the same."""
    rows = np.flatnonzero(~found.is_negative)
    n_judging = int(found.is_kept_out.sum())
    share = compute_test_share(len(rows), share=settings.test_share, min_test=max(settings.gate_min_test - n_judging, 0))
    columns = found.to_columns(cluster, rows)
    assignment = assign_splits(columns, test_share=share, validation_share=settings.validation_share)
    codes = np.zeros(len(found), dtype=np.int8)
    codes[rows] = assignment.split
    judging = np.isin(cluster, cluster[(codes == TEST) | (codes == VALIDATION)])
    codes[found.is_negative & ~judging] = TRAIN
    left_out[LEAKS] += assignment.n_leaking + int((found.is_negative & judging).sum())
    return codes


def _keep_replay(found: Scan, codes: NDArray[np.int8], left_out: Counter[str], settings: TrainingSettings) -> None:
    """Bound the training rows; of handoffs, which say little, a tenth as many."""
    for is_negative, limit in ((False, settings.max_examples), (True, settings.max_examples // 10)):
        rows = np.flatnonzero((codes == TRAIN) & (found.is_negative == is_negative))
        chosen = choose_replay(rows, found.label, found.created_at, limit=limit, seed=settings.seed)
        left_out[REPLAY] += len(rows) - len(chosen)
        codes[np.setdiff1d(rows, chosen)] = 0


def _keep_newest(found: Scan, codes: NDArray[np.int8], code: int, left_out: Counter[str], *, limit: int) -> None:
    rows = np.flatnonzero(codes == code)
    ranked = rows[np.lexsort((found.id[rows], found.created_at[rows], found.is_kept_out[rows]))[::-1]]
    codes[ranked[limit:]] = 0
    left_out[REPLAY] += len(ranked[limit:])


def _load_items(
    rows: Rows, found: Scan, codes: NDArray[np.int8], left_out: Counter[str], check: Checker | None, *, has_drafts: bool
) -> dict[int, tuple[Item, ...]]:
    wanted = {int(found.id[row]): row for row in np.flatnonzero(codes)}
    parts: dict[int, list[Item]] = {TRAIN: [], VALIDATION: [], TEST: []}
    for example in rows():
        row = wanted.get(example.id or 0)
        if row is None:
            continue
        item = _build_item(example, weight=float(found.weight[row]))
        if check is not None and _finds_anything(item, check, is_summary=example.task is TaskKind.SUMMARY):
            left_out[HAS_NEW_PERSONAL_DATA] += 1
            continue
        if check is not None and has_drafts and item.draft and codes[row] != TEST and check(MaskedText(item.draft)):
            item = replace(item, draft=None)  # the example is sound; a draft only serves as the worse half of a pair
        parts[int(codes[row])].append(item)
    return {code: tuple(items) for code, items in parts.items()}


def _finds_anything(item: Item, check: Checker, *, is_summary: bool) -> bool:
    texts = [item.text, *(MaskedText(turn.text) for turn in item.turns)] if is_summary else [item.text]
    if is_summary:
        texts.append(MaskedText(item.target))
    return any(check(text) for text in texts if text.strip())


def _build_item(example: Example, *, weight: float) -> Item:
    if example.id is None:
        message = "an example without an id was handed to the dataset: store it first"
        raise ValueError(message)
    return Item(
        id=example.id,
        text=MaskedText(example.text),
        turns=tuple(Turn(speaker=turn["speaker"], text=turn["text"]) for turn in example.turns),
        target=example.target,
        draft=example.draft,
        weight=weight,
        created_at=example.created_at,
        is_golden=example.split is Split.GOLDEN,
        is_blind=example.is_blind,
        is_negative=example.is_negative,
    )


def _build_report(
    parts: Mapping[int, tuple[Item, ...]],
    found: Scan,
    left_out: Counter[str],
    to_review: tuple[Sequence[tuple[int, ...]], Sequence[tuple[int, ...]]],
    *,
    task: TaskKind,
    settings: TrainingSettings,
) -> DatasetReport:
    is_classification = task is TaskKind.CLASSIFICATION
    positive = {code: [item for item in items if not item.is_negative] for code, items in parts.items()}
    per_label = Counter(item.target for items in positive.values() for item in items) if is_classification else Counter[str]()
    counts = {code: len(items) for code, items in positive.items()}
    is_enough, message = judge_size(
        n_train=counts[TRAIN],
        n_validation=counts[VALIDATION],
        n_test=counts[TEST],
        n_taught=len({item.target for item in positive[TRAIN]}),
        per_label=per_label,
        task=task,
        settings=settings,
    )
    return DatasetReport(
        n_seen=found.n_seen,
        n_train=counts[TRAIN],
        n_validation=counts[VALIDATION],
        n_test=counts[TEST],
        n_golden=sum(item.is_golden for item in parts[TEST]),
        per_label=dict(per_label.most_common()),
        left_out={reason: count for reason, count in left_out.most_common() if count},
        unknown_labels=dict(found.unknown_labels.most_common()),
        contradictions=tuple(to_review[0]),
        disagreements=tuple(to_review[1]),
        balance=count_balance(parts) if is_classification else {},
        is_enough=is_enough,
        message=message,
        newest_id=found.newest_id,
        n_negative=len(parts[TRAIN]) - counts[TRAIN],
    )


def count_balance(parts: Mapping[int, Sequence[Item]]) -> dict[str, dict[str, int]]:
    """Return label to part to count, the most frequent label first; golden ones are counted apart from the test, handoffs not at all."""
    counts: dict[str, Counter[str]] = {}
    for code, items in parts.items():
        for item in items:
            if not item.is_negative:
                part = Split.GOLDEN if item.is_golden else SPLIT_OF_CODE[code]
                counts.setdefault(item.target, Counter())[part.value] += 1
    ordered = sorted(counts.items(), key=lambda entry: (-entry[1].total(), entry[0]))
    return {label: {part.value: count[part.value] for part in Split} for label, count in ordered}


def compute_digest(parts: Mapping[int, Sequence[Item]], *, has_drafts: bool = False) -> str:
    """Return the SHA-256 over id, split, target, weight and text of every item, in order of id: equal digests mean equal datasets.

    Drafts count where a run learns from them.
    """
    digest = hashlib.sha256()
    lines = sorted(((item.id, code, item) for code, items in parts.items() for item in items), key=lambda line: line[:2])
    for number, code, item in lines:
        values = [str(number), str(code), "not" if item.is_negative else "", item.target, f"{item.weight:.6g}", item.text]
        if has_drafts:
            values.append(item.draft or "")
        for value in values:
            data = value.encode()
            digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()
