"""Deletes what is older than the settings allow, in short transactions, and writes down how much that was."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final

from sqlalchemy import Engine as DbEngine
from sqlmodel import Session

from bot.privacy.settings import RetentionSettings
from db.queries import privacy_retention as rows
from db.queries.audit import record_audit
from db.queries.events import purge_events
from db.queries.tickets import purge_expired_vault
from db.queries.values import purge_expired_values
from db.session import drop_leftovers, retry_transaction
from db.tables import now

ACTION_PURGED = "retention.purge"
ACTOR = "retention"
Purge = Callable[[Session, datetime], int]

STEPS: Final[Mapping[str, tuple[str, Purge]]] = {
    # Setting: (what is counted, how). Feedback goes before inferences: it names them. Runs and audit come last.
    "ticket_text_days": ("ticket texts", rows.purge_ticket_texts),
    "feedback_days": ("feedback", rows.purge_feedback),
    "inference_days": ("inferences", rows.purge_inferences),
    "example_days": ("examples", rows.purge_examples),
    "review_days": ("review questions", rows.purge_reviews),
    "correction_days": ("corrections", rows.purge_corrections),
    "audit_days": ("audit rows", rows.purge_audit),
}


@dataclass(frozen=True)
class Retention:
    """The limits, and where rows and run folders lie."""

    db_engine: DbEngine
    settings: RetentionSettings
    runs_dir: Path
    should_stop: Callable[[], bool] = lambda: False

    def purge(self, *, at: datetime | None = None) -> dict[str, int]:
        """Delete what is due at that time and return how many rows, by what they are. Audited where that is any."""
        at = at or now()
        counts: dict[str, int] = {}
        for setting, (name, step) in STEPS.items():
            days = getattr(self.settings, setting)
            if days:
                counts[name] = self._repeat(step, at - timedelta(days=days))
        if self.settings.run_days:
            counts["training runs"] = self._purge_runs(at - timedelta(days=self.settings.run_days))
        if self.settings.event_days:
            before = at - timedelta(days=self.settings.event_days)
            counts["plugin events"] = retry_transaction(self.db_engine, partial(purge_events, before=before))
        counts["plugin values"] = retry_transaction(self.db_engine, partial(purge_expired_values, at=at))
        counts["placeholder maps"] = retry_transaction(self.db_engine, partial(purge_expired_vault, at=at))
        done = {name: count for name, count in counts.items() if count}
        if done:
            retry_transaction(self.db_engine, partial(_audit, counts=done))
        drop_leftovers(self.db_engine)
        return done

    def _repeat(self, step: Purge, before: datetime) -> int:
        total = 0
        while not self.should_stop():
            count = retry_transaction(self.db_engine, lambda session: step(session, before))
            if not count:
                break
            total += count
        return total

    def _purge_runs(self, before: datetime) -> int:
        """Delete runs, and their folders once the rows are gone."""

        def work(session: Session) -> list[int]:
            ids = rows.find_old_runs(session, before)
            rows.delete_runs(session, ids)
            return ids

        total = 0
        while ids := retry_transaction(self.db_engine, work):
            for run_id in ids:
                shutil.rmtree(self.runs_dir / str(run_id), ignore_errors=True)
            total += len(ids)
        return total


def _audit(session: Session, *, counts: Mapping[str, int]) -> None:
    record_audit(session, actor=ACTOR, action=ACTION_PURGED, subject_type="tables", subject_id="all", detail=dict(counts))
