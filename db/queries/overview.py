"""The figures at the head of the console. Counts only: what they mean for the team is told elsewhere."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func
from sqlmodel import Session, col, select

from db.queries.state import is_paused
from db.tables import Adapter, Example, FeedbackRow, Inference, Ticket, now
from db.types import AdapterStatus, FeedbackKind, TaskKind, TicketStatus

WINDOW = timedelta(days=30)
DECISIONS_PER_POINT = 50
MAX_POINTS = 100
BASE = "base"


@dataclass(frozen=True)
class OverviewCounts:
    """Counts of the last 30 days; `n_open` and `n_examples` are of now. The fields are those of `bot.types.Overview`.

    Accepts, overrides and handoffs are those of classification, edits those of summaries; replaced feedback does not count.
    `n_decided` counts tickets. `override_rate` is None without a decision. `live` says "base" where no adapter is.
    """

    n_open: int
    n_decided: int
    n_accepted: int
    n_overridden: int
    n_edited: int
    n_handed_off: int
    n_examples: int
    override_rate: float | None
    is_paused: bool
    live: dict[TaskKind, str]
    timeline: tuple[tuple[datetime, float, str], ...]


def get_overview(session: Session, *, at: datetime | None = None) -> OverviewCounts:
    """Return the figures as of `at` (now)."""
    since = (at or now()) - WINDOW
    kinds = count_feedback(session, TaskKind.CLASSIFICATION, since=since)
    n_edited = count_feedback(session, TaskKind.SUMMARY, since=since).get(FeedbackKind.EDIT, 0)
    return OverviewCounts(
        n_open=session.exec(select(func.count()).select_from(Ticket).where(col(Ticket.status) == TicketStatus.OPEN)).one(),
        n_decided=_count_decided(session, since),
        n_accepted=kinds.get(FeedbackKind.ACCEPT, 0),
        n_overridden=kinds.get(FeedbackKind.OVERRIDE, 0),
        n_edited=n_edited,
        n_handed_off=kinds.get(FeedbackKind.HANDOFF, 0),
        n_examples=session.exec(select(func.count()).select_from(Example).where(col(Example.is_withdrawn).is_(False))).one(),
        override_rate=_get_rate(kinds),
        is_paused=is_paused(session),
        live=get_live(session),
        timeline=get_timeline(session),
    )


def count_feedback(session: Session, task: TaskKind, *, since: datetime | None = None) -> dict[FeedbackKind, int]:
    """Return how often each kind of feedback was given and not replaced."""
    query = select(FeedbackRow.kind, func.count()).where(col(FeedbackRow.task) == task, col(FeedbackRow.replaced_by_id).is_(None))
    if since is not None:
        query = query.where(col(FeedbackRow.created_at) >= since)
    rows = session.exec(query.group_by(col(FeedbackRow.kind))).all()
    return {FeedbackKind(kind): count for kind, count in rows}


def get_override_rate(session: Session, *, since: datetime | None = None) -> float | None:
    """Return the share of classification decisions that chose another label, or None without one."""
    return _get_rate(count_feedback(session, TaskKind.CLASSIFICATION, since=since))


def get_live(session: Session) -> dict[TaskKind, str]:
    """Return per task the digest of the live adapter, or "base"."""
    rows = session.exec(select(Adapter.task, Adapter.digest).where(col(Adapter.status) == AdapterStatus.ACTIVE)).all()
    return dict.fromkeys(TaskKind, BASE) | {TaskKind(task): digest for task, digest in rows}


def get_timeline(
    session: Session, *, per: int = DECISIONS_PER_POINT, max_points: int = MAX_POINTS
) -> tuple[tuple[datetime, float, str], ...]:
    """Return (time of the last decision, share accepted, digest that answered it) per `per` classification decisions, oldest first.

    Points are full ones, counted from the first decision, so that a point never changes; at most `max_points` of the newest.
    """
    decisions = (col(FeedbackRow.task) == TaskKind.CLASSIFICATION, col(FeedbackRow.replaced_by_id).is_(None))
    total = session.exec(select(func.count()).select_from(FeedbackRow).where(*decisions)).one()
    n_points = min(total // per, max_points)
    first = (total // per - n_points) * per
    query = select(FeedbackRow.created_at, FeedbackRow.kind, Inference.adapter_digest).join(Inference).where(*decisions)
    rows = session.exec(query.order_by(col(FeedbackRow.id)).offset(first).limit(n_points * per)).all()
    return tuple(_build_point(rows[start : start + per]) for start in range(0, len(rows), per))


def _build_point(rows: Sequence[tuple[datetime, str, str]]) -> tuple[datetime, float, str]:
    last_at, _, digest = rows[-1]
    return last_at, sum(kind == FeedbackKind.ACCEPT for _, kind, _ in rows) / len(rows), digest


def _count_decided(session: Session, since: datetime) -> int:
    query = select(func.count(func.distinct(col(FeedbackRow.ticket_id)))).where(
        col(FeedbackRow.task) == TaskKind.CLASSIFICATION,
        col(FeedbackRow.replaced_by_id).is_(None),
        col(FeedbackRow.created_at) >= since,
    )
    return session.exec(query).one()


def _get_rate(kinds: dict[FeedbackKind, int]) -> float | None:
    total = sum(kinds.values())
    return kinds.get(FeedbackKind.OVERRIDE, 0) / total if total else None
