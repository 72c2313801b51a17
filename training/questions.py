"""Turns what a dataset showed into questions for people: contradictions, disagreements, suspicious labels, unsure answers.

Where the settings say so, suspicious labels are not trained on until somebody has settled them. Knows the queue, not how models train.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice

import numpy as np
from sqlalchemy import Engine as DbEngine
from sqlmodel import Session

from bot.training_settings import TrainingSettings
from db.queries import review
from db.queries.review import NewSide, build_key, list_named_examples
from db.session import retry_transaction
from db.tables import now
from db.types import ReviewKind, TaskKind
from training.dataset import Dataset, Item, compute_digest, count_balance
from training.dataset_report import DatasetReport, judge_size
from training.noise import Suspect, find_suspects
from training.split import TEST, TRAIN, VALIDATION

_MOST_SIDES = 1_000
"""Examples that one question names; more of one text would be a mailing, and nobody reads them."""
_AT_ONCE = 25
"""Questions per transaction: few enough that the bot's own writes need not wait."""
SUSPICIOUS = "label that the other examples speak against: to review"


@dataclass(frozen=True)
class Checked:
    """A dataset after the check of its labels, and the suspicious items with what they are suspected of."""

    dataset: Dataset
    suspects: tuple[tuple[Item, Suspect], ...]


def check_labels(
    dataset: Dataset,
    *,
    labels: Sequence[str],
    settings: TrainingSettings,
    settled: frozenset[int] = frozenset(),
    on_step: Callable[[int, int], None] = lambda _done, _total: None,
) -> Checked:
    """Look for wrong labels among the newest examples; `settled` holds the ids of those people have decided on already.

    Golden examples are approved and handoffs name no label: neither is checked. What judges is questioned, but never left out: a test
    without the tickets that a model finds hard would flatter every candidate.
    """
    if settings.noise_action == "off" or dataset.task is not TaskKind.CLASSIFICATION or not dataset.report.is_enough:
        return Checked(dataset, ())
    items = [*dataset.train, *dataset.validation, *dataset.test]
    items = [item for item in items if not item.is_golden and not item.is_negative]
    items = sorted(items, key=lambda item: (item.created_at, item.id))[-settings.noise_max_examples :]
    codes = {label: code for code, label in enumerate(labels)}
    found = find_suspects(
        [item.text for item in items],
        np.array([codes[item.target] for item in items], dtype=np.int64),
        margin=settings.noise_margin,
        n_labels=len(labels),
        seed=settings.seed,
        on_step=on_step,
    )
    suspects = tuple((items[suspect.row], suspect) for suspect in found if items[suspect.row].id not in settled)
    if settings.noise_action == "leave_out":
        dataset = leave_out(dataset, {item.id for item, _ in suspects}, settings=settings)
    return Checked(dataset, suspects)


def leave_out(dataset: Dataset, ids: set[int], *, settings: TrainingSettings) -> Dataset:
    """Return the dataset without these examples among what is taught; its counts, message and digest say so."""
    train = tuple(item for item in dataset.train if item.id not in ids)
    if len(train) == len(dataset.train):
        return dataset
    parts = {TRAIN: train, VALIDATION: dataset.validation, TEST: dataset.test}
    report = dataset.report
    n_train = sum(not item.is_negative for item in train)
    per_label = Counter(item.target for items in parts.values() for item in items if not item.is_negative)
    is_enough, message = judge_size(
        n_train=n_train,
        n_validation=report.n_validation,
        n_test=report.n_test,
        n_taught=len({item.target for item in train if not item.is_negative}),
        per_label=per_label,
        task=dataset.task,
        settings=settings,
    )
    changed = replace(
        report,
        n_train=n_train,
        per_label=dict(per_label.most_common()),
        left_out={**report.left_out, SUSPICIOUS: len(dataset.train) - len(train)},
        balance=count_balance(parts),
        is_enough=is_enough,
        message=message,
    )
    return replace(dataset, train=train, report=changed, digest=compute_digest(parts))


def ask_questions(
    db_engine: DbEngine,
    checked: Checked,
    *,
    labels: Sequence[str],
    label_set_version: str,
    settings: TrainingSettings,
    run_id: int,
) -> dict[str, int]:
    """Put what a run found into the queue and return how many new questions of each kind that made."""
    report, task = checked.dataset.report, checked.dataset.task
    limit = settings.review_max_questions
    groups = retry_transaction(db_engine, lambda session: _find_new_groups(session, report))
    named = retry_transaction(db_engine, lambda session: list_named_examples(session, [ReviewKind.LABEL_NOISE]))
    suspects = [(item, suspect) for item, suspect in checked.suspects if item.id not in named]
    work: list[Callable[[Session], ReviewKind | None]] = [
        partial(_ask_group, ids=ids, task=task, is_exact=is_exact, run_id=run_id)
        for is_exact in (True, False)
        for ids in groups[is_exact][:limit]
    ]
    work += [
        partial(_ask_suspect, item=item, suspect=suspect, labels=labels, run_id=run_id) for item, suspect in suspects[:limit]
    ]
    asked: Counter[ReviewKind] = Counter()
    rest = iter(work)
    while part := list(islice(rest, _AT_ONCE)):
        found = retry_transaction(db_engine, lambda session, part=part: [ask(session) for ask in part])  # type: ignore[misc]
        asked.update(kind for kind in found if kind is not None)
    if task is TaskKind.CLASSIFICATION and settings.review_below > 0.0:
        asked[ReviewKind.LOW_CONFIDENCE] += retry_transaction(
            db_engine,
            lambda session: review.collect_low_confidence(
                session, below=settings.review_below, label_set_version=label_set_version, limit=limit
            ),
        )
    return {kind.value: count for kind, count in asked.items() if count}


def _find_new_groups(session: Session, report: DatasetReport) -> dict[bool, list[tuple[int, ...]]]:
    """Return contradictions (True) and disagreements (False) that hold an example no such question names yet."""
    named = list_named_examples(session, [ReviewKind.CONTRADICTION, ReviewKind.REVIEWER_DISAGREEMENT])
    return {
        is_exact: [ids for ids in groups if not named.issuperset(ids)]
        for is_exact, groups in ((True, report.contradictions), (False, report.disagreements))
    }


def _ask_group(session: Session, *, ids: Sequence[int], task: TaskKind, is_exact: bool, run_id: int) -> ReviewKind | None:
    """Ask about examples of (nearly) the same text. Nearly the same from two people is their disagreement, not a slip of one."""
    sides = review.build_example_sides(session, ids[:_MOST_SIDES])
    n_people = len({side.actor for side in sides} - {review.IMPORTED})
    kind = ReviewKind.CONTRADICTION if is_exact or n_people < 2 else ReviewKind.REVIEWER_DISAGREEMENT
    key = build_key(kind, task, "examples", min(ids))  # the oldest names the text; later ones join the question
    item = review.ask(session, kind=kind, task=task, key=key, sides=sides, priority=0.9 if is_exact else 0.7, run_id=run_id)
    return None if item is None else kind


def _ask_suspect(session: Session, *, item: Item, suspect: Suspect, labels: Sequence[str], run_id: int) -> ReviewKind | None:
    found = review.build_example_sides(session, [item.id])
    if not found:
        return None  # erased since it was read
    side = found[0]
    sides = [
        replace(side, confidence=suspect.p_given),
        NewSide(
            label=labels[suspect.suggested],
            actor=review.MODEL,
            at=now(),
            ticket_id=side.ticket_id,
            confidence=suspect.p_suggested,
        ),
    ]
    kind = ReviewKind.LABEL_NOISE
    key = build_key(kind, TaskKind.CLASSIFICATION, item.id, item.target)
    asked = review.ask(
        session, kind=kind, task=TaskKind.CLASSIFICATION, key=key, sides=sides, priority=suspect.margin, run_id=run_id
    )
    return None if asked is None else kind
