"""Lineage: which example went into which run and so into which adapter, and what happens to adapters when examples are erased.

One query leads from an example or a ticket to every adapter, and back. What a person's data are is decided by the caller.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any

from sqlalchemy import ColumnElement, Select, delete, func, insert
from sqlalchemy import Row as SqlRow
from sqlalchemy import select as sql_select
from sqlmodel import Session, col, select

from db.errors import InvalidValueError
from db.queries.audit import record_audit
from db.queries.common import bound, take_lock
from db.queries.wanted import want_run
from db.tables import Adapter, Example, RunExample, TrainingRun, now
from db.types import AdapterStatus, RunStatus, RunTrigger, Split, TaskKind

LEARNED = (Split.TRAIN, Split.VALIDATION)
"""What shaped an adapter: the rest only judged it."""
ACTION_ERASED = "example.erase"
ACTION_MARKED = "adapter.mark_erased"
_CHUNK = 5_000
_IDS_AT_ONCE = 500


@dataclass(frozen=True)
class Trace:
    """One use of an example: the run, what for, and the adapter that came of it (None where none did)."""

    example_id: int
    ticket_id: int | None
    task: TaskKind
    run_id: int
    run_status: RunStatus
    split: Split
    adapter_digest: str | None
    adapter_status: AdapterStatus | None
    activated_at: datetime | None


@dataclass(frozen=True)
class Erasure:
    """What an erasure did: examples gone, adapters marked (digest to how many of them it learned from), tasks to be trained anew."""

    n_examples: int
    marked: Mapping[str, int]
    retrains: tuple[TaskKind, ...]


def clear_run_examples(session: Session, run_id: int) -> None:
    """Forget what a run used: an attempt that is taken up again writes it anew."""
    session.connection().execute(delete(RunExample).where(col(RunExample.run_id) == run_id))


def add_run_examples(session: Session, run_id: int, uses: Iterable[tuple[int, Split]]) -> int:
    """Write which examples (by id) a run uses and for what; returns how many. Streams, so any number of them needs no more memory."""
    count = 0
    stream = iter(uses)
    while chunk := [{"run_id": run_id, "example_id": key, "split": split} for key, split in islice(stream, _CHUNK)]:
        session.connection().execute(insert(RunExample), chunk)
        count += len(chunk)
    return count


def trace_example(session: Session, example_id: int) -> Sequence[Trace]:
    """Return every use of an example, the first run first; also of one that has been erased."""
    return _trace(session, col(RunExample.example_id) == bound(example_id))


def trace_ticket(session: Session, ticket_id: int) -> Sequence[Trace]:
    """Return every use of the ticket's examples, the first run first. Examples that were deleted no longer name their ticket."""
    return _trace(session, col(Example.ticket_id) == bound(ticket_id))


def trace_adapter(session: Session, digest: str, *, limit: int | None = None, after_id: int = 0) -> Sequence[Trace]:
    """Return what an adapter learned from and was judged on, by rising example id; `after_id` pages on."""
    query = _build_query().where(col(Adapter.digest) == digest, col(RunExample.example_id) > bound(after_id))
    query = query.order_by(col(RunExample.example_id))
    rows = session.connection().execute(query if limit is None else query.limit(bound(limit)))
    return [_build_trace(row) for row in rows]


def count_uses(session: Session, run_id: int) -> dict[Split, int]:
    """Return how many examples a run used for what."""
    query = select(RunExample.split, func.count()).where(col(RunExample.run_id) == run_id).group_by(col(RunExample.split))
    return {Split(split): count for split, count in session.exec(query).all()}


def erase_examples(
    session: Session,
    *,
    actor: str,
    reason: str,
    ticket_ids: Sequence[int] = (),
    example_ids: Sequence[int] = (),
    is_deleting: bool = True,
) -> Erasure:
    """Take the examples, those of the tickets too, out of everything that learns, mark the adapters that learned from them and ask for runs.

    `is_deleting` removes the rows; without it they are withdrawn and stay readable. A task whose live adapter learned from any is wanted
    for training as soon as the schedule may start one. Audited without any text. A second time there is nothing left to erase.
    Raises InvalidValueError where neither tickets nor examples are named.
    """
    if not ticket_ids and not example_ids:
        message = "an erasure needs tickets or examples: it was given none"
        raise InvalidValueError(message)
    take_lock(session, "adapters")
    found = _find(session, ticket_ids=ticket_ids, example_ids=example_ids, is_deleting=is_deleting)
    marked = _mark(session, found, actor=actor, reason=reason)
    for ids in _batch(found):
        if is_deleting:
            session.connection().execute(delete(Example).where(col(Example.id).in_(ids)))
        else:
            for row in session.exec(select(Example).where(col(Example.id).in_(ids))).all():
                row.is_withdrawn = True
    session.flush()
    session.expire_all()
    retrains = _want_runs(session, marked, reason=reason)
    detail = {
        "reason": reason,
        "n_examples": len(found),
        "tickets": [str(key) for key in ticket_ids[:100]],
        "is_deleted": is_deleting,
        "adapters": dict(marked),
        "retrains": [task.value for task in retrains],
    }
    subject = str(ticket_ids[0]) if len(ticket_ids) == 1 else f"{len(found)} examples"
    kind = "ticket" if len(ticket_ids) == 1 else "examples"
    record_audit(session, actor=actor, action=ACTION_ERASED, subject_type=kind, subject_id=subject, detail=detail)
    return Erasure(n_examples=len(found), marked=marked, retrains=retrains)


def _find(session: Session, *, ticket_ids: Sequence[int], example_ids: Sequence[int], is_deleting: bool) -> list[int]:
    found: set[int] = set()
    for column, keys in ((col(Example.ticket_id), ticket_ids), (col(Example.id), example_ids)):
        for batch in _batch(keys):
            query = select(Example.id).where(column.in_(batch))
            if not is_deleting:
                query = query.where(col(Example.is_withdrawn).is_(False))
            found.update(key for key in session.exec(query).all() if key is not None)
    return sorted(found)


def _mark(session: Session, example_ids: Sequence[int], *, actor: str, reason: str) -> dict[str, int]:
    """Mark the adapters that learned from them and return how many each did."""
    counts: dict[str, int] = {}
    for batch in _batch(example_ids):
        query = (
            select(Adapter.digest, func.count(func.distinct(col(RunExample.example_id))))
            .join(TrainingRun, col(TrainingRun.adapter_digest) == col(Adapter.digest))
            .join(RunExample, col(RunExample.run_id) == col(TrainingRun.id))
            .where(col(RunExample.example_id).in_(batch), col(RunExample.split).in_(LEARNED))
            .group_by(col(Adapter.digest))
        )
        for digest, count in session.exec(query).all():
            counts[digest] = counts.get(digest, 0) + count
    at = now()
    for digest, count in sorted(counts.items()):
        adapter = session.exec(select(Adapter).where(col(Adapter.digest) == digest)).one()
        adapter.erased_at = at
        adapter.n_erased = (adapter.n_erased or 0) + count
        detail = {"n_examples": count, "reason": reason, "task": adapter.task.value, "status": adapter.status.value}
        record_audit(session, actor=actor, action=ACTION_MARKED, subject_type="adapter", subject_id=digest, detail=detail)
    return counts


def _want_runs(session: Session, marked: Mapping[str, int], *, reason: str) -> tuple[TaskKind, ...]:
    tasks = []
    for task in TaskKind:
        query = select(Adapter).where(col(Adapter.task) == task, col(Adapter.status) == AdapterStatus.ACTIVE)
        live = session.exec(query).one_or_none()
        if live is not None and live.digest in marked:
            text = f"the live adapter {live.digest[:12]} learned from {marked[live.digest]} examples that were erased ({reason})"
            want_run(session, task, trigger=RunTrigger.ERASURE, reason=text)
            tasks.append(task)
    return tuple(tasks)


def _batch(keys: Sequence[int]) -> Iterable[list[int]]:
    stream = (bound(key) for key in keys)
    while batch := list(islice(stream, _IDS_AT_ONCE)):
        yield batch


def _build_query() -> Select[*tuple[Any, ...]]:
    return (
        sql_select(
            col(RunExample.example_id),
            col(Example.ticket_id),
            col(TrainingRun.task),
            col(RunExample.run_id),
            col(TrainingRun.status).label("run_status"),
            col(RunExample.split),
            col(Adapter.digest).label("adapter_digest"),
            col(Adapter.status).label("adapter_status"),
            col(Adapter.activated_at),
        )
        .select_from(RunExample)
        .join(TrainingRun, col(TrainingRun.id) == col(RunExample.run_id))
        .outerjoin(Adapter, col(Adapter.digest) == col(TrainingRun.adapter_digest))
        .outerjoin(Example, col(Example.id) == col(RunExample.example_id))
    )


def _trace(session: Session, condition: ColumnElement[bool]) -> Sequence[Trace]:
    query = _build_query().where(condition).order_by(col(RunExample.run_id), col(RunExample.example_id))
    return [_build_trace(row) for row in session.connection().execute(query)]


def _build_trace(row: SqlRow[Any]) -> Trace:
    return Trace(**row._mapping)
