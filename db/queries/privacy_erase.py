"""Erasing a ticket with everything that hangs on it, and what other tickets quote of it. Audited without any of the values.

Which tickets are a person's is decided by the caller; what a phrase looks like is not known here.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

from sqlalchemy import delete, func, or_, update
from sqlmodel import Session, col, select

from db.privacy_tables import Correction, CorrectionStatus
from db.queries.audit import record_audit
from db.queries.common import bound, row_id
from db.queries.lineage import Erasure, erase_examples
from db.queries.privacy_corrections import raise_revision
from db.tables import Audit, Example, FeedbackRow, Inference, ReviewItem, ReviewSide, Ticket, VaultEntry
from db.types import TaskKind

ACTION_ERASED = "ticket.erase"
ACTION_SCRUBBED = "text.scrub"
_PAGE = 500


@dataclass(frozen=True)
class TicketRows:
    """Everything that the tables hold on one ticket. `quoting` are other tickets' inferences that quote it as similar."""

    ticket: Ticket
    vault: VaultEntry | None
    inferences: Sequence[Inference] = ()
    feedback: Sequence[FeedbackRow] = ()
    examples: Sequence[Example] = ()
    sides: Sequence[ReviewSide] = ()
    corrections: Sequence[Correction] = ()
    quoting: Sequence[Inference] = ()
    audit: Sequence[Audit] = ()


@dataclass(frozen=True)
class ErasedTicket:
    """What an erasure of a ticket took away, rows per table, and what it did to adapters."""

    ticket_id: int
    counts: dict[str, int] = field(default_factory=dict)
    examples: Erasure | None = None


def collect_ticket(session: Session, ticket_id: int) -> TicketRows | None:
    """Return everything held on a ticket, or None where there is none."""
    ticket = session.get(Ticket, bound(ticket_id))
    if ticket is None:
        return None
    examples = session.exec(select(Example).where(col(Example.ticket_id) == ticket_id).order_by(col(Example.id))).all()
    example_ids = [row_id(row) for row in examples]
    sides = select(ReviewSide).where(or_(col(ReviewSide.ticket_id) == ticket_id, col(ReviewSide.example_id).in_(example_ids)))
    audit = select(Audit).where(col(Audit.subject_type) == "ticket", col(Audit.subject_id) == str(ticket_id))
    return TicketRows(
        ticket=ticket,
        vault=session.get(VaultEntry, ticket_id),
        inferences=session.exec(select(Inference).where(col(Inference.ticket_id) == ticket_id).order_by(col(Inference.id))).all(),
        feedback=session.exec(
            select(FeedbackRow).where(col(FeedbackRow.ticket_id) == ticket_id).order_by(col(FeedbackRow.id))
        ).all(),
        examples=examples,
        sides=session.exec(sides.order_by(col(ReviewSide.id))).all(),
        corrections=session.exec(select(Correction).where(col(Correction.ticket_id) == ticket_id)).all(),
        quoting=list(iterate_quoting(session, {ticket_id})),
        audit=session.exec(audit.order_by(col(Audit.id))).all(),
    )


def count_rows(rows: TicketRows) -> dict[str, int]:
    """Return how many rows of each table an erasure of these would touch."""
    return {
        "ticket": 1,
        "vault_entry": int(rows.vault is not None),
        "inference": len(rows.inferences),
        "feedback": len(rows.feedback),
        "example": len(rows.examples),
        "review_side": len(rows.sides),
        "privacy_correction": len(rows.corrections),
        "inference (quotes)": len(rows.quoting),
    }


def erase_ticket(session: Session, ticket_id: int, *, actor: str, reason: str) -> ErasedTicket | None:
    """Erase a ticket, its vault entry, inferences, feedback, examples, questions and corrections, and other tickets' quotes of it.

    Adapters that learned from it are marked, and a run is asked for (`db.queries.lineage.erase_examples`). Corrections in force stay as
    a bare hash, so that the phrase stays masked. Audited with counts. None where there is no such ticket: a second time changes nothing.
    """
    rows = collect_ticket(session, ticket_id)
    if rows is None:
        return None
    counts = count_rows(rows)
    examples = erase_examples(session, ticket_ids=[ticket_id], actor=actor, reason=reason) if rows.examples else None
    connection = session.connection()
    _erase_sides(session, [row_id(side) for side in rows.sides])
    feedback_ids = [row_id(row) for row in rows.feedback]
    for batch in _batch(feedback_ids):  # an example of another ticket, or a feedback, may still name one of these
        connection.execute(update(Example).where(col(Example.feedback_id).in_(batch)).values(feedback_id=None))
        connection.execute(update(FeedbackRow).where(col(FeedbackRow.replaced_by_id).in_(batch)).values(replaced_by_id=None))
    connection.execute(delete(FeedbackRow).where(col(FeedbackRow.ticket_id) == ticket_id))
    connection.execute(delete(Inference).where(col(Inference.ticket_id) == ticket_id))
    connection.execute(delete(VaultEntry).where(col(VaultEntry.ticket_id) == ticket_id))
    _forget_corrections(session, rows.corrections)
    drop_quotes(session, {ticket_id})
    connection.execute(delete(Ticket).where(col(Ticket.id) == ticket_id))
    session.flush()
    session.expire_all()
    detail = {"reason": reason, "rows": counts}
    record_audit(session, actor=actor, action=ACTION_ERASED, subject_type="ticket", subject_id=ticket_id, detail=detail)
    return ErasedTicket(ticket_id=ticket_id, counts=counts, examples=examples)


def _erase_sides(session: Session, side_ids: Sequence[int]) -> None:
    """Delete sides, and questions that are left without any."""
    for batch in _batch(side_ids):
        items = session.exec(select(ReviewSide.item_id).where(col(ReviewSide.id).in_(batch)).distinct()).all()
        session.connection().execute(delete(ReviewSide).where(col(ReviewSide.id).in_(batch)))
        left = select(ReviewSide.item_id).where(col(ReviewSide.item_id).in_(items))
        session.connection().execute(delete(ReviewItem).where(col(ReviewItem.id).in_(items), ~col(ReviewItem.id).in_(left)))


def _forget_corrections(session: Session, corrections: Sequence[Correction]) -> None:
    for row in corrections:
        if row.status is CorrectionStatus.APPROVED:
            row.ticket_id, row.ciphertext, row.context = None, None, ""
        else:
            session.delete(row)
    if corrections:
        raise_revision(session)
    session.flush()


def iterate_quoting(session: Session, ticket_ids: Collection[int]) -> Iterator[Inference]:
    """Yield the inferences of other tickets whose similar tickets include one of these. Reads the whole table, page by page."""
    last_id = 0
    while True:
        query = select(Inference).where(col(Inference.task) == TaskKind.CLASSIFICATION, col(Inference.id) > last_id)
        page = session.exec(query.order_by(col(Inference.id)).limit(_PAGE)).all()
        for row in page:
            quoted = {int(entry[0]) for entry in row.output.get("similar", [])}
            if row.ticket_id not in ticket_ids and quoted & set(ticket_ids):
                yield row
        if len(page) < _PAGE:
            return
        last_id = row_id(page[-1])


def drop_quotes(session: Session, ticket_ids: Collection[int]) -> int:
    """Take what other tickets quote of these out of their inferences; return how many inferences that were."""
    count = 0
    for row in iterate_quoting(session, ticket_ids):
        kept = [entry for entry in row.output.get("similar", []) if int(entry[0]) not in ticket_ids]
        row.output = {**row.output, "similar": kept}
        count += 1
    session.flush()
    return count


def list_erased(session: Session, *, after_id: int, limit: int = 1000) -> tuple[set[int], int]:
    """Return the tickets that were erased or re-masked since an audit row, and the newest audit row: caches drop what they hold of them."""
    query = select(Audit).where(col(Audit.id) > after_id, col(Audit.action).in_([ACTION_ERASED, ACTION_SCRUBBED]))
    rows = session.exec(query.order_by(col(Audit.id)).limit(limit)).all()
    return {int(row.subject_id) for row in rows if row.subject_type == "ticket"}, row_id(rows[-1]) if rows else after_id


def list_gone(session: Session, ticket_ids: Collection[int]) -> set[int]:
    """Return which of these tickets are there no longer."""
    return set(ticket_ids) - set(session.exec(select(Ticket.id).where(col(Ticket.id).in_(ticket_ids))).all())


def get_newest_audit(session: Session) -> int:
    """Return the id of the newest audit row, 0 where there is none."""
    return session.exec(select(func.max(Audit.id))).one() or 0


def _batch(keys: Sequence[int]) -> Iterator[list[int]]:
    for start in range(0, len(keys), _PAGE):
        yield list(keys[start : start + _PAGE])
