"""Feedback: one row per click, and the labelled example that it makes, in one transaction.

What a click teaches and how much it weighs is the pure function `build_lesson`. Ticket statuses are not changed here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, select

from db.errors import InvalidValueError, StateConflictError
from db.queries.audit import record_audit
from db.queries.common import clean_text, get_row, row_id
from db.queries.examples import withdraw_example
from db.queries.inferences import get_inference
from db.queries.review import note_feedback
from db.queries.tickets import get_ticket
from db.tables import Example, FeedbackRow, Inference, Ticket, now
from db.types import FeedbackKind, MaskedText, TaskKind

ACTION_REPLACED = "feedback.replace"
ACTION_WITHDRAWN = "feedback.withdraw"


@dataclass(frozen=True)
class FeedbackWeights:
    """How much each kind of feedback counts in training. People wave suggestions through, so a quick accept counts least."""

    demonstration: float = 1.0
    """Overrides and edits: the person did the work."""
    accept: float = 0.5
    quick_accept: float = 0.2
    quick_accept_ms: int = 4_000
    """An accept sooner after the card than this is quick; without a known time it is not."""
    handoff: float = 0.3
    blind: float = 1.0
    """A choice made before the suggestion was shown."""
    passive: float = 0.6
    """What feedback is multiplied with that was read from the helpdesk: nobody may have looked at the suggestion."""


DEFAULT_WEIGHTS = FeedbackWeights()


@dataclass(frozen=True)
class Lesson:
    """What one feedback teaches: a label or summary to give, or (`is_negative`) not to give."""

    target: str
    draft: str | None
    weight: float
    is_negative: bool
    is_blind: bool


@dataclass(frozen=True)
class FeedbackResult:
    """The row that counts, whether this call wrote it, what it replaced, and the example it made (None where it teaches nothing)."""

    feedback: FeedbackRow
    is_new: bool
    replaced_id: int | None
    example_id: int | None


def build_lesson(
    *,
    kind: FeedbackKind,
    suggestion: str | None,
    value: str | None,
    decision_ms: int | None,
    is_blind: bool,
    is_passive: bool = False,
    weights: FeedbackWeights = DEFAULT_WEIGHTS,
) -> Lesson | None:
    """Return what a feedback teaches, or None for a handoff without a suggestion. Raises InvalidValueError where it makes no sense."""
    if kind is FeedbackKind.HANDOFF:
        if suggestion is None:
            return None
        weight = weights.handoff * (weights.passive if is_passive else 1.0)
        return Lesson(target=suggestion, draft=None, weight=weight, is_negative=True, is_blind=is_blind)
    target = _choose_target(kind=kind, suggestion=suggestion, value=value)
    if is_blind:
        weight = weights.blind
    elif kind is not FeedbackKind.ACCEPT:
        weight = weights.demonstration
    elif decision_ms is not None and decision_ms < weights.quick_accept_ms:
        weight = weights.quick_accept
    else:
        weight = weights.accept
    if is_passive:
        weight *= weights.passive
    return Lesson(target=target, draft=suggestion, weight=weight, is_negative=False, is_blind=is_blind)


def _choose_target(*, kind: FeedbackKind, suggestion: str | None, value: str | None) -> str:
    if kind is FeedbackKind.ACCEPT:
        if suggestion is None:
            message = "there was no suggestion to accept: send an override with the chosen value"
            raise InvalidValueError(message)
        if value not in (None, suggestion):
            message = "an accept cannot carry another value than the suggestion: send an override or an edit"
            raise InvalidValueError(message)
        return suggestion
    if not value or not value.strip():
        message = f"an {kind.value} needs a value: the chosen label or the corrected text"
        raise InvalidValueError(message)
    return value


def record_feedback(
    session: Session,
    *,
    inference_id: int,
    kind: FeedbackKind,
    actor: str,
    idempotency_key: str,
    value: str | None = None,
    reason: str | None = None,
    decision_ms: int | None = None,
    is_passive: bool = False,
    text: MaskedText | None = None,
    weights: FeedbackWeights = DEFAULT_WEIGHTS,
) -> FeedbackResult:
    """Store one click and its example. `value` and `reason` are masked; `text` is what the model read, by default the ticket's text.

    The same key twice gives back the first row, from however many processes. A new key on the same ticket and task replaces the earlier
    feedback, whichever inference that was on: its example is withdrawn and the change audited. An accepted label is stored as the value, so
    that it still reads right after the ticket was classified anew. Raises RowNotFoundError, or InvalidValueError where the feedback makes
    no sense.
    """
    inference = get_inference(session, inference_id)
    get_ticket(session, inference.ticket_id, is_locked=True)  # two corrections of one ticket take turns, on whichever inferences
    known = _find_by_key(session, idempotency_key)
    if known is not None:
        return _repeat(session, known, inference_id=inference_id)
    suggestion = _get_suggestion(inference)
    value = None if value is None else clean_text(value)
    lesson = build_lesson(
        kind=kind,
        suggestion=suggestion,
        value=value,
        decision_ms=decision_ms,
        is_blind=inference.is_blind,
        is_passive=is_passive,
        weights=weights,
    )
    if kind is FeedbackKind.ACCEPT and inference.task is TaskKind.CLASSIFICATION:
        value = suggestion
    row = FeedbackRow(
        inference_id=inference_id,
        ticket_id=inference.ticket_id,
        task=inference.task,
        kind=kind,
        actor=actor,
        idempotency_key=idempotency_key,
        value=value,
        reason=None if reason is None else clean_text(reason),
        decision_ms=decision_ms,
        is_passive=is_passive,
    )
    try:
        with session.begin_nested():
            session.add(row)
            session.flush()
    except IntegrityError:
        # Another process stored the key between our look and our insert, for another ticket: the lock covers only this one.
        known = _find_by_key(session, idempotency_key)
        if known is None:
            raise
        return _repeat(session, known, inference_id=inference_id)
    replaced = _replace_earlier(session, row)
    example_id = None
    if lesson is not None:
        example_id = _add_example(session, row, inference=inference, lesson=lesson, text=text)
    note_feedback(session, row, replaced=replaced)
    replaced_id = row_id(replaced[0]) if replaced else None
    return FeedbackResult(feedback=row, is_new=True, replaced_id=replaced_id, example_id=example_id)


def withdraw_feedback(session: Session, feedback_id: int, *, actor: str) -> FeedbackRow:
    """Take a feedback back: it counts no longer and its example is withdrawn. What it had replaced stays replaced.

    Raises RowNotFoundError, and StateConflictError where another feedback has replaced it. Taking it back twice is once.
    """
    found = get_row(session, FeedbackRow, key=feedback_id, name="feedback")
    get_ticket(session, found.ticket_id, is_locked=True)
    row = get_row(session, FeedbackRow, key=feedback_id, name="feedback", is_locked=True)
    if row.withdrawn_at is not None:
        return row
    if row.replaced_by_id is not None:
        message = "this decision was changed by a later one; change that one instead"
        raise StateConflictError(message)
    row.replaced_by_id, row.withdrawn_at = feedback_id, now()
    detail = {"kind": row.kind.value, "by": row.actor}
    record_audit(session, actor=actor, action=ACTION_WITHDRAWN, subject_type="feedback", subject_id=feedback_id, detail=detail)
    taught = select(Example).where(col(Example.feedback_id) == feedback_id, col(Example.is_withdrawn).is_(False))
    for example in session.exec(taught).all():
        withdraw_example(session, row_id(example), actor=actor, reason="the feedback was taken back")
    session.flush()
    return row


def get_feedback(session: Session, *, inference_id: int) -> FeedbackRow | None:
    """Return the feedback that counts for an inference, or None."""
    query = select(FeedbackRow).where(col(FeedbackRow.inference_id) == inference_id, col(FeedbackRow.replaced_by_id).is_(None))
    return session.exec(query).one_or_none()


def list_feedback(session: Session, *, ticket_id: int) -> Sequence[FeedbackRow]:
    """Return all feedback on a ticket, replaced ones too, oldest first."""
    return session.exec(select(FeedbackRow).where(col(FeedbackRow.ticket_id) == ticket_id).order_by(col(FeedbackRow.id))).all()


def latest_decisions(session: Session, ticket_ids: Sequence[int], *, task: TaskKind) -> dict[int, FeedbackRow]:
    """Return the newest feedback that counts per ticket, for a page of the inbox, in one query."""
    query = select(FeedbackRow).where(
        col(FeedbackRow.ticket_id).in_(ticket_ids), col(FeedbackRow.task) == task, col(FeedbackRow.replaced_by_id).is_(None)
    )
    return {row.ticket_id: row for row in session.exec(query.order_by(col(FeedbackRow.id)))}


def list_standing(
    session: Session, *, plugin: str, after_id: int, until: datetime, limit: int
) -> Sequence[tuple[FeedbackRow, Ticket, Inference]]:
    """Return feedback that counts on the tickets of a plugin, with ids after `after_id`, given up to `until`, oldest first."""
    query = (
        select(FeedbackRow, Ticket, Inference)
        .join(Ticket, col(Ticket.id) == col(FeedbackRow.ticket_id))
        .join(Inference, col(Inference.id) == col(FeedbackRow.inference_id))
        .where(
            col(Ticket.plugin) == plugin,
            col(FeedbackRow.id) > after_id,
            col(FeedbackRow.replaced_by_id).is_(None),
            col(FeedbackRow.created_at) <= until,
        )
    )
    return session.exec(query.order_by(col(FeedbackRow.id)).limit(limit)).all()


def get_newest_id(session: Session) -> int:
    """Return the greatest id of a feedback, 0 where there is none."""
    return session.exec(select(func.max(FeedbackRow.id))).one() or 0


def _find_by_key(session: Session, idempotency_key: str) -> FeedbackRow | None:
    return session.exec(select(FeedbackRow).where(col(FeedbackRow.idempotency_key) == idempotency_key)).one_or_none()


def _repeat(session: Session, row: FeedbackRow, *, inference_id: int) -> FeedbackResult:
    if row.inference_id != inference_id:
        message = f"the idempotency key was used for inference {row.inference_id} already: make keys unique per click"
        raise InvalidValueError(message)
    replaced = select(FeedbackRow.id).where(col(FeedbackRow.replaced_by_id) == row_id(row)).order_by(col(FeedbackRow.id).desc())
    example = select(Example.id).where(col(Example.feedback_id) == row_id(row))
    return FeedbackResult(
        feedback=row,
        is_new=False,
        replaced_id=session.exec(replaced).first(),
        example_id=session.exec(example).one_or_none(),
    )


def _get_suggestion(inference: Inference) -> str | None:
    if inference.task is TaskKind.CLASSIFICATION:
        return inference.label
    text = inference.output.get("text")
    return text if isinstance(text, str) and text else None


def _replace_earlier(session: Session, row: FeedbackRow) -> Sequence[FeedbackRow]:
    """Replace what counted for the ticket and task until now and return it, newest first; the caller holds the ticket's lock."""
    query = select(FeedbackRow).where(
        col(FeedbackRow.ticket_id) == row.ticket_id,
        col(FeedbackRow.task) == row.task,
        col(FeedbackRow.replaced_by_id).is_(None),
        col(FeedbackRow.id) != row_id(row),
    )
    standing = session.exec(query.order_by(col(FeedbackRow.id).desc())).all()
    for earlier in standing:
        _replace(session, earlier, row)
    return standing


def _replace(session: Session, earlier: FeedbackRow, row: FeedbackRow) -> None:
    earlier.replaced_by_id = row_id(row)
    detail = {"by": row_id(row), "earlier_kind": earlier.kind.value, "kind": row.kind.value}
    record_audit(
        session, actor=row.actor, action=ACTION_REPLACED, subject_type="feedback", subject_id=row_id(earlier), detail=detail
    )
    taught = select(Example).where(col(Example.feedback_id) == row_id(earlier), col(Example.is_withdrawn).is_(False))
    for example in session.exec(taught).all():
        withdraw_example(session, row_id(example), actor=row.actor, reason="the feedback was replaced")


def _add_example(session: Session, row: FeedbackRow, *, inference: Inference, lesson: Lesson, text: MaskedText | None) -> int:
    ticket: Ticket = get_ticket(session, inference.ticket_id)
    example = Example(
        ticket_id=row_id(ticket),
        feedback_id=row_id(row),
        task=inference.task,
        text=ticket.text if text is None else clean_text(text),
        turns=ticket.turns,
        target=lesson.target,
        draft=lesson.draft,
        is_negative=lesson.is_negative,
        is_blind=lesson.is_blind,
        weight=lesson.weight,
        group_key=ticket.group_key,
        label_set_version=inference.label_set_version,
    )
    session.add(example)
    session.flush()
    return row_id(example)
