"""`FakeManager`: a manager whose training runs progress as its bot's clock moves.

Part of `bot.testing`, which plugin authors import; knows nothing of tickets. A run's state is a function of the time since it began.
"""

import base64
import hashlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Protocol

from bot import testing_samples as samples
from bot.plugin_api import (
    BASE,
    AdapterInfo,
    AdapterStatus,
    ConflictError,
    DryRun,
    ImportCounts,
    LabelSet,
    LivePeriod,
    ModelKind,
    NotFoundError,
    PastTicket,
    RunInfo,
    RunStatus,
    RunTrigger,
    TaskKind,
    Trace,
)
from bot.testing_clock import Clock
from bot.testing_review import FakeReviews, build_sample_reviews
from bot.testing_runs import RUNNING, end_run, new_run, progress_run

PIXEL = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==")
"""A PNG of one pixel."""


class Owner(Protocol):
    """What the manager needs of the bot it belongs to."""

    clock: Clock
    label_set: LabelSet
    is_paused: bool


def _digest(seed: str) -> str:
    return hashlib.sha256(seed.encode()).hexdigest()


class FakeManager(FakeReviews):
    """`bot.plugin_api.Manager` of a FakeBot. A run's progress follows the bot's clock: `run_s` seconds from queue to verdict.

    `outcome` is how the next run ends (promoted, rejected, awaiting_approval or failed); `is_enough` says whether one may start.
    """

    def __init__(self, bot: Owner) -> None:
        self._bot = bot
        self.run_s = 20.0
        self.outcome = RunStatus.PROMOTED
        self.is_enough = True
        self.adapters: dict[str, AdapterInfo] = {}
        self.runs: dict[int, RunInfo] = {}
        self.reviews = {}
        self.traces: dict[int, tuple[Trace, ...]] = {}
        self.audit: list[tuple[str, str, str]] = []
        self.past: dict[tuple[str, str], PastTicket] = {}
        self.approvers_needed = 1
        self.approvers: dict[str, set[str]] = {}
        self.timeline: tuple[tuple[datetime, float, str], ...] = ()

    def live(self, task: TaskKind) -> str:
        """Return the digest that serves `task` now, or "base"."""
        return next((a.digest for a in self.adapters.values() if a.task is task and a.is_serving), BASE)

    async def dry_run(self, task: TaskKind) -> DryRun:
        """Return invented but consistent counts."""
        per_label = (
            {name: 18 + 7 * n for n, name in enumerate(self._bot.label_set.names)} if task is TaskKind.CLASSIFICATION else {}
        )
        n_train = sum(per_label.values()) or 96
        return DryRun(
            n_train=n_train if self.is_enough else 3,
            n_validation=n_train // 8,
            n_test=n_train // 5,
            n_golden=60,
            per_label=per_label,
            left_out={
                "shown blind, kept for evaluation": 11,
                "near-duplicate of another ticket": 23,
                "contradicts another decision": 4,
            },
            is_enough=self.is_enough,
            message=f"{n_train} examples would be used." if self.is_enough else "Too few examples: 3 of the 20 that a run needs.",
        )

    async def start_run(self, task: TaskKind, *, actor: str, trigger: RunTrigger = RunTrigger.MANUAL) -> RunInfo:
        """Queue a run. Raises ConflictError while one is going."""
        states = [(await self.get_run(run_id)).status for run_id in self.runs]
        if RUNNING.intersection(states):
            raise ConflictError("a training run is already going; wait for it or cancel it first")
        if not self.is_enough:
            raise ConflictError("there are too few examples for a run: 3 of the 20 it needs")
        run_id = len(self.runs) + 1
        self.audit.append((actor, "start_run", str(run_id)))
        self.runs[run_id] = new_run(run_id, task, actor=actor, trigger=trigger, created_at=self._bot.clock.now())
        return self.runs[run_id]

    async def cancel_run(self, run_id: int, *, actor: str) -> RunInfo:
        """End a run as cancelled. Raises ConflictError where it has ended."""
        run = await self.get_run(run_id)
        if run.status not in RUNNING:
            raise ConflictError(f"run {run_id} has already ended as {run.status}")
        self.audit.append((actor, "cancel_run", str(run_id)))
        now = self._bot.clock.now()
        self.runs[run_id] = replace(run, status=RunStatus.CANCELLED, message="Cancelled.", eta_s=None, finished_at=now)
        return self.runs[run_id]

    async def get_run(self, run_id: int) -> RunInfo:
        """Return one run as far as the clock has brought it."""
        if run_id not in self.runs:
            raise NotFoundError(f"there is no training run {run_id}")
        run = self.runs[run_id]
        if run.status in RUNNING:
            elapsed = (self._bot.clock.now() - run.created_at).total_seconds() / self.run_s
            run = progress_run(run, min(1.0, elapsed), self.run_s) if elapsed < 1.0 else self._finish(run)
            self.runs[run_id] = run
        return run

    async def list_runs(self, *, limit: int = 20) -> Sequence[RunInfo]:
        """Return runs, newest first."""
        return [await self.get_run(run_id) for run_id in sorted(self.runs, reverse=True)[:limit]]

    async def follow_run(self, run_id: int) -> AsyncIterator[RunInfo]:
        """Yield the run at each change until it has ended."""
        last: RunInfo | None = None
        while True:
            run = await self.get_run(run_id)
            if run != last:
                yield run
            if run.status not in RUNNING:
                return
            last = run
            await self._bot.clock.sleep(self.run_s / 40)

    async def list_adapters(self, *, task: TaskKind | None = None) -> Sequence[AdapterInfo]:
        """Return adapters, newest first."""
        chosen = [a for a in self.adapters.values() if task is None or a.task is task]
        return sorted(chosen, key=lambda adapter: adapter.created_at, reverse=True)

    async def promote(self, digest: str, *, actor: str, reason: str) -> AdapterInfo:
        """Activate a candidate or retired adapter once `approvers_needed` people have asked for it."""
        matches = [a for a in self.adapters.values() if a.digest.startswith(digest)] if len(digest) >= 8 else []
        if len(matches) != 1:
            raise NotFoundError(f"no single adapter has a digest that begins with '{digest}'; give 8 or more of its digits")
        if matches[0].status not in {AdapterStatus.CANDIDATE, AdapterStatus.RETIRED}:
            raise ConflictError(
                f"adapter {matches[0].digest[:12]} is {matches[0].status}; only a candidate or retired one can be promoted"
            )
        approvers = self.approvers.setdefault(matches[0].digest, set())
        approvers.add(actor)
        if len(approvers) < self.approvers_needed:
            return replace(matches[0], reason=f"approved by {actor}; one more person is needed")
        self.audit.append((actor, "promote", matches[0].digest))
        return self._activate(matches[0].digest, reason)

    async def reject(self, digest: str, *, actor: str, reason: str) -> AdapterInfo:
        """Turn a candidate down; the run that waited for it is rejected."""
        found = next((a for a in self.adapters.values() if len(digest) >= 8 and a.digest.startswith(digest)), None)
        if found is None:
            raise NotFoundError(f"no single adapter has a digest that begins with '{digest}'; give 8 or more of its digits")
        if found.status is not AdapterStatus.CANDIDATE:
            raise ConflictError(f"adapter {found.digest[:12]} is {found.status}; only a candidate can be rejected")
        self.adapters[found.digest] = replace(found, status=AdapterStatus.REJECTED, reason=reason)
        for run in self.runs.values():
            if run.adapter_digest == found.digest and run.status is RunStatus.AWAITING_APPROVAL:
                self.runs[run.run_id] = replace(run, status=RunStatus.REJECTED)
        self.audit.append((actor, "reject", found.digest))
        return self.adapters[found.digest]

    async def note_refusal(self, *, actor: str, what: str) -> None:
        """Keep it in `audit`."""
        self.audit.append((actor, "refused", what))

    async def rollback(self, task: TaskKind, *, actor: str, reason: str) -> AdapterInfo | None:
        """Return to the adapter retired last, or to the base model."""
        live = self.live(task)
        if live == BASE:
            raise ConflictError(f"the base model serves {task}; there is nothing to go back to")
        retired = [a for a in self.adapters.values() if a.task is task and a.status is AdapterStatus.RETIRED and a.retired_at]
        previous = max(retired, key=lambda a: a.retired_at or a.created_at, default=None)
        self.audit.append((actor, "rollback", live))
        if previous is not None:
            return self._activate(previous.digest, reason)
        self._retire(task, reason)
        return None

    async def get_timeline(self, *, task: TaskKind | None = None, at: datetime | None = None) -> Sequence[LivePeriod]:
        """Return one period per adapter that has been live, oldest first."""
        was_live = [a for a in await self.list_adapters(task=task) if a.activated_at is not None]
        periods = [
            LivePeriod(task=a.task, digest=a.digest, since=a.activated_at, until=a.retired_at, reason=a.reason, run_id=a.run_id)
            for a in reversed(was_live)
        ]
        return [p for p in periods if at is None or (p.since is not None and p.since <= at and (p.until is None or at < p.until))]

    async def trace_ticket(self, ticket_id: int) -> Sequence[Trace]:
        """Return what the test put into `traces`."""
        return self.traces.get(ticket_id, ())

    async def get_plot(self, run_id: int, name: str) -> bytes | None:
        """Return a plot of one pixel for a run that ended with a verdict."""
        run = await self.get_run(run_id)
        return PIXEL if name in ("labels", "loss", "confusion", "reliability") and run.verdict else None

    async def import_past(self, tickets: Sequence[PastTicket], *, plugin: str, actor: str) -> ImportCounts:  # noqa: ARG002
        """Keep past tickets in `past`, each id of a plugin once."""
        usable = [
            ticket for ticket in tickets if ticket.label in self._bot.label_set.names or (not ticket.label and ticket.summary)
        ]
        new = {(plugin, ticket.external_id): ticket for ticket in usable if (plugin, ticket.external_id) not in self.past}
        self.past.update(new)
        return ImportCounts(len(new), len(usable) - len(new), 0, len(tickets) - len(usable))

    async def set_paused(self, *, is_paused: bool, actor: str) -> None:
        """Stop or resume suggestions."""
        self.audit.append((actor, "pause" if is_paused else "resume", ""))
        self._bot.is_paused = is_paused

    def load_samples(self, now: datetime) -> None:
        """Fill in the sample adapters, two ended runs, questions and a timeline."""
        self.reviews = build_sample_reviews(now)
        for n, (seed, task, days, status, reason, metrics) in enumerate(samples.ADAPTERS, start=1):
            created_at = now - timedelta(days=days)
            is_run = n in {3, 4}
            self.adapters[_digest(seed)] = AdapterInfo(
                digest=_digest(seed),
                task=TaskKind(task),
                model_kind=ModelKind.ENCODER,
                status=AdapterStatus(status),
                label_set_version=self._bot.label_set.version,
                run_id=n - 2 if is_run else None,
                created_at=created_at,
                activated_at=None if status in {"candidate", "rejected"} else created_at + timedelta(minutes=4),
                retired_at=now - timedelta(days=days - 12) if status == "retired" else None,
                reason=reason,
                is_serving=status == "active",
                metrics=metrics,
            )
            if is_run:
                run = new_run(n - 2, TaskKind(task), actor="schedule", trigger=RunTrigger.SCHEDULE, created_at=created_at)
                ended = RunStatus.REJECTED if status == "rejected" else RunStatus.PROMOTED
                self.runs[run.run_id] = end_run(run, ended, _digest(seed), now=created_at + timedelta(minutes=3))
        digests = [_digest(seed) for seed in ("class-one", "class-two", "class-four")]
        shares, n_shares = samples.TIMELINE, len(samples.TIMELINE)
        self.timeline = tuple(
            (now - timedelta(days=3.5 * (n_shares - 1 - n)), share, BASE if n < 3 else digests[(n - 3) // 3])
            for n, share in enumerate(shares)
        )

    def _retire(self, task: TaskKind, reason: str) -> None:
        live, now = self.live(task), self._bot.clock.now()
        if live != BASE:
            old = self.adapters[live]
            self.adapters[live] = replace(
                old, status=AdapterStatus.RETIRED, retired_at=now, is_serving=False, reason=reason or old.reason
            )

    def _activate(self, digest: str, reason: str) -> AdapterInfo:
        self._retire(self.adapters[digest].task, "")
        new = replace(self.adapters[digest], status=AdapterStatus.ACTIVE, is_serving=True, reason=reason)
        self.adapters[digest] = replace(new, activated_at=self._bot.clock.now(), retired_at=None)
        return self.adapters[digest]

    def _finish(self, run: RunInfo) -> RunInfo:
        now = self._bot.clock.now()
        if self.outcome is RunStatus.FAILED:
            return replace(run, status=RunStatus.FAILED, message="The training process ended early.", eta_s=None, finished_at=now)
        digest = _digest(f"run-{run.run_id}-{run.created_at.isoformat()}")
        status = AdapterStatus.REJECTED if self.outcome is RunStatus.REJECTED else AdapterStatus.CANDIDATE
        ended = end_run(run, self.outcome, digest, now=now)
        self.adapters[digest] = AdapterInfo(
            digest=digest,
            task=run.task,
            model_kind=ModelKind.ENCODER,
            status=status,
            label_set_version=self._bot.label_set.version,
            run_id=run.run_id,
            created_at=now,
            activated_at=None,
            retired_at=None,
            reason="; ".join(ended.verdict),
            is_serving=False,
            metrics={"accuracy": 0.872, "macro_f1": 0.855, "ece": 0.024},
        )
        if self.outcome is RunStatus.PROMOTED:
            self._activate(digest, "; ".join(ended.verdict))
        return ended
