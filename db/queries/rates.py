"""How people's decisions come out: per person, and per label that was suggested. Counts only; what they mean is told elsewhere."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func
from sqlmodel import Session, col, select

from db.tables import FeedbackRow, Inference, now
from db.types import FeedbackKind, TaskKind


@dataclass(frozen=True)
class LabelCounts:
    """One suggested label: decisions on it, overrides among them, and how often it was suggested in the window and the one before."""

    label: str
    n_decided: int
    n_overridden: int
    n_suggested: int
    n_suggested_before: int


def count_by_actor(session: Session, *, actor: str | None, since: datetime) -> dict[FeedbackKind, int]:
    """Return how often each kind of feedback was given by a person (anybody with None), not replaced and not passive; all kinds are named."""
    query = select(FeedbackRow.kind, func.count()).where(
        col(FeedbackRow.replaced_by_id).is_(None), col(FeedbackRow.is_passive).is_(False), col(FeedbackRow.created_at) >= since
    )
    if actor is not None:
        query = query.where(col(FeedbackRow.actor) == actor)
    found = {FeedbackKind(kind): count for kind, count in session.exec(query.group_by(col(FeedbackRow.kind))).all()}
    return {kind: found.get(kind, 0) for kind in FeedbackKind}


def count_labels(session: Session, *, window: timedelta, at: datetime | None = None) -> Sequence[LabelCounts]:
    """Return the counts of every label suggested or decided on in the last two windows."""
    at = at or now()
    suggested = _count_suggested(session, at - window, at)
    before = _count_suggested(session, at - 2 * window, at - window)
    decided, overridden = _count_decided(session, at - window)
    return [
        LabelCounts(label, decided[label], overridden[label], suggested[label], before[label])
        for label in sorted({*suggested, *before, *decided})
    ]


def _count_suggested(session: Session, since: datetime, until: datetime) -> Counter[str]:
    query = (
        select(Inference.label, func.count(func.distinct(col(Inference.ticket_id))))
        .where(
            col(Inference.task) == TaskKind.CLASSIFICATION,
            col(Inference.label).is_not(None),
            col(Inference.created_at) >= since,
            col(Inference.created_at) < until,
        )
        .group_by(col(Inference.label))
    )
    return Counter({str(label): count for label, count in session.exec(query).all()})


def _count_decided(session: Session, since: datetime) -> tuple[Counter[str], Counter[str]]:
    query = (
        select(Inference.label, FeedbackRow.kind, func.count())
        .join(Inference, col(Inference.id) == col(FeedbackRow.inference_id))
        .where(
            col(FeedbackRow.task) == TaskKind.CLASSIFICATION,
            col(FeedbackRow.replaced_by_id).is_(None),
            col(FeedbackRow.created_at) >= since,
            col(Inference.label).is_not(None),
        )
        .group_by(col(Inference.label), col(FeedbackRow.kind))
    )
    decided: Counter[str] = Counter()
    overridden: Counter[str] = Counter()
    for label, kind, count in session.exec(query).all():
        decided[str(label)] += count
        if FeedbackKind(kind) is FeedbackKind.OVERRIDE:
            overridden[str(label)] += count
    return decided, overridden
