"""Examples that people have erased while a run was using them: they get no split, and the adapter that learned from them is marked.

An erasure marks the adapters there are. The one in the making is not among them yet, so it is marked here as it is entered.
"""

from collections.abc import Callable, Mapping
from functools import partial
from itertools import islice

from sqlalchemy import func
from sqlmodel import Session, col, select

from db.queries.audit import record_audit
from db.queries.examples import record_splits
from db.queries.lineage import ACTION_MARKED, LEARNED
from db.tables import Adapter, Example, RunExample, now
from db.types import Split

_AT_ONCE = 5_000


def record_assignments(assignments: Mapping[int, Split], *, write: Callable[[Callable[[Session], object]], None]) -> None:
    """Write the splits of new examples back through `write`, a few thousand at a time, those erased since they were read left out."""
    rest = iter(assignments.items())
    while part := dict(islice(rest, _AT_ONCE)):
        write(partial(_record, part=part))


def _record(session: Session, part: Mapping[int, Split]) -> None:
    there = session.exec(select(Example.id).where(col(Example.id).in_(part)).with_for_update()).all()
    record_splits(session, {example_id: part[example_id] for example_id in there if example_id is not None})


def mark_if_erased(session: Session, adapter: Adapter, *, run_id: int, actor: str) -> int:
    """Mark an adapter whose run learned from examples that are gone by now, and return how many. Audited."""
    query = (
        select(func.count())
        .select_from(RunExample)
        .outerjoin(Example, col(Example.id) == col(RunExample.example_id))
        .where(col(RunExample.run_id) == run_id, col(RunExample.split).in_(LEARNED), col(Example.id).is_(None))
    )
    n_erased = session.exec(query).one()
    if n_erased:
        adapter.erased_at, adapter.n_erased = now(), n_erased
        detail = {"n_examples": n_erased, "reason": f"erased while run {run_id} was going", "task": adapter.task.value}
        record_audit(session, actor=actor, action=ACTION_MARKED, subject_type="adapter", subject_id=adapter.digest, detail=detail)
        session.flush()
    return n_erased
