"""Inferences: what was asked of which adapter and what it answered; and past decisions to compare new tickets with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlmodel import Session, col, select

from db.queries.common import bound, get_row, row_id
from db.tables import Example, Inference
from db.types import MaskedText, ModelKind, Split, TaskKind


@dataclass(frozen=True)
class DecidedTicket:
    """A ticket a person has decided on. `text` is masked."""

    example_id: int
    ticket_id: int
    text: MaskedText
    label: str
    decided_at: datetime


def record_inference(
    session: Session,
    *,
    ticket_id: int,
    task: TaskKind,
    model_kind: ModelKind,
    base_digest: str,
    adapter_digest: str,
    prompt_version: str,
    latency_ms: float,
    label_set_version: str = "",
    label: str | None = None,
    confidence: float | None = None,
    output: Mapping[str, Any] | None = None,
    is_blind: bool = False,
    is_truncated: bool = False,
) -> Inference:
    """Append one model call. `output` is as `db.tables.Inference.output` says and holds masked text only."""
    row = Inference(
        ticket_id=ticket_id,
        task=task,
        model_kind=model_kind,
        base_digest=base_digest,
        adapter_digest=adapter_digest,
        prompt_version=prompt_version,
        latency_ms=latency_ms,
        label_set_version=label_set_version,
        label=label,
        confidence=confidence,
        output=dict(output or {}),
        is_blind=is_blind,
        is_truncated=is_truncated,
    )
    session.add(row)
    session.flush()
    return row


def get_inference(session: Session, inference_id: int) -> Inference:
    """Return the inference. Raises RowNotFoundError."""
    return get_row(session, Inference, key=inference_id, name="inference")


def latest_inference(session: Session, *, ticket_id: int, task: TaskKind) -> Inference | None:
    """Return the newest inference of that ticket and task, or None."""
    query = select(Inference).where(col(Inference.ticket_id) == ticket_id, col(Inference.task) == task)
    return session.exec(query.order_by(col(Inference.id).desc()).limit(1)).one_or_none()


def latest_inferences(session: Session, ticket_ids: Sequence[int], *, task: TaskKind) -> dict[int, Inference]:
    """Return the newest inference per ticket, for a page of the inbox, in one query."""
    query = select(Inference).where(col(Inference.ticket_id).in_(ticket_ids), col(Inference.task) == task)
    return {row.ticket_id: row for row in session.exec(query.order_by(col(Inference.id)))}


def list_decided(session: Session, *, limit: int = 5000, after_id: int | None = None) -> Sequence[DecidedTicket]:
    """Return recently decided tickets with text and label, newest first; with `after_id` only those of later examples.

    Blind and golden ones are left out: they measure the models and must not help them.
    """
    query = select(Example).where(
        col(Example.task) == TaskKind.CLASSIFICATION,
        col(Example.ticket_id).is_not(None),
        col(Example.is_withdrawn).is_(False),
        col(Example.is_negative).is_(False),
        col(Example.is_blind).is_(False),
        col(Example.split).is_(None) | (col(Example.split) != Split.GOLDEN),
    )
    if after_id is not None:
        query = query.where(col(Example.id) > after_id)
    rows = session.exec(query.order_by(col(Example.id).desc()).limit(bound(limit))).all()
    return [
        DecidedTicket(
            example_id=row_id(row),
            ticket_id=row.ticket_id,
            text=MaskedText(row.text),
            label=row.target,
            decided_at=row.created_at,
        )
        for row in rows
        if row.ticket_id is not None
    ]
