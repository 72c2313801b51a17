"""What people decided on the answers of one model: for the triggers that ask for a run when it is corrected too often.

Counts only; which share is too high is decided elsewhere.
"""

from dataclasses import dataclass

from sqlmodel import Session, col, select

from db.queries.common import bound
from db.tables import FeedbackRow, Inference
from db.types import FeedbackKind, TaskKind

CORRECTIONS = frozenset({FeedbackKind.OVERRIDE, FeedbackKind.EDIT})


@dataclass(frozen=True)
class DecisionCounts:
    """Of the newest decisions on one model's answers: shown ones, how many corrected or accepted; blind ones, how many agreed with it."""

    n_shown: int = 0
    n_corrected: int = 0
    n_accepted: int = 0
    n_blind: int = 0
    n_agreed: int = 0

    @property
    def override_rate(self) -> float | None:
        """Share of overrides and edits among the decisions on shown answers; None without one."""
        return self.n_corrected / self.n_shown if self.n_shown else None


def count_decisions(session: Session, task: TaskKind, *, adapter_digest: str, window: int) -> DecisionCounts:
    """Return the counts over the newest `window` decisions of each sort on the answers of that adapter, or of "base"."""
    shown = _read(session, task, adapter_digest, window=window, is_blind=False)
    blind = _read(session, task, adapter_digest, window=window, is_blind=True)
    return DecisionCounts(
        n_shown=len(shown),
        n_corrected=sum(kind in CORRECTIONS for kind, _, _ in shown),
        n_accepted=sum(kind is FeedbackKind.ACCEPT for kind, _, _ in shown),
        n_blind=len(blind),
        n_agreed=sum(value == label for _, value, label in blind),
    )


def _read(
    session: Session, task: TaskKind, digest: str, *, window: int, is_blind: bool
) -> list[tuple[FeedbackKind, str | None, str | None]]:
    query = (
        select(FeedbackRow.kind, FeedbackRow.value, Inference.label)
        .join(Inference, col(Inference.id) == col(FeedbackRow.inference_id))
        .where(
            col(FeedbackRow.task) == task,
            col(FeedbackRow.replaced_by_id).is_(None),
            col(Inference.adapter_digest) == digest,
            col(Inference.is_blind).is_(is_blind),
        )
        .order_by(col(FeedbackRow.id).desc())
        .limit(bound(window))
    )
    return [(FeedbackKind(kind), value, label) for kind, value, label in session.exec(query).all()]
