"""Sees the active adapter change in the database and asks the engine to swap. The only caller of load, activate and unload.

A bundle that cannot be loaded or proven leaves what serves in place, is audited once, and is not tried again until it is activated anew.
Any other error is kept as the task's problem and tried again at the next look: nothing ends the watch but its stop.
"""

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlmodel import Session

from bot.core import Core
from bot.engine.protocol import AdapterError, AdapterMissingError, Engine, EngineError, FloatArray, QueueFullError, SwapReport
from bot.similar import Neighbour
from bot.types import BASE
from db.errors import DatabaseError
from db.queries import adapters, inferences
from db.queries.audit import record_audit
from db.queries.state import set_state
from db.tables import Adapter
from db.types import MaskedText, TaskKind

logger = logging.getLogger(__name__)
_REBUILD_CHUNK = 64
_QUEUE_PAUSE_S = 0.5


@dataclass(frozen=True)
class Wanted:
    """What the database says should answer a task."""

    digest: str
    path: str
    label_set_version: str
    activated_at: datetime | None


class AdapterWatch:
    """Keeps the engines on what the database calls active, and the one before it warm for a quick way back."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._nudge = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None
        self._rebuilds: set[asyncio.Task[None]] = set()
        self._refused: dict[TaskKind, tuple[str, datetime | None]] = {}  # digest, and which activation of it
        self._previous: dict[TaskKind, str] = {}
        self.problems: dict[TaskKind, str] = {}

    async def start(self) -> None:
        """Bring the engines up to date once, then keep watching."""
        await self.check()
        for task in TaskKind:
            await self._note_serving(task, None)
        await self._stop_rebuild()
        self._core.similar.reset(self._core.engines[TaskKind.CLASSIFICATION].get_active(TaskKind.CLASSIFICATION))
        self._start_rebuild()
        self._worker = asyncio.create_task(self._watch(), name="adapter-watch")

    async def stop(self) -> None:
        """Stop watching."""
        if self._worker is not None:
            self._worker.cancel()
            await asyncio.gather(self._worker, return_exceptions=True)
        await self._stop_rebuild()

    def nudge(self) -> None:
        """Look now instead of at the next interval."""
        self._nudge.set()

    def forget_refusal(self, task: TaskKind) -> None:
        """Let the next look try an adapter again that was refused; `ManagerService.promote` calls it before it waits."""
        self._refused.pop(task, None)

    async def wait_until_served(self, task: TaskKind, digest: str, *, timeout_s: float) -> bool:
        """Wait until the engine answers a task with `digest`; False when it does not come to that in time."""
        self.nudge()
        deadline = asyncio.get_running_loop().time() + timeout_s
        while self._core.engines[task].get_active(task) != digest:
            if asyncio.get_running_loop().time() > deadline or self._refused.get(task, ("", None))[0] == digest:
                return False
            await asyncio.sleep(0.01)
        return True

    async def _watch(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):  # the interval is over: time to look
                await asyncio.wait_for(self._nudge.wait(), timeout=self._core.settings.watch_interval_s)
            self._nudge.clear()
            try:
                await self.check()
            except DatabaseError as error:
                logger.warning("cannot look for a new adapter: %s", error)
            except Exception as error:  # whatever it is, the next look may go well
                logger.error("cannot look for a new adapter: %s", type(error).__name__)  # noqa: TRY400  the text may hold more

    async def check(self) -> None:
        """Compare and swap, once, for every task. What goes wrong with one task is in `problems`; raises DatabaseError."""
        wanted = await self._core.in_db(self._get_wanted)
        for task, engine in self._core.engines.items():
            try:
                await self._check_task(engine, task, wanted.get(task))
            except Exception as error:  # one task's trouble must stop neither the other, nor the watch, nor the start
                said = str(error) if isinstance(error, DatabaseError) else f"unexpected {type(error).__name__}"
                self._set_problem(task, f"the adapter for {task} could not be brought up to date: {said}")

    async def _check_task(self, engine: Engine, task: TaskKind, want: Wanted | None) -> None:
        digest, activated_at = (want.digest, want.activated_at) if want else (BASE, None)
        if digest == engine.get_active(task):
            self._refused.pop(task, None)
            self._set_problem(task, self._find_mismatch(task, want))
        elif self._refused.get(task) != (digest, activated_at):
            await self._swap(engine, task, want)

    def _set_problem(self, task: TaskKind, problem: str | None) -> None:
        """Keep the task's problem, None for none, and log it once."""
        if problem is None:
            self.problems.pop(task, None)
        elif self.problems.get(task) != problem:
            self.problems[task] = problem
            logger.warning("%s", problem)

    def _find_mismatch(self, task: TaskKind, want: Wanted | None) -> str | None:
        in_force = self._core.label_set.version
        if task is not TaskKind.CLASSIFICATION or want is None or want.label_set_version == in_force:
            return None
        return (
            f"the adapter {want.digest[:12]} was trained on label set {want.label_set_version}, in force is {in_force}: labels it does "
            "not know are scored by their description; retrain"
        )

    def _get_wanted(self, session: Session) -> dict[TaskKind, Wanted]:
        found: dict[TaskKind, Wanted] = {}
        for task in TaskKind:
            row: Adapter | None = adapters.get_active(session, task)
            if row is not None:
                found[task] = Wanted(row.digest, row.path, row.label_set_version, row.activated_at)
        return found

    async def _swap(self, engine: Engine, task: TaskKind, want: Wanted | None) -> None:
        previous = engine.get_active(task)
        digest = want.digest if want else BASE
        try:
            if want is not None:
                await engine.load(self._core.settings.adapters_dir / want.path)
            report = await engine.activate(task, want.digest if want else None)
        except EngineError as error:
            if isinstance(error, AdapterError) and not isinstance(error, AdapterMissingError):
                self._refused[task] = (
                    digest,
                    want.activated_at if want else None,
                )  # what else is wrong may end: the next look tries again
            problem, said = f"the adapter {digest[:12]} cannot serve {task}: {error}", str(error)
            if self.problems.get(task) == problem:
                return
            self._set_problem(task, problem)
            await self._core.in_db(lambda session: self._audit(session, task, digest, action="adapter.refused", error=said))
            return
        self._set_problem(task, self._find_mismatch(task, want))
        self._previous[task] = previous
        if task is TaskKind.CLASSIFICATION:
            self._core.similar.reset(digest)
            self._start_rebuild()
        await self._note_serving(task, report)
        await self._free_old(engine, task, keep={digest, previous})

    async def _free_old(self, engine: Engine, task: TaskKind, *, keep: set[str]) -> None:
        other = {self._previous.get(t, BASE) for t in TaskKind if t is not task}
        active = {engine.get_active(t) for t in TaskKind}
        for digest in engine.get_loaded():
            if digest not in keep | other | active:
                await engine.unload(digest)

    async def _note_serving(self, task: TaskKind, report: SwapReport | None) -> None:
        digest = self._core.engines[task].get_active(task)

        def work(session: Session) -> None:
            set_state(session, f"serving.{task}", value={"digest": digest})
            if report is not None:
                self._audit(session, task, digest, action="adapter.served", report=report)

        await self._core.in_db(work)

    @staticmethod
    def _audit(
        session: Session, task: TaskKind, digest: str, *, action: str, error: str = "", report: SwapReport | None = None
    ) -> None:
        detail: dict[str, object] = {"task": task.value}
        if error:
            detail["error"] = error
        if report is not None:
            detail |= {
                "previous": report.previous_digest,
                "flip_ms": round(report.flip_ms, 3),
                "drain_ms": round(report.drain_ms, 3),
            }
        record_audit(session, actor="bot", action=action, subject_type="adapter", subject_id=digest, detail=detail)

    @staticmethod
    async def _embed(engine: Engine, texts: Sequence[MaskedText], digest: str) -> FloatArray:
        """Embed as bulk work; where the queue is full, as long as it takes."""
        while True:
            try:
                return await engine.embed(texts, task=TaskKind.CLASSIFICATION, adapter=digest)
            except QueueFullError:
                await asyncio.sleep(_QUEUE_PAUSE_S)

    def _start_rebuild(self) -> None:
        worker = asyncio.create_task(self._rebuild_similar(), name="similar-rebuild")
        self._rebuilds.add(worker)
        worker.add_done_callback(self._rebuilds.discard)

    async def _stop_rebuild(self) -> None:
        workers = list(self._rebuilds)
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)

    async def _rebuild_similar(self) -> None:
        """Embed the decided tickets again under the adapter that serves now, in the background."""
        engine = self._core.engines[TaskKind.CLASSIFICATION]
        digest = self._core.similar.digest
        limit = self._core.settings.similar_index_size
        if engine.kind != "encoder" or limit == 0:
            return
        try:
            rows = await self._core.in_db(lambda session: inferences.list_decided(session, limit=limit))
            for start in range(0, len(rows), _REBUILD_CHUNK):
                if self._core.similar.digest != digest:
                    return  # another adapter answers now, and its own rebuild runs
                chunk = rows[start : start + _REBUILD_CHUNK]
                texts = [MaskedText(row.text) for row in chunk]
                vectors = await self._embed(engine, texts, digest)
                for row, vector in zip(chunk, vectors, strict=True):
                    neighbour = Neighbour(ticket_id=row.ticket_id, label=row.label, text=row.text)
                    self._core.similar.add(neighbour, vector, digest=digest, is_rebuild=True)
        except (EngineError, DatabaseError) as error:
            if self._core.similar.digest == digest:
                logger.warning("similar tickets are incomplete: %s", error)
        except Exception as error:  # nobody awaits this task: what is not logged here is never seen
            logger.error("similar tickets are incomplete: unexpected %s", type(error).__name__)  # noqa: TRY400  the text may hold more
