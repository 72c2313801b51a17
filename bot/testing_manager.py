"""The fakes that know time: `FakeClock`, and `FakeManager` whose training runs progress as its clock moves.

Part of `bot.testing`, which plugin authors import; knows nothing of tickets. A run's state is a function of the time since it began.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Protocol

from bot import testing_samples as samples
from bot.plugin_api import (
    BASE,
    AdapterInfo,
    AdapterStatus,
    ConflictError,
    DryRun,
    LabelSet,
    LivePeriod,
    ModelKind,
    NotFoundError,
    RunInfo,
    RunStatus,
    RunTrigger,
    TaskKind,
    Trace,
)
from bot.testing_review import FakeReviews, build_sample_reviews

_PHASES = (RunStatus.PREPARING, RunStatus.TRAINING, RunStatus.EVALUATING)
_RUNNING = frozenset({RunStatus.QUEUED, *_PHASES})


class Clock(Protocol):
    """Where a fake takes its time from."""

    def now(self) -> datetime:
        """Return the time in UTC."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Let `seconds` of this clock pass."""
        ...


class FakeClock:
    """A clock that moves only when told to, or when somebody sleeps on it. `real_s` is what one sleep costs in real seconds."""

    def __init__(self, start: datetime | None = None, *, real_s: float = 0.0) -> None:
        self._now = start or datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
        self._real_s = real_s

    def now(self) -> datetime:
        """Return the time in UTC."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Move forward by `seconds`."""
        self._now += timedelta(seconds=seconds)

    async def sleep(self, seconds: float) -> None:
        """Move forward by `seconds` and let other coroutines run."""
        self.advance(seconds)
        await asyncio.sleep(self._real_s)


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
        if _RUNNING.intersection(states):
            raise ConflictError("a training run is already going; wait for it or cancel it first")
        if not self.is_enough:
            raise ConflictError("there are too few examples for a run: 3 of the 20 it needs")
        run_id = len(self.runs) + 1
        self.audit.append((actor, "start_run", str(run_id)))
        self.runs[run_id] = _new_run(run_id, task, actor=actor, trigger=trigger, created_at=self._bot.clock.now())
        return self.runs[run_id]

    async def cancel_run(self, run_id: int, *, actor: str) -> RunInfo:
        """End a run as cancelled. Raises ConflictError where it has ended."""
        run = await self.get_run(run_id)
        if run.status not in _RUNNING:
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
        if run.status in _RUNNING:
            elapsed = (self._bot.clock.now() - run.created_at).total_seconds() / self.run_s
            run = _progress(run, min(1.0, elapsed), self.run_s) if elapsed < 1.0 else self._finish(run)
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
            if run.status not in _RUNNING:
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
                run = _new_run(n - 2, TaskKind(task), actor="schedule", trigger=RunTrigger.SCHEDULE, created_at=created_at)
                ended = RunStatus.REJECTED if status == "rejected" else RunStatus.PROMOTED
                self.runs[run.run_id] = _ended(run, ended, _digest(seed), now=created_at + timedelta(minutes=3))
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
        ended = _ended(run, self.outcome, digest, now=now)
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


def _new_run(run_id: int, task: TaskKind, *, actor: str, trigger: RunTrigger, created_at: datetime) -> RunInfo:
    return RunInfo(
        run_id=run_id,
        task=task,
        status=RunStatus.QUEUED,
        trigger=trigger,
        actor=actor,
        phase="queued",
        step=0,
        total_steps=120,
        fraction=0.0,
        loss=None,
        eta_s=None,
        message="Waiting for the training process.",
        created_at=created_at,
        finished_at=None,
        adapter_digest=None,
        verdict=(),
    )


def _progress(run: RunInfo, fraction: float, run_s: float) -> RunInfo:
    if fraction < 0.05:
        return run
    status = _PHASES[0] if fraction < 0.15 else _PHASES[1] if fraction < 0.85 else _PHASES[2]
    step = round(run.total_steps * min(1.0, max(0.0, (fraction - 0.15) / 0.7)))
    messages = {
        RunStatus.PREPARING: "Building the dataset and masking it again.",
        RunStatus.TRAINING: f"Training, step {step} of {run.total_steps}.",
        RunStatus.EVALUATING: "Comparing the candidate with what is live.",
    }
    return replace(
        run,
        status=status,
        phase=status.value,
        step=step,
        fraction=round(fraction, 3),
        loss=round(1.9 - 1.3 * step / run.total_steps, 3) if step else None,
        eta_s=round(run_s * (1 - fraction), 1),
        message=messages[status],
    )


def _ended(run: RunInfo, status: RunStatus, digest: str, *, now: datetime) -> RunInfo:
    is_better = status is not RunStatus.REJECTED
    after: Mapping[str, float] = (
        {"candidate_accuracy": 0.872, "candidate_macro_f1": 0.855, "candidate_ece": 0.024, "gain": 0.049}
        if is_better
        else {"candidate_accuracy": 0.829, "candidate_macro_f1": 0.781, "candidate_ece": 0.052, "gain": 0.006}
    )
    before = {"n_test": 320.0, "base_accuracy": 0.612, "active_accuracy": 0.823, "active_macro_f1": 0.796, "active_ece": 0.034}
    better = ("Accuracy rose from 82.3 % to 87.2 % (interval +2.1 to +7.7 points).", "No label lost more than 1 point.")
    worse = ("Recall of Security incident fell from 96 % to 88 %; at most 1 point is allowed.",)
    return replace(
        run,
        status=status,
        phase=status.value,
        step=run.total_steps,
        fraction=1.0,
        eta_s=None,
        message={RunStatus.PROMOTED: "Promoted and live.", RunStatus.REJECTED: "Rejected by the gate."}.get(
            status, "Waits for an approver."
        ),
        finished_at=now,
        adapter_digest=digest,
        verdict=better if is_better else worse,
        before_after={**before, **after},
    )
