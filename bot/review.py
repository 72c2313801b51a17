"""The review queue as people see it: questions with the masked texts of both sides, and their answers checked against the label set.

Works on a session alone, for the command line and the running bot alike; what an answer does is `db.queries.answers`' business.
"""

from collections.abc import Sequence

from sqlmodel import Session, col, select

from bot.tasks.ticket import render_ticket
from bot.types import LabelSet, ReviewInfo, ReviewSide, Turn
from db.errors import InvalidValueError
from db.queries import answers, review
from db.queries.answers import Answer
from db.queries.common import row_id
from db.tables import Example, ReviewItem, Ticket
from db.tables import ReviewSide as SideRow
from db.types import MaskedText, ReviewKind, ReviewStatus


def list_review(
    session: Session, *, status: ReviewStatus | None = ReviewStatus.OPEN, kind: ReviewKind | None = None, limit: int = 50
) -> list[ReviewInfo]:
    """Return questions with their sides, the most pressing first; `status=None` means all."""
    return describe(session, review.list_items(session, status=status, kind=kind, limit=limit))


def get_review(session: Session, item_id: int) -> ReviewInfo:
    """Return one question. Raises RowNotFoundError."""
    return describe(session, [review.get_item(session, item_id)])[0]


def describe(session: Session, items: Sequence[ReviewItem]) -> list[ReviewInfo]:
    """Return the questions with the texts of their sides."""
    sides = review.list_sides(session, [row_id(item) for item in items])
    everything = [side for group in sides.values() for side in group]
    examples = {
        row_id(row): row
        for row in session.exec(select(Example).where(col(Example.id).in_({side.example_id for side in everything})))
    }
    texts = read_ticket_texts(session, everything)
    return [
        ReviewInfo(
            id=row_id(item),
            kind=item.kind,
            status=item.status,
            task=item.task,
            reason=item.reason,
            priority=item.priority,
            sides=tuple(_build_side(side, examples, texts) for side in sides[row_id(item)]),
            run_id=item.run_id,
            resolution=item.resolution,
            resolved_by=item.resolved_by,
            resolved_at=item.resolved_at,
            created_at=item.created_at,
        )
        for item in items
    ]


def _build_side(side: SideRow, examples: dict[int, Example], texts: dict[int, MaskedText]) -> ReviewSide:
    example = examples.get(side.example_id or 0)
    text = example.text if example is not None else texts.get(side.ticket_id or 0, MaskedText(""))
    return ReviewSide(
        label=side.label or (example.target if example is not None else ""),
        actor=side.actor,
        at=side.at,
        text=text,
        confidence=side.confidence,
        example_id=side.example_id,
        ticket_id=side.ticket_id,
        is_used=example is not None and not example.is_withdrawn,
    )


def read_ticket_texts(session: Session, sides: Sequence[SideRow]) -> dict[int, MaskedText]:
    """Return what the model read of each ticket that a side without an example is about."""
    ids = {side.ticket_id for side in sides if side.example_id is None and side.ticket_id is not None}
    rows = session.exec(select(Ticket).where(col(Ticket.id).in_(ids))).all()
    return {row_id(row): render_ticket(row.subject, row.text, [Turn(**turn) for turn in row.turns]) for row in rows}


def resolve_review(
    session: Session,
    item_id: int,
    *,
    label: str | None,
    label_set: LabelSet,
    actor: str,
    is_golden: bool = False,
    reason: str = "",
) -> Answer:
    """Settle a question with a label of the label set, or with None, which withdraws its examples. `reason` is masked.

    Raises RowNotFoundError, StateConflictError where it is closed, and InvalidValueError for a label that does not exist.
    """
    if label is not None and label_set.get(label) is None:
        message = f"that label is not in the label set '{label_set.name}': choose one of its labels"
        raise InvalidValueError(message)
    texts = read_ticket_texts(session, review.list_sides(session, [item_id])[item_id])
    return answers.resolve(
        session,
        item_id,
        label=label,
        actor=actor,
        label_set_version=label_set.version,
        texts=texts,
        is_golden=is_golden,
        reason=reason,
    )
