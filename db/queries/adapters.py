"""Adapters and what is live per task. The only place that changes an adapter's status; the base model is live where no adapter is."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlmodel import Session, col, select

from db.errors import InvalidValueError, NothingToRollBackError, RowNotFoundError, TransitionError
from db.queries.audit import record_audit
from db.queries.common import bound, take_lock
from db.tables import Activation, Adapter, now
from db.types import AdapterStatus, ModelKind, TaskKind

S = AdapterStatus
TRANSITIONS: Mapping[AdapterStatus, frozenset[AdapterStatus]] = {
    S.CANDIDATE: frozenset({S.SHADOW, S.ACTIVE, S.REJECTED}),
    S.SHADOW: frozenset({S.ACTIVE, S.REJECTED}),
    S.ACTIVE: frozenset({S.RETIRED}),
    S.RETIRED: frozenset({S.ACTIVE}),
    S.REJECTED: frozenset(),
}
MIN_PREFIX = 8


def register_adapter(
    session: Session,
    *,
    digest: str,
    task: TaskKind,
    model_kind: ModelKind,
    base_digest: str,
    prompt_version: str,
    path: str,
    actor: str,
    label_set_version: str = "",
    run_id: int | None = None,
    metrics: Mapping[str, float] | None = None,
    reason: str = "",
) -> Adapter:
    """Store a new adapter as a candidate. The same digest again gives back the row that is there, whatever became of it."""
    take_lock(session, "adapters")
    known = _find(session, digest)
    if known is not None:
        return known
    row = Adapter(
        digest=digest,
        task=task,
        model_kind=model_kind,
        base_digest=base_digest,
        label_set_version=label_set_version,
        prompt_version=prompt_version,
        path=path,
        run_id=run_id,
        metrics=dict(metrics or {}),
        reason=reason,
    )
    session.add(row)
    session.flush()
    _audit(session, row, action="register", actor=actor, reason=reason)
    return row


def get_adapter(session: Session, digest: str) -> Adapter:
    """Return the adapter with exactly this digest. Raises RowNotFoundError."""
    row = _find(session, digest)
    if row is None:
        message = f"there is no adapter {digest}"
        raise RowNotFoundError(message)
    return row


def resolve_digest(session: Session, prefix: str) -> Adapter:
    """Return the one adapter whose digest begins so. Raises InvalidValueError (too short, or several fit) or RowNotFoundError."""
    prefix = prefix.strip().lower()
    if len(prefix) < MIN_PREFIX:
        message = f"give at least {MIN_PREFIX} characters of the digest, not {len(prefix)}"
        raise InvalidValueError(message)
    query = select(Adapter).where(col(Adapter.digest).startswith(prefix, autoescape=True)).order_by(col(Adapter.digest)).limit(3)
    rows = session.exec(query).all()
    if not rows:
        message = f"there is no adapter whose digest begins with {prefix}"
        raise RowNotFoundError(message)
    if len(rows) > 1:
        message = f"several adapters begin with {prefix}, such as {rows[0].digest} and {rows[1].digest}: give more characters"
        raise InvalidValueError(message)
    return rows[0]


def list_adapters(
    session: Session, *, task: TaskKind | None = None, status: AdapterStatus | None = None, limit: int | None = None
) -> Sequence[Adapter]:
    """Return adapters, newest first."""
    query = select(Adapter).order_by(col(Adapter.id).desc())
    if task is not None:
        query = query.where(col(Adapter.task) == task)
    if status is not None:
        query = query.where(col(Adapter.status) == status)
    if limit is not None:
        query = query.limit(bound(limit))
    return session.exec(query).all()


def get_active(session: Session, task: TaskKind) -> Adapter | None:
    """Return the adapter that is live for the task; None means the bare base model."""
    return session.exec(select(Adapter).where(col(Adapter.task) == task, col(Adapter.status) == S.ACTIVE)).one_or_none()


def check_can_activate(adapter: Adapter) -> None:
    """Raise TransitionError for an adapter that can never be live again; one that is live passes."""
    if adapter.status is not S.ACTIVE:
        _check(adapter, S.ACTIVE)


def activate_adapter(session: Session, digest: str, *, actor: str, reason: str) -> Adapter:
    """Make the adapter the live one of its task and retire the one that was, in this transaction.

    Already live: nothing changes. Raises RowNotFoundError, or TransitionError for a rejected adapter.
    """
    take_lock(session, "adapters")
    adapter = get_adapter(session, digest)
    session.refresh(adapter)
    if adapter.status is not S.ACTIVE:
        _make_live(session, adapter.task, adapter=adapter, actor=actor, reason=reason)
    return adapter


def deactivate_to_base(session: Session, task: TaskKind, *, actor: str, reason: str) -> Adapter | None:
    """Let the bare base model serve the task; return the adapter that was live, or None where there was none."""
    take_lock(session, "adapters")
    current = get_active(session, task)
    if current is not None:
        _make_live(session, task, adapter=None, actor=actor, reason=reason)
    return current


def rollback(session: Session, task: TaskKind, *, actor: str, reason: str) -> Adapter | None:
    """Return to what was live before, and that before it the next time; None means the bare base model.

    Raises NothingToRollBackError where nothing was.
    """
    take_lock(session, "adapters")
    stack = _build_stack(session, task)
    if len(stack) < 2:
        message = f"there is nothing to roll back to: no adapter has been live for {task.value}, or all are rolled back"
        raise NothingToRollBackError(message)
    target = None if stack[-2] is None else get_adapter(session, stack[-2])
    _make_live(session, task, adapter=target, actor=actor, reason=reason, is_rollback=True)
    return target


def shadow_adapter(session: Session, digest: str, *, actor: str, reason: str) -> Adapter:
    """Let a candidate answer beside the live one without being shown. Raises RowNotFoundError or TransitionError."""
    return _set_waiting(session, digest, status=S.SHADOW, actor=actor, reason=reason)


def reject_adapter(session: Session, digest: str, *, actor: str, reason: str) -> Adapter:
    """Turn a candidate or shadow down for good. Raises RowNotFoundError or TransitionError."""
    return _set_waiting(session, digest, status=S.REJECTED, actor=actor, reason=reason)


def what_was_live(session: Session, at: datetime, *, task: TaskKind) -> str | None:
    """Return the digest that was live for the task at that time; None means the bare base model."""
    query = select(Activation).where(col(Activation.task) == task, col(Activation.at) <= at)
    row = session.exec(query.order_by(col(Activation.id).desc()).limit(1)).one_or_none()
    return None if row is None else row.adapter_digest


def list_activations(session: Session, task: TaskKind, *, limit: int | None = None) -> Sequence[Activation]:
    """Return every change of what is live, newest first."""
    query = select(Activation).where(col(Activation.task) == task).order_by(col(Activation.id).desc())
    return session.exec(query if limit is None else query.limit(bound(limit))).all()


def _find(session: Session, digest: str) -> Adapter | None:
    return session.exec(select(Adapter).where(col(Adapter.digest) == digest)).one_or_none()


def _build_stack(session: Session, task: TaskKind) -> list[str | None]:
    """Return what lies below the live entry: an activation puts one on top, a rollback takes the top away."""
    stack: list[str | None] = [None]
    for row in session.exec(select(Activation).where(col(Activation.task) == task).order_by(col(Activation.id))):
        if row.is_rollback:
            stack.pop()
        else:
            stack.append(row.adapter_digest)
    return stack


def _make_live(
    session: Session, task: TaskKind, *, adapter: Adapter | None, actor: str, reason: str, is_rollback: bool = False
) -> None:
    previous = get_active(session, task)
    at = now()
    if previous is not None:
        _check(previous, S.RETIRED)
        previous.status = S.RETIRED
        previous.retired_at = at
        session.flush()  # before the next one: the database allows one active adapter per task
    if adapter is not None:
        _check(adapter, S.ACTIVE)
        adapter.status = S.ACTIVE
        adapter.activated_at = at
        adapter.retired_at = None
        adapter.reason = reason
    digest = None if adapter is None else adapter.digest
    previous_digest = None if previous is None else previous.digest
    row = Activation(
        task=task,
        adapter_digest=digest,
        previous_digest=previous_digest,
        is_rollback=is_rollback,
        actor=actor,
        reason=reason,
        at=at,
    )
    session.add(row)
    action = "rollback" if is_rollback else ("activate" if adapter is not None else "deactivate")
    detail = {"task": task.value, "previous": previous_digest, "reason": reason}
    record_audit(
        session, actor=actor, action=f"adapter.{action}", subject_type="adapter", subject_id=digest or "base", detail=detail
    )


def _set_waiting(session: Session, digest: str, *, status: AdapterStatus, actor: str, reason: str) -> Adapter:
    take_lock(session, "adapters")
    adapter = get_adapter(session, digest)
    session.refresh(adapter)
    _check(adapter, status)
    adapter.status = status
    adapter.reason = reason
    _audit(session, adapter, action="shadow" if status is S.SHADOW else "reject", actor=actor, reason=reason)
    return adapter


def _check(adapter: Adapter, status: AdapterStatus) -> None:
    if status not in TRANSITIONS[adapter.status]:
        message = f"adapter {adapter.digest[:12]} is {adapter.status.value} and cannot become {status.value}"
        raise TransitionError(message)


def _audit(session: Session, adapter: Adapter, *, action: str, actor: str, reason: str) -> None:
    detail = {"task": adapter.task.value, "run_id": adapter.run_id, "reason": reason}
    record_audit(
        session, actor=actor, action=f"adapter.{action}", subject_type="adapter", subject_id=adapter.digest, detail=detail
    )
