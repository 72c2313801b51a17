"""What managers may do: training runs, adapters, pause. Every call is audited under its actor by the query that changes the state.

Training itself is another process: this module writes the queue, reads progress, and never imports training.
"""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime
from typing import TypeVar

from sqlmodel import Session

from bot import review
from bot.adapter_watch import AdapterWatch
from bot.approval import promote_adapter, reject_adapter
from bot.core import Core
from bot.importing import find_new, get_salt, import_batch, mask_tickets
from bot.masking import MaskingError
from bot.plugin_api import BotError, ConflictError, NotFoundError
from bot.types import BASE, AdapterInfo, DryRun, ImportCounts, PastTicket, ReviewInfo, RunInfo
from db.errors import InvalidValueError, RowNotFoundError, StateConflictError
from db.queries import adapters, gate, runs
from db.queries.audit import record_audit
from db.queries.common import row_id
from db.queries.lineage import Trace, trace_ticket
from db.queries.review import dismiss
from db.queries.state import set_paused
from db.queries.timeline import LivePeriod, build_timeline
from db.tables import Adapter, TrainingRun
from db.types import RUNNING, AdapterStatus, ReviewStatus, RunTrigger, TaskKind

T = TypeVar("T")
_FOLLOW_INTERVAL_S = 0.3
_SWAP_TIMEOUT_S = 30.0
PLOTS = ("labels", "loss", "confusion", "reliability")


class ManagerService:
    """Implements `bot.plugin_api.Manager`."""

    def __init__(self, core: Core, watch: AdapterWatch) -> None:
        self._core = core
        self._watch = watch

    async def dry_run(self, task: TaskKind) -> DryRun:
        """See `bot.plugin_api.Manager.dry_run`. The training process builds the dataset, so the two can never disagree."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "training",
            "dry-run",
            "--task",
            task.value,
            "--json",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=build_child_environment(self._core),
        )
        out, err = await process.communicate()
        if process.returncode != 0:
            lines = err.decode(errors="replace").strip().splitlines()
            raise BotError(f"the dry run failed: {lines[-1] if lines else 'no reason given'}")
        return DryRun(**json.loads(out))

    async def start_run(self, task: TaskKind, *, actor: str, trigger: RunTrigger = RunTrigger.MANUAL) -> RunInfo:
        """See `bot.plugin_api.Manager.start_run`."""

        def work(session: Session) -> RunInfo:
            return self._build_run(session, runs.enqueue_run(session, task=task, trigger=trigger, actor=actor))

        return await self._guard(work)

    async def cancel_run(self, run_id: int, *, actor: str) -> RunInfo:
        """See `bot.plugin_api.Manager.cancel_run`."""
        return await self._guard(lambda session: self._build_run(session, runs.request_cancel(session, run_id, actor=actor)))

    async def get_run(self, run_id: int) -> RunInfo:
        """See `bot.plugin_api.Manager.get_run`."""
        return await self._guard(lambda session: self._build_run(session, runs.get_run(session, run_id)))

    async def list_runs(self, *, limit: int = 20) -> Sequence[RunInfo]:
        """See `bot.plugin_api.Manager.list_runs`."""
        return await self._guard(lambda session: [self._build_run(session, row) for row in runs.list_runs(session, limit=limit)])

    async def follow_run(self, run_id: int) -> AsyncIterator[RunInfo]:
        """See `bot.plugin_api.Manager.follow_run`."""
        last: RunInfo | None = None
        while True:
            run = await self.get_run(run_id)
            if run != last:
                yield run
                last = run
            if run.status not in RUNNING:
                return
            await asyncio.sleep(_FOLLOW_INTERVAL_S)

    async def list_adapters(self, *, task: TaskKind | None = None) -> Sequence[AdapterInfo]:
        """See `bot.plugin_api.Manager.list_adapters`."""
        return await self._guard(lambda session: [self._build_adapter(row) for row in adapters.list_adapters(session, task=task)])

    async def promote(self, digest: str, *, actor: str, reason: str) -> AdapterInfo:
        """See `bot.plugin_api.Manager.promote`. Returns once the engine serves it, or says why it does not."""
        reason = await self._mask_reason(reason)

        def work(session: Session) -> AdapterInfo:
            self._check_base(adapters.resolve_digest(session, digest))
            needed = self._core.settings.training.approvers_needed
            return self._build_adapter(promote_adapter(session, digest, actor=actor, reason=reason, approvers_needed=needed))

        info = await self._guard(work)
        if info.status is not AdapterStatus.ACTIVE:
            return info  # approved by one person of two: its reason says who is missing
        self._watch.forget_refusal(info.task)
        await self._wait(info.task, info.digest)
        return await self._guard(lambda session: self._build_adapter(adapters.get_adapter(session, info.digest)))

    async def reject(self, digest: str, *, actor: str, reason: str) -> AdapterInfo:
        """See `bot.plugin_api.Manager.reject`."""
        masked = await self._mask_reason(reason)
        return await self._guard(
            lambda session: self._build_adapter(reject_adapter(session, digest, actor=actor, reason=masked or "turned down"))
        )

    async def rollback(self, task: TaskKind, *, actor: str, reason: str) -> AdapterInfo | None:
        """See `bot.plugin_api.Manager.rollback`."""
        reason = await self._mask_reason(reason)

        def work(session: Session) -> AdapterInfo | None:
            row = adapters.rollback(session, task, actor=actor, reason=reason)
            return None if row is None else self._build_adapter(row)

        info = await self._guard(work)
        self._watch.forget_refusal(task)
        await self._wait(task, info.digest if info else BASE)
        if info is None:
            return None
        return await self._guard(lambda session: self._build_adapter(adapters.get_adapter(session, info.digest)))

    async def get_timeline(self, *, task: TaskKind | None = None, at: datetime | None = None) -> Sequence[LivePeriod]:
        """Return what was live from when to when, on what data, by whose leave; with `at` only what was live then."""
        return await self._guard(lambda session: build_timeline(session, task=task, at=at))

    async def trace_ticket(self, ticket_id: int) -> Sequence[Trace]:
        """Return every run, and the adapter of it, that a ticket's examples went into."""
        return await self._guard(lambda session: trace_ticket(session, ticket_id))

    async def get_plot(self, run_id: int, name: str) -> bytes | None:
        """See `bot.plugin_api.Manager.get_plot`."""
        if name not in PLOTS:
            raise NotFoundError(f"there is no plot '{name}': ask for {', '.join(PLOTS)}")
        path = self._core.settings.runs_dir / str(int(run_id)) / f"{name}.png"
        return await asyncio.to_thread(lambda: path.read_bytes() if path.exists() else None)

    async def import_past(self, tickets: Sequence[PastTicket], *, plugin: str, actor: str) -> ImportCounts:
        """See `bot.plugin_api.Manager.import_past`."""
        label_set = self._core.label_set
        usable = [row for row in tickets if (row.label in label_set.names) or (row.label is None and row.summary)]
        new = await self._core.read_db(lambda session: find_new(session, usable, plugin=plugin))
        salt = await self._core.in_db(get_salt)
        masked = await asyncio.to_thread(mask_tickets, self._core.masker, new, salt=salt)
        counts = await self._guard(lambda session: import_batch(session, masked, label_set=label_set, actor=actor, plugin=plugin))
        return ImportCounts(
            n_imported=counts["imported"],
            n_known=counts["known"] + len(usable) - len(new),
            n_withheld=counts["withheld"],
            n_unknown_label=len(tickets) - len(usable),
        )

    async def note_refusal(self, *, actor: str, what: str) -> None:
        """See `bot.plugin_api.Manager.note_refusal`."""
        await self._guard(
            lambda session: record_audit(session, actor=actor, action="access.refused", subject_type="command", subject_id=what)
        )

    async def set_paused(self, *, is_paused: bool, actor: str) -> None:
        """See `bot.plugin_api.Manager.set_paused`."""
        await self._guard(lambda session: set_paused(session, is_paused=is_paused, actor=actor))

    async def list_review(self, *, status: ReviewStatus | None = ReviewStatus.OPEN, limit: int = 50) -> Sequence[ReviewInfo]:
        """See `bot.plugin_api.Manager.list_review`."""
        return await self._guard(lambda session: review.list_review(session, status=status, limit=limit))

    async def get_review(self, item_id: int) -> ReviewInfo:
        """See `bot.plugin_api.Manager.get_review`."""
        return await self._guard(lambda session: review.get_review(session, item_id))

    async def resolve_review(
        self, item_id: int, *, label: str | None, actor: str, is_golden: bool = False, reason: str = ""
    ) -> ReviewInfo:
        """See `bot.plugin_api.Manager.resolve_review`."""
        masked = await self._mask_reason(reason)

        def work(session: Session) -> ReviewInfo:
            review.resolve_review(
                session,
                item_id,
                label=label,
                label_set=self._core.label_set,
                actor=actor,
                is_golden=is_golden,
                reason=masked,
            )
            return review.get_review(session, item_id)

        return await self._guard(work)

    async def dismiss_review(self, item_id: int, *, actor: str, reason: str = "") -> ReviewInfo:
        """See `bot.plugin_api.Manager.dismiss_review`."""
        masked = await self._mask_reason(reason)

        def work(session: Session) -> ReviewInfo:
            dismiss(session, item_id, actor=actor, reason=masked)
            return review.get_review(session, item_id)

        return await self._guard(work)

    async def _mask_reason(self, reason: str) -> str:
        if not reason.strip():
            return ""
        try:
            return (await self._core.masker.mask_async(reason)).text
        except MaskingError as error:
            raise BotError("the reason could not be masked safely, so nothing was stored; shorten it and try again") from error

    async def _guard(self, work: Callable[[Session], T]) -> T:
        try:
            return await self._core.in_db(work)
        except (StateConflictError, InvalidValueError) as error:
            raise ConflictError(str(error)) from error
        except RowNotFoundError as error:
            raise NotFoundError(str(error)) from error

    async def _wait(self, task: TaskKind, digest: str) -> None:
        if not await self._watch.wait_until_served(task, digest, timeout_s=_SWAP_TIMEOUT_S):
            problem = self._watch.problems.get(task, f"the engine did not take it up within {_SWAP_TIMEOUT_S:.0f} s")
            raise ConflictError(f"recorded, but not serving yet: {problem}")

    def _check_base(self, row: Adapter) -> None:
        engine = self._core.engines[row.task]
        if row.base_digest != engine.base_digest:
            raise ConflictError(
                f"the adapter {row.digest[:12]} was trained on base {row.base_digest[:12]}, but {row.task} is served by "
                f"{engine.base_digest[:12]}: serve that base again or retrain"
            )

    def _build_adapter(self, row: Adapter) -> AdapterInfo:
        return AdapterInfo(
            digest=row.digest,
            task=row.task,
            model_kind=row.model_kind,
            status=row.status,
            label_set_version=row.label_set_version,
            run_id=row.run_id,
            created_at=row.created_at,
            activated_at=row.activated_at,
            retired_at=row.retired_at,
            reason=row.reason,
            is_serving=self._core.engines[row.task].get_active(row.task) == row.digest,
            metrics=row.metrics,
        )

    @staticmethod
    def _build_run(session: Session, row: TrainingRun) -> RunInfo:
        report = gate.get_gate_report(session, run_id=row_id(row))
        verdict = tuple(report.reasons) if report else ()
        numbers = report.numbers if report else {}
        is_over = row.status not in RUNNING
        return RunInfo(
            run_id=row_id(row),
            task=row.task,
            status=row.status,
            trigger=row.trigger,
            actor=row.actor,
            phase=row.phase,
            step=row.step,
            total_steps=row.total_steps,
            fraction=1.0 if is_over else min(row.step / row.total_steps, 1.0) if row.total_steps else 0.0,
            loss=row.loss,
            eta_s=row.eta_s,
            message=row.error or row.message,
            created_at=row.created_at,
            finished_at=row.finished_at,
            adapter_digest=row.adapter_digest,
            verdict=verdict,
            before_after={key: value for key, value in numbers.items() if isinstance(value, int | float)},
        )


def build_child_environment(core: Core) -> dict[str, str]:
    """Return the environment under which the training process sees the same home and database as this process."""
    return {
        **os.environ,
        "UNDERSTUDY_HOME": str(core.settings.home),
        "UNDERSTUDY_DATABASE_URL": core.settings.resolved_database_url,
        **({"UNDERSTUDY_LABELS": str(core.settings.labels)} if core.settings.labels else {}),
    }
