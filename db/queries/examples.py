"""Examples: streaming them to the dataset builder, counting, splits, withdrawal and imports. Which ones to train on is not decided here."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from sqlalchemy import func, insert, update
from sqlmodel import Session, col, select

from db.queries.audit import record_audit
from db.queries.common import clean_text, clean_turns, get_row, row_id
from db.tables import Example, now
from db.types import MaskedText, Split, TaskKind

ACTION_WITHDRAWN = "example.withdraw"
ACTION_ADDED = "example.add"
_INSERT_CHUNK = 1_000


@dataclass(frozen=True)
class NewExample:
    """An example from a file rather than from a click. `text` and `target` are masked."""

    text: MaskedText
    target: str
    turns: tuple[Mapping[str, str], ...] = field(default=())
    draft: str | None = None
    group_key: str = ""
    weight: float = 1.0


def add_examples(
    session: Session,
    examples: Iterable[NewExample],
    *,
    task: TaskKind,
    label_set_version: str,
    actor: str,
    split: Split | None = None,
) -> int:
    """Add imported examples in chunks and return how many; `split=Split.GOLDEN` makes them the approved test set. Audited once."""
    count = 0
    stream = iter(examples)
    while chunk := list(islice(stream, _INSERT_CHUNK)):
        rows = [_build_values(example, task=task, label_set_version=label_set_version, split=split) for example in chunk]
        session.connection().execute(insert(Example), rows)
        count += len(rows)
    detail = {"count": count, "split": split.value if split else None, "label_set_version": label_set_version}
    record_audit(session, actor=actor, action=ACTION_ADDED, subject_type="task", subject_id=task.value, detail=detail)
    return count


def add_example(
    session: Session,
    *,
    ticket_id: int | None,
    task: TaskKind,
    text: MaskedText,
    target: str,
    label_set_version: str,
    split: Split | None = None,
    weight: float = 1.0,
    group_key: str = "",
) -> Example:
    """Add one imported example, tied to its ticket. Not audited: whoever imports many writes one row about all of them."""
    row = Example(
        ticket_id=ticket_id,
        task=task,
        text=clean_text(text),
        target=clean_text(target),
        label_set_version=label_set_version,
        split=split,
        weight=weight,
        group_key=group_key,
    )
    session.add(row)
    session.flush()
    return row


def iterate_examples(
    session: Session,
    task: TaskKind,
    *,
    chunk: int = 1_000,
    has_withdrawn: bool = False,
    split: Split | None = None,
) -> Iterator[Example]:
    """Yield the task's examples by rising id, reading `chunk` rows at a time; they are detached, so memory stays flat.

    Each page is a query of its own: examples added meanwhile may appear at the end.
    """
    last_id = 0
    while True:
        query = select(Example).where(col(Example.task) == task, col(Example.id) > last_id)
        if not has_withdrawn:
            query = query.where(col(Example.is_withdrawn).is_(False))
        if split is not None:
            query = query.where(col(Example.split) == split)
        rows = session.exec(query.order_by(col(Example.id)).limit(chunk)).all()
        for row in rows:
            session.expunge(row)
        yield from rows
        if len(rows) < chunk:
            return
        last_id = row_id(rows[-1])


def get_example(session: Session, example_id: int) -> Example:
    """Return the example. Raises RowNotFoundError."""
    return get_row(session, Example, key=example_id, name="example")


def count_examples(session: Session, task: TaskKind, *, split: Split | None = None) -> int:
    """Return how many examples of the task are not withdrawn."""
    query = select(func.count()).select_from(Example).where(col(Example.task) == task, col(Example.is_withdrawn).is_(False))
    if split is not None:
        query = query.where(col(Example.split) == split)
    return session.exec(query).one()


def count_per_label(session: Session, *, label_set_version: str | None = None) -> dict[str, int]:
    """Return per label how many classification examples demonstrate it (negative and withdrawn ones not counted), most first."""
    count = func.count()
    query = select(Example.target, count).where(
        col(Example.task) == TaskKind.CLASSIFICATION, col(Example.is_withdrawn).is_(False), col(Example.is_negative).is_(False)
    )
    if label_set_version is not None:
        query = query.where(col(Example.label_set_version) == label_set_version)
    rows = session.exec(query.group_by(col(Example.target)).order_by(count.desc(), col(Example.target))).all()
    return dict(rows)


def record_splits(session: Session, splits: Mapping[int, Split]) -> None:
    """Write back which part of the dataset each example (by id) went to."""
    rows = ({"id": example_id, "split": split} for example_id, split in splits.items())
    while chunk := list(islice(rows, _INSERT_CHUNK)):
        session.exec(update(Example), params=chunk)
    session.expire_all()


def withdraw_example(session: Session, example_id: int, *, actor: str, reason: str) -> Example:
    """Take an example out of all later datasets; the row stays. Audited; a second time changes nothing. Raises RowNotFoundError."""
    example = get_example(session, example_id)
    if not example.is_withdrawn:
        example.is_withdrawn = True
        detail = {"reason": reason}
        record_audit(session, actor=actor, action=ACTION_WITHDRAWN, subject_type="example", subject_id=example_id, detail=detail)
    return example


def _build_values(example: NewExample, *, task: TaskKind, label_set_version: str, split: Split | None) -> dict[str, Any]:
    # A core insert applies no model defaults, so every column is named.
    return {
        "ticket_id": None,
        "feedback_id": None,
        "task": task,
        "text": clean_text(example.text),
        "turns": clean_turns([dict(turn) for turn in example.turns]),
        "target": clean_text(example.target),
        "draft": example.draft,
        "is_negative": False,
        "is_blind": False,
        "weight": example.weight,
        "split": split,
        "group_key": example.group_key,
        "label_set_version": label_set_version,
        "is_withdrawn": False,
        "created_at": now(),
    }
