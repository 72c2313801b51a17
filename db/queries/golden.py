"""The golden set: approved examples that judge every candidate and are never trained on."""

from collections.abc import Sequence

from sqlmodel import Session, col, select

from db.errors import InvalidValueError
from db.queries.audit import record_audit
from db.queries.common import bound
from db.queries.examples import get_example
from db.tables import Example
from db.types import Split, TaskKind

ACTION_ADDED = "golden.add"
ACTION_REMOVED = "golden.remove"
TAUGHT = frozenset({Split.TRAIN, Split.VALIDATION})


def list_golden(session: Session, task: TaskKind, *, limit: int = 50, before_id: int | None = None) -> Sequence[Example]:
    """Return golden examples, newest first; `before_id` pages on."""
    query = select(Example).where(
        col(Example.task) == task, col(Example.split) == Split.GOLDEN, col(Example.is_withdrawn).is_(False)
    )
    if before_id is not None:
        query = query.where(col(Example.id) < bound(before_id))
    return session.exec(query.order_by(col(Example.id).desc()).limit(bound(limit))).all()


def add_golden(session: Session, example_id: int, *, actor: str) -> Example:
    """Approve an example for the golden set; a second time changes nothing. Audited.

    Raises RowNotFoundError, and InvalidValueError for one that cannot judge: withdrawn, a handoff, or trained on already.
    """
    example = get_example(session, example_id)
    if example.split is Split.GOLDEN and not example.is_withdrawn:
        return example
    reason = _find_obstacle(example)
    if reason:
        message = f"example {example_id} cannot become golden: {reason}"
        raise InvalidValueError(message)
    before = example.split
    example.split = Split.GOLDEN
    session.flush()
    detail = {"was": before.value if before else None, "label_set_version": example.label_set_version}
    record_audit(session, actor=actor, action=ACTION_ADDED, subject_type="example", subject_id=example_id, detail=detail)
    return example


def _find_obstacle(example: Example) -> str:
    if example.is_withdrawn:
        return "it is withdrawn"
    if example.is_negative:
        return "it says only what the ticket is not"
    if example.split in TAUGHT:
        return "a model has learned from it already, and would be judged on what it has seen; choose a newer one"
    return ""


def remove_golden(session: Session, example_id: int, *, actor: str) -> Example:
    """Take an example out of the golden set; it goes on judging as an ordinary test example. Audited. Raises as `add_golden` does."""
    example = get_example(session, example_id)
    if example.split is not Split.GOLDEN:
        message = f"example {example_id} is not golden"
        raise InvalidValueError(message)
    example.split = Split.TEST  # never into training: what was once approved for judging has been shown around
    session.flush()
    record_audit(session, actor=actor, action=ACTION_REMOVED, subject_type="example", subject_id=example_id)
    return example
