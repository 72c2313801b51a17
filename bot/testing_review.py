"""The part of the fake manager that keeps a review queue, and two invented questions.

Part of `bot.testing`, which plugin authors import; knows nothing of runs or adapters.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from bot.plugin_api import ConflictError, NotFoundError, ReviewInfo, ReviewKind, ReviewSide, ReviewStatus, TaskKind

if TYPE_CHECKING:
    from bot.testing_manager import Owner


class FakeReviews:
    """Answers the questions of `reviews`, by id."""

    _bot: "Owner"
    reviews: dict[int, ReviewInfo]
    audit: list[tuple[str, str, str]]

    async def list_review(self, *, status: ReviewStatus | None = ReviewStatus.OPEN, limit: int = 50) -> Sequence[ReviewInfo]:
        """Return questions, the most pressing first."""
        found = [item for item in self.reviews.values() if status in (None, item.status)]
        return sorted(found, key=lambda item: -item.priority)[:limit]

    async def get_review(self, item_id: int) -> ReviewInfo:
        """Return one question. Raises NotFoundError."""
        if item_id not in self.reviews:
            raise NotFoundError(f"there is no review item {item_id}")
        return self.reviews[item_id]

    async def resolve_review(
        self, item_id: int, *, label: str | None, actor: str, is_golden: bool = False, reason: str = ""
    ) -> ReviewInfo:
        """Settle a question. Raises NotFoundError, and ConflictError for a closed one or a label that does not exist."""
        if label is not None and self._bot.label_set.get(label) is None:
            raise ConflictError("that label is not in the label set: choose one of its labels")
        self.audit.append((actor, "resolve_review", f"{item_id} {label} {'golden ' if is_golden else ''}{reason}".strip()))
        return await self._close(item_id, ReviewStatus.RESOLVED, label or "withdrawn", actor)

    async def dismiss_review(self, item_id: int, *, actor: str, reason: str = "") -> ReviewInfo:
        """Close a question and leave its examples as they are."""
        self.audit.append((actor, "dismiss_review", f"{item_id} {reason}".strip()))
        return await self._close(item_id, ReviewStatus.DISMISSED, None, actor)

    async def _close(self, item_id: int, status: ReviewStatus, resolution: str | None, actor: str) -> ReviewInfo:
        item = await self.get_review(item_id)
        if item.status is not ReviewStatus.OPEN:
            raise ConflictError(f"review item {item_id} is {item.status.value} already, by {item.resolved_by}")
        now = self._bot.clock.now()
        self.reviews[item_id] = replace(item, status=status, resolution=resolution, resolved_by=actor, resolved_at=now)
        return self.reviews[item_id]


def build_sample_reviews(now: datetime) -> dict[int, ReviewInfo]:
    """Return a disagreement of two people and an unsure answer."""
    lost = "<PERSON_1> lost a laptop on the train and asks for the account to be locked."
    sides = (
        ReviewSide("Account access", "Mira Okafor", now - timedelta(days=2), lost, example_id=51, ticket_id=6, is_used=False),
        ReviewSide("Security incident", "Jonas Lind", now - timedelta(days=1), lost, example_id=52, ticket_id=6, is_used=True),
    )
    blank = "The form for new starters shows a blank page."
    unsure = tuple(
        ReviewSide(label, "model", now, blank, confidence=p, ticket_id=9) for label, p in (("Other", 0.31), ("Hardware", 0.29))
    )
    rows = ((ReviewKind.REVIEWER_DISAGREEMENT, 0.8, sides), (ReviewKind.LOW_CONFIDENCE, 0.69, unsure))
    return {
        number: ReviewInfo(
            id=number,
            kind=kind,
            status=ReviewStatus.OPEN,
            task=TaskKind.CLASSIFICATION,
            reason="",
            priority=priority,
            sides=found,
            run_id=None,
            resolution=None,
            resolved_by=None,
            resolved_at=None,
            created_at=now - timedelta(days=1),
        )
        for number, (kind, priority, found) in enumerate(rows, start=1)
    }
