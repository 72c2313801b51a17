"""The time line: what was live from when to when, what it had learned from, what the gate said and who let it go live.

Put together from activations, adapters, runs, gate reports and the audit trail; nothing is stored for it.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlmodel import Session, col, select

from db.queries.approvals import ACTION as ACTION_APPROVED
from db.tables import Activation, Adapter, Audit, GateReport, TrainingRun
from db.types import ModelKind, RunTrigger, TaskKind

COUNTS = ("n_seen", "n_train", "n_validation", "n_test", "n_golden", "n_negative")


@dataclass(frozen=True)
class LivePeriod:
    """What answered a task from `since` (None: from the beginning) until `until` (None: still). `digest` None is the bare base model.

    `actor` made it live for `reason`; `approved_by` are the people behind that, for an automatic promotion none. `data_counts` holds
    how many examples it learned from and was judged on, `verdict` the gate's reasons, `n_erased` how many examples were erased since.
    """

    task: TaskKind
    digest: str | None
    since: datetime | None
    until: datetime | None
    actor: str = ""
    reason: str = ""
    is_rollback: bool = False
    approved_by: tuple[str, ...] = ()
    model_kind: ModelKind | None = None
    base_digest: str | None = None
    label_set_version: str = ""
    prompt_version: str = ""
    run_id: int | None = None
    run_trigger: RunTrigger | None = None
    run_actor: str = ""
    data_digest: str | None = None
    data_counts: Mapping[str, int] = field(default_factory=dict)
    is_passed: bool | None = None
    verdict: tuple[str, ...] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)
    n_erased: int = 0
    erased_at: datetime | None = None


def build_timeline(session: Session, *, task: TaskKind | None = None, at: datetime | None = None) -> list[LivePeriod]:
    """Return the periods of the task, or of all, oldest first; with `at` only what was live then, one per task.

    A period holds its first moment and not its last. Raises ValueError for a time without a zone.
    """
    if at is not None and at.tzinfo is None:
        message = "a time line asks for a time with a zone: use datetime(..., tzinfo=UTC)"
        raise ValueError(message)
    tasks = list(TaskKind) if task is None else [task]
    facts = _read_facts(session, tasks)
    found = []
    for each in tasks:
        rows = facts.activations[each]
        periods = [LivePeriod(task=each, digest=None, since=None, until=rows[0].at if rows else None)]
        ends = [*(row.at for row in rows[1:]), None]
        periods += [_build_period(row, facts, until=end) for row, end in zip(rows, ends, strict=False)]
        found += periods if at is None else [period for period in periods if _covers(period, at)]
    return found


@dataclass(frozen=True)
class _Facts:
    activations: Mapping[TaskKind, Sequence[Activation]]
    adapters: Mapping[str, Adapter]
    runs: Mapping[int | None, TrainingRun]
    reports: Mapping[str, GateReport]
    approvals: Mapping[str, Sequence[Audit]]


def _read_facts(session: Session, tasks: Sequence[TaskKind]) -> _Facts:
    """Read everything in five queries, however long the history is."""
    activations: dict[TaskKind, list[Activation]] = defaultdict(list)
    for row in session.exec(select(Activation).where(col(Activation.task).in_(tasks)).order_by(col(Activation.id))):
        activations[row.task].append(row)
    was_live = select(Activation.adapter_digest).where(col(Activation.task).in_(tasks))
    adapters = session.exec(select(Adapter).where(col(Adapter.digest).in_(was_live))).all()
    run_ids = select(Adapter.run_id).where(col(Adapter.digest).in_(was_live))
    runs = session.exec(select(TrainingRun).where(col(TrainingRun.id).in_(run_ids))).all()
    reports = session.exec(
        select(GateReport).where(col(GateReport.adapter_digest).in_(was_live)).order_by(col(GateReport.id))
    ).all()
    approvals: dict[str, list[Audit]] = defaultdict(list)
    query = select(Audit).where(col(Audit.action) == ACTION_APPROVED, col(Audit.subject_id).in_(was_live)).order_by(col(Audit.id))
    for approval in session.exec(query):
        approvals[approval.subject_id].append(approval)
    return _Facts(
        activations=activations,
        adapters={row.digest: row for row in adapters},
        runs={row.id: row for row in runs},
        reports={row.adapter_digest: row for row in reports},
        approvals=approvals,
    )


def _build_period(row: Activation, facts: _Facts, *, until: datetime | None) -> LivePeriod:
    adapter = None if row.adapter_digest is None else facts.adapters.get(row.adapter_digest)
    run = None if adapter is None else facts.runs.get(adapter.run_id)
    report = None if adapter is None else facts.reports.get(adapter.digest)
    approvals = facts.approvals.get(row.adapter_digest or "", ())
    return LivePeriod(
        task=row.task,
        digest=row.adapter_digest,
        since=row.at,
        until=until,
        actor=row.actor,
        reason=row.reason,
        is_rollback=row.is_rollback,
        approved_by=tuple(dict.fromkeys(approval.actor for approval in approvals if approval.at <= row.at)),
        model_kind=adapter.model_kind if adapter else None,
        base_digest=adapter.base_digest if adapter else None,
        label_set_version=adapter.label_set_version if adapter else "",
        prompt_version=adapter.prompt_version if adapter else "",
        run_id=adapter.run_id if adapter else None,
        run_trigger=run.trigger if run else None,
        run_actor=run.actor if run else "",
        data_digest=run.data_digest if run else None,
        data_counts={name: run.data_counts[name] for name in COUNTS if name in run.data_counts} if run else {},
        is_passed=report.is_passed if report else None,
        verdict=tuple(report.reasons) if report else (),
        metrics=dict(adapter.metrics) if adapter else {},
        n_erased=(adapter.n_erased or 0) if adapter else 0,
        erased_at=adapter.erased_at if adapter else None,
    )


def _covers(period: LivePeriod, at: datetime) -> bool:
    return (period.since is None or period.since <= at) and (period.until is None or at < period.until)
