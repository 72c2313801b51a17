"""Where examples come from: counts by the system that brought the ticket and by what a person did. Reads ids and enums, no text."""

from collections import Counter
from collections.abc import Iterable
from itertools import islice

from sqlalchemy import func
from sqlmodel import Session, col, select

from db.tables import Example, FeedbackRow, Ticket

_CHUNK = 1_000
UNTICKETED = "file"
NO_FEEDBACK = "import or review"


def count_provenance(session: Session, example_ids: Iterable[int]) -> tuple[dict[str, int], dict[str, int]]:
    """Return counts by plugin ("file" where no ticket is kept) and by kind of feedback, the most frequent first."""
    sources: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    rest = iter(sorted(set(example_ids)))
    while ids := list(islice(rest, _CHUNK)):
        query = (
            select(Ticket.plugin, FeedbackRow.kind, func.count())
            .select_from(Example)
            .outerjoin(Ticket, col(Ticket.id) == col(Example.ticket_id))
            .outerjoin(FeedbackRow, col(FeedbackRow.id) == col(Example.feedback_id))
            .where(col(Example.id).in_(ids))
            .group_by(col(Ticket.plugin), col(FeedbackRow.kind))
        )
        for plugin, kind, count in session.exec(query).all():
            sources[plugin or UNTICKETED] += count
            kinds[str(kind) if kind else NO_FEEDBACK] += count
    return dict(sources.most_common()), dict(kinds.most_common())
