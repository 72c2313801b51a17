"""What a person's answer to a review question does to the examples: keep, withdraw, replace, approve.

Asking and closing questions is `db.queries.review`'s business; whether a label exists is known to the caller.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import and_, or_
from sqlmodel import Session, col, select

from db.errors import InvalidValueError
from db.queries.common import row_id
from db.queries.examples import withdraw_example
from db.queries.feedback import DEFAULT_WEIGHTS
from db.queries.golden import TAUGHT, add_golden
from db.queries.review import check_label, check_open, list_sides, settle
from db.queries.tickets import get_ticket, set_ticket_status
from db.tables import Example, ReviewItem, ReviewSide
from db.types import MaskedText, ReviewStatus, Split, TaskKind, TicketStatus

WITHDRAWN = "withdrawn"


@dataclass(frozen=True)
class Answer:
    """What became of the examples of a question, by id."""

    item: ReviewItem
    kept: tuple[int, ...]
    withdrawn: tuple[int, ...]
    added: tuple[int, ...]
    golden: tuple[int, ...]


def resolve(
    session: Session,
    item_id: int,
    *,
    label: str | None,
    actor: str,
    label_set_version: str,
    texts: Mapping[int, MaskedText] | None = None,
    is_golden: bool = False,
    reason: str = "",
) -> Answer:
    """Settle a question: examples with that label stay, the others are withdrawn; a text left without one gets one of full weight.

    `label=None` withdraws them all. `texts` maps a ticket's id to what the model read, for questions about tickets without an example.
    `is_golden` approves what is left for the golden set. Raises RowNotFoundError, StateConflictError, InvalidValueError.
    """
    sides = list_sides(session, [item_id])[item_id]
    tickets = sorted({side.ticket_id for side in sides if side.ticket_id is not None})
    for ticket_id in tickets:
        get_ticket(session, ticket_id, is_locked=True)  # before the question, as feedback does: two answers take turns
    item = check_open(session, item_id)
    check_label(item, label)
    if is_golden and label is None:
        message = "withdrawn examples cannot become golden: name the label that is right"
        raise InvalidValueError(message)
    examples = _load_examples(session, item, sides, tickets)
    usable = [example for example in examples if not example.is_withdrawn]
    kept = [example for example in usable if label is not None and example.target == label and not example.is_negative]
    dropped = [example for example in usable if example not in kept]
    for example in dropped:
        withdraw_example(session, row_id(example), actor=actor, reason=f"review item {item_id}")
    added: list[Example] = []
    if label is not None:
        added = _replace_missing(session, examples, kept, label=label, label_set_version=label_set_version)
        for ticket_id in () if examples else tickets:
            added.append(_add_from_ticket(session, ticket_id, texts or {}, label=label, label_set_version=label_set_version))
        if not kept and not added:
            message = f"nothing of review item {item_id} is left to label: its examples were erased; dismiss it"
            raise InvalidValueError(message)
    golden = [row_id(add_golden(session, row_id(example), actor=actor)) for example in (*kept, *added)] if is_golden else []
    settled = settle(session, item, status=ReviewStatus.RESOLVED, resolution=label or WITHDRAWN, actor=actor, reason=reason)
    return Answer(
        item=settled,
        kept=tuple(row_id(example) for example in kept),
        withdrawn=tuple(row_id(example) for example in dropped),
        added=tuple(row_id(example) for example in added),
        golden=tuple(golden),
    )


def _load_examples(session: Session, item: ReviewItem, sides: Sequence[ReviewSide], tickets: Sequence[int]) -> list[Example]:
    """Return the examples named, and what has been decided on their tickets since: one ticket ends up with one label."""
    ids = [side.example_id for side in sides if side.example_id is not None]
    since = and_(col(Example.ticket_id).in_(tickets), col(Example.task) == item.task, col(Example.is_withdrawn).is_(False))
    query = select(Example).where(or_(col(Example.id).in_(ids), since)).order_by(col(Example.id))
    return list(session.exec(query).all())


def _replace_missing(
    session: Session, examples: Sequence[Example], kept: Sequence[Example], *, label: str, label_set_version: str
) -> list[Example]:
    """Give every text that has lost its examples one with the chosen label, in the part of the dataset it belonged to."""
    done = {example.text for example in kept}
    added = []
    for example in examples:
        if example.text in done or not example.text.strip():
            continue
        done.add(example.text)
        row = Example(
            ticket_id=example.ticket_id,
            task=example.task,
            text=example.text,
            turns=example.turns,
            target=label,
            draft=example.draft,
            is_blind=example.is_blind,
            weight=DEFAULT_WEIGHTS.demonstration,
            split=_inherit_split(examples, example.text),
            group_key=example.group_key,
            label_set_version=label_set_version,
            created_at=example.created_at,
        )
        session.add(row)
        session.flush()
        added.append(row)
    return added


def _inherit_split(examples: Sequence[Example], text: str) -> Split | None:
    """Return the part the text belonged to: what a model has learned from must not begin to judge, nor the other way round."""
    splits = {example.split for example in examples if example.text == text} - {None}
    taught = splits & TAUGHT
    return next(iter(sorted(taught or splits, key=str)), None) if splits else None


def _add_from_ticket(
    session: Session, ticket_id: int, texts: Mapping[int, MaskedText], *, label: str, label_set_version: str
) -> Example:
    ticket = get_ticket(session, ticket_id)
    if ticket.status is not TicketStatus.OPEN:
        message = f"ticket {ticket_id} was decided meanwhile ({ticket.status.value}): dismiss the question"
        raise InvalidValueError(message)
    text = texts.get(ticket_id, MaskedText(ticket.text))
    row = Example(
        ticket_id=ticket_id,
        task=TaskKind.CLASSIFICATION,
        text=text,
        turns=ticket.turns,
        target=label,
        weight=DEFAULT_WEIGHTS.demonstration,
        group_key=ticket.group_key,
        label_set_version=label_set_version,
    )
    session.add(row)
    session.flush()
    set_ticket_status(session, ticket_id, status=TicketStatus.DECIDED)
    return row
