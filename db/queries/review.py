"""The review queue: questions about examples, asked once each, and what a person's answer does to the examples.

Knows rows, not models: what is suspicious is found by the training process, by `db.queries.feedback` and by people.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, func
from sqlmodel import Session, col, select

from db.errors import InvalidValueError, StateConflictError
from db.queries.audit import record_audit
from db.queries.common import bound, get_row, row_id, take_lock
from db.tables import Example, FeedbackRow, Inference, ReviewItem, ReviewSide, Ticket, now
from db.types import ReviewKind, ReviewStatus, TaskKind, TicketStatus

ACTION_RESOLVED = "review.resolve"
ACTION_DISMISSED = "review.dismiss"
ACTION_REOPENED = "review.reopen"
ACTION_FLAGGED = "review.flag"
MODEL = "model"
"""Stands as the actor of a side that no person chose."""
IMPORTED = "import"
_LOCK = "review"


@dataclass(frozen=True)
class NewSide:
    """One side of a question. `confidence` is the model's, where it says something about this label."""

    label: str
    actor: str
    at: datetime
    example_id: int | None = None
    ticket_id: int | None = None
    confidence: float | None = None


def build_key(kind: ReviewKind, task: TaskKind, *parts: str | int) -> str:
    """Return the name of what a question is about: equal parts, equal question."""
    content = "\0".join([kind.value, task.value, *map(str, parts)])
    return hashlib.sha256(content.encode("utf-8", "replace")).hexdigest()


def ask(
    session: Session,
    *,
    kind: ReviewKind,
    task: TaskKind,
    key: str,
    sides: Sequence[NewSide],
    priority: float = 0.0,
    run_id: int | None = None,
    reason: str = "",
) -> ReviewItem | None:
    """Put a question into the queue and return it, or None where it is known already.

    A known question takes up sides of examples it has not named yet; if it was settled, it is then asked anew, and that is audited.
    """
    take_lock(session, _LOCK)  # two processes that ask the same take turns
    known = session.exec(select(ReviewItem).where(col(ReviewItem.content_key) == key)).one_or_none()
    if known is not None:
        return _extend(session, known, sides)
    item = ReviewItem(kind=kind, task=task, content_key=key, priority=priority, run_id=run_id, reason=reason)
    session.add(item)
    session.flush()
    _add_sides(session, item, sides)
    return item


def _extend(session: Session, item: ReviewItem, sides: Sequence[NewSide]) -> ReviewItem | None:
    named = {side.example_id for side in list_sides(session, [row_id(item)])[row_id(item)]}
    new = [side for side in sides if side.example_id is not None and side.example_id not in named]
    if not new:
        return None
    _add_sides(session, item, new)
    if item.status is ReviewStatus.OPEN:
        return None
    detail = {"was": item.status.value, "resolution": item.resolution}
    record_audit(session, actor=MODEL, action=ACTION_REOPENED, subject_type="review", subject_id=row_id(item), detail=detail)
    item.status, item.resolution, item.resolved_by, item.resolved_at = ReviewStatus.OPEN, None, None, None
    session.flush()
    return item


def _add_sides(session: Session, item: ReviewItem, sides: Sequence[NewSide]) -> None:
    session.add_all(
        ReviewSide(
            item_id=row_id(item),
            example_id=side.example_id,
            ticket_id=side.ticket_id,
            label=side.label,
            actor=side.actor,
            at=side.at,
            confidence=side.confidence,
        )
        for side in sides
    )
    session.flush()


def get_item(session: Session, item_id: int) -> ReviewItem:
    """Return the question. Raises RowNotFoundError."""
    return get_row(session, ReviewItem, key=item_id, name="review item")


def list_items(
    session: Session,
    *,
    status: ReviewStatus | None = ReviewStatus.OPEN,
    kind: ReviewKind | None = None,
    limit: int = 50,
) -> Sequence[ReviewItem]:
    """Return questions, the most pressing first, then the oldest; `status=None` means all."""
    query = select(ReviewItem).order_by(col(ReviewItem.priority).desc(), col(ReviewItem.id)).limit(bound(limit))
    if status is not None:
        query = query.where(col(ReviewItem.status) == status)
    if kind is not None:
        query = query.where(col(ReviewItem.kind) == kind)
    return session.exec(query).all()


def list_sides(session: Session, item_ids: Sequence[int]) -> dict[int, list[ReviewSide]]:
    """Return the sides of each question, in the order they were named."""
    found: dict[int, list[ReviewSide]] = {item_id: [] for item_id in item_ids}
    query = select(ReviewSide).where(col(ReviewSide.item_id).in_(item_ids)).order_by(col(ReviewSide.id))
    for side in session.exec(query):
        found[side.item_id].append(side)
    return found


def count_open(session: Session) -> dict[ReviewKind, int]:
    """Return how many questions of each kind are open; kinds without any are absent."""
    query = (
        select(ReviewItem.kind, func.count()).where(col(ReviewItem.status) == ReviewStatus.OPEN).group_by(col(ReviewItem.kind))
    )
    return {ReviewKind(kind): count for kind, count in session.exec(query).all()}


def list_settled_examples(session: Session, kind: ReviewKind) -> set[int]:
    """Return the ids of examples about which a question of that kind was settled: what people have decided is not asked again."""
    return _list_examples(session, col(ReviewItem.kind) == kind, col(ReviewItem.status) != ReviewStatus.OPEN)


def list_named_examples(session: Session, kinds: Iterable[ReviewKind]) -> set[int]:
    """Return the ids of examples that questions of these kinds name, open and settled ones."""
    return _list_examples(session, col(ReviewItem.kind).in_(list(kinds)))


def _list_examples(session: Session, *conditions: ColumnElement[bool]) -> set[int]:
    query = select(ReviewSide.example_id).join(ReviewItem, col(ReviewItem.id) == col(ReviewSide.item_id)).where(*conditions)
    return {example_id for example_id in session.exec(query) if example_id is not None}


def build_example_sides(session: Session, example_ids: Iterable[int]) -> list[NewSide]:
    """Return a side for each example, in order of id: its label, and who gave it when. Unknown ids are skipped."""
    ids = sorted(set(example_ids))
    query = (
        select(Example, FeedbackRow.actor)
        .outerjoin(FeedbackRow, col(FeedbackRow.id) == col(Example.feedback_id))
        .where(col(Example.id).in_(ids))
        .order_by(col(Example.id))
    )
    return [
        NewSide(
            label=example.target if example.task is TaskKind.CLASSIFICATION else "",
            actor=actor or IMPORTED,
            at=example.created_at,
            example_id=example.id,
            ticket_id=example.ticket_id,
        )
        for example, actor in session.exec(query).all()
    ]


def flag(session: Session, *, example_id: int, actor: str, reason: str = "") -> ReviewItem:
    """Ask about one example because a person wants it; `reason` is masked. Raises RowNotFoundError, StateConflictError if asked already."""
    example = get_row(session, Example, key=example_id, name="example")
    key = build_key(ReviewKind.FLAGGED, example.task, example_id)
    sides = build_example_sides(session, [example_id])
    item = ask(session, kind=ReviewKind.FLAGGED, task=example.task, key=key, sides=sides, priority=1.0, reason=reason)
    if item is None:
        item = session.exec(select(ReviewItem).where(col(ReviewItem.content_key) == key).with_for_update()).one()
        if item.status is ReviewStatus.OPEN:
            message = f"example {example_id} is flagged already: see review item {item.id}"
            raise StateConflictError(message)
        item.status, item.reason = ReviewStatus.OPEN, reason
        item.resolution = item.resolved_by = item.resolved_at = None
        session.flush()
    record_audit(
        session,
        actor=actor,
        action=ACTION_FLAGGED,
        subject_type="review",
        subject_id=row_id(item),
        detail={"example": example_id, "reason": reason},
    )
    return item


def collect_low_confidence(session: Session, *, below: float, label_set_version: str, limit: int) -> int:
    """Ask about answers that nobody has decided on and of which the model was less sure than `below`; return how many are new.

    The newest answer of each open ticket counts, the least sure first; at most `limit` new questions are asked.
    """
    newest = (
        select(func.max(Inference.id)).where(col(Inference.task) == TaskKind.CLASSIFICATION).group_by(col(Inference.ticket_id))
    )
    asked = (
        select(ReviewSide.ticket_id)
        .join(ReviewItem, col(ReviewItem.id) == col(ReviewSide.item_id))
        .where(col(ReviewItem.kind) == ReviewKind.LOW_CONFIDENCE, col(ReviewSide.ticket_id).is_not(None))
    )
    query = (
        select(Inference)
        .join(Ticket, col(Ticket.id) == col(Inference.ticket_id))
        .where(
            col(Inference.id).in_(newest),
            col(Inference.confidence) < below,
            col(Inference.label_set_version) == label_set_version,
            col(Inference.is_blind).is_(False),  # shown to nobody before they choose: asking would spoil the measure
            col(Ticket.status) == TicketStatus.OPEN,
            col(Inference.ticket_id).not_in(asked),
        )
        .order_by(col(Inference.confidence), col(Inference.id))
        .limit(bound(limit))
    )
    return sum(_ask_low(session, inference) for inference in session.exec(query).all())


def _ask_low(session: Session, inference: Inference) -> bool:
    candidates = inference.output.get("candidates") or [[inference.label, inference.confidence]]
    sides = [
        NewSide(
            label=str(label), actor=MODEL, at=inference.created_at, ticket_id=inference.ticket_id, confidence=float(confidence)
        )
        for label, confidence in candidates[:2]
    ]
    item = ask(
        session,
        kind=ReviewKind.LOW_CONFIDENCE,
        task=inference.task,
        key=_build_low_key(inference.ticket_id),
        sides=sides,
        priority=1.0 - (inference.confidence or 0.0),
    )
    return item is not None


def _build_low_key(ticket_id: int) -> str:
    return build_key(ReviewKind.LOW_CONFIDENCE, TaskKind.CLASSIFICATION, ticket_id)


def note_feedback(session: Session, row: FeedbackRow, *, replaced: Sequence[FeedbackRow]) -> None:
    """Settle what a decision on a label answers, and ask where it says something else than another person said of the same ticket."""
    if row.task is not TaskKind.CLASSIFICATION:
        return
    key = _build_low_key(row.ticket_id)
    low = session.exec(select(ReviewItem).where(col(ReviewItem.content_key) == key)).one_or_none()
    if low is not None and low.status is ReviewStatus.OPEN:
        settle(
            session,
            low,
            status=ReviewStatus.DISMISSED if row.value is None else ReviewStatus.RESOLVED,
            resolution=row.value,
            actor=row.actor,
            reason="decided on the ticket itself",
        )
    others = [other for other in replaced if None not in (other.value, row.value)]
    others = [other for other in others if other.value != row.value and other.actor != row.actor]
    if others:
        ids = session.exec(
            select(Example.id).where(col(Example.feedback_id).in_([row_id(feedback) for feedback in (*others, row)]))
        ).all()
        kind = ReviewKind.REVIEWER_DISAGREEMENT
        sides = build_example_sides(session, [example_id for example_id in ids if example_id is not None])
        ask(session, kind=kind, task=row.task, key=build_key(kind, row.task, "ticket", row.ticket_id), sides=sides, priority=0.8)


def settle(
    session: Session, item: ReviewItem, *, status: ReviewStatus, resolution: str | None, actor: str, reason: str
) -> ReviewItem:
    """Close an open question, with an audit row. Raises StateConflictError for one that is closed."""
    if item.status is not ReviewStatus.OPEN:
        message = f"review item {item.id} is {item.status.value} already, by {item.resolved_by}"
        raise StateConflictError(message)
    item.status, item.resolution, item.resolved_by, item.resolved_at = status, resolution, actor, now()
    session.flush()
    action = ACTION_RESOLVED if status is ReviewStatus.RESOLVED else ACTION_DISMISSED
    detail: Mapping[str, object] = {"kind": item.kind.value, "resolution": resolution, "reason": reason}
    record_audit(session, actor=actor, action=action, subject_type="review", subject_id=row_id(item), detail=detail)
    return item


def dismiss(session: Session, item_id: int, *, actor: str, reason: str = "") -> ReviewItem:
    """Close a question and leave the examples as they are. Raises RowNotFoundError, StateConflictError."""
    item = get_row(session, ReviewItem, key=item_id, name="review item", is_locked=True)
    return settle(session, item, status=ReviewStatus.DISMISSED, resolution=None, actor=actor, reason=reason)


def check_open(session: Session, item_id: int) -> ReviewItem:
    """Return the question, locked until the transaction ends. Raises RowNotFoundError, or StateConflictError where it is closed."""
    item = get_row(session, ReviewItem, key=item_id, name="review item", is_locked=True)
    if item.status is not ReviewStatus.OPEN:
        message = f"review item {item_id} is {item.status.value} already, by {item.resolved_by}"
        raise StateConflictError(message)
    return item


def check_label(item: ReviewItem, label: str | None) -> None:
    """Raise InvalidValueError where a label cannot settle the question."""
    if label is not None and item.task is not TaskKind.CLASSIFICATION:
        message = (
            f"review item {item.id} is about a summary: withdraw it or dismiss the question; a summary is corrected on its ticket"
        )
        raise InvalidValueError(message)
