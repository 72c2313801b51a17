"""From pressing retrain to the new adapter's first answer: a fresh home, imported tickets, the bot and its training process.

Knows the bot as the demo does; `benches.train` knows bars and keys. Requests come at a fixed rate, whether or not the last is answered.
"""

import asyncio
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from sqlmodel import Session

from benches.paths import BENCH_DIR, BenchError
from bot.app import App
from bot.cli.common import read_settings
from bot.cli.importing import Importer
from bot.data import DemoTicket, load_demo_tickets
from bot.demo.folder import build_demo_environment
from bot.importing import build_plain_ticket
from bot.plugin_api import BotError
from bot.settings import CONFIG_FILE
from bot.types import SourceRef
from db.queries import leases
from db.types import RunStatus, RunTrigger, TaskKind

HOME: Final = BENCH_DIR / "train-home"
PLUGIN: Final = "bench"
_POLL_S: Final = 0.2
_SERVED_WITHIN_S: Final = 60.0
_BEFORE: Final = "waiting for the training process"
_AFTER: Final = "swapping in"


@dataclass(frozen=True)
class LiveSize:
    """Tickets imported, requests per second of the live load, and seconds of it without training, before and after the run."""

    examples: int = 500
    rate: float = 6.0
    quiet_s: float = 45.0


@dataclass
class Phases:
    """Seconds each phase took, by name, in the order they came; `spans` has begin and end of each by the same clock."""

    seconds: dict[str, float] = field(default_factory=dict)
    spans: list[tuple[str, float, float]] = field(default_factory=list)
    _name: str = _BEFORE
    _since: float = field(default_factory=time.perf_counter)

    def enter(self, name: str) -> None:
        """End the phase before, if this is another one."""
        if name == self._name:
            return
        now = time.perf_counter()
        self.seconds[self._name] = round(self.seconds.get(self._name, 0.0) + now - self._since, 2)
        self.spans.append((self._name, self._since, now))
        self._name, self._since = name, now


class OpenLoad:
    """Asks at a fixed rate until stopped; a latency counts from when its request was due, so that a stall is not hidden."""

    def __init__(self, app: App, tickets: Sequence[DemoTicket], *, rate: float) -> None:
        self._app, self._tickets, self._pause_s = app, tickets, 1.0 / rate
        self._is_stopping = False
        self._number = 0
        self.n_failed = 0
        self.asked: list[tuple[float, float]] = []
        """When each request was due, and its latency in milliseconds."""

    async def run(self, *, seconds: float | None = None) -> list[float]:
        """Ask for that long, or until `stop`, and return the latencies in milliseconds."""
        self._is_stopping = False
        latencies: list[float] = []
        waiting: list[asyncio.Task[None]] = []
        due = started = time.perf_counter()
        while not self._is_stopping and (seconds is None or due - started < seconds):
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            waiting.append(asyncio.create_task(self._ask(due, latencies)))
            due += self._pause_s
        await asyncio.gather(*waiting)
        return latencies

    def stop(self) -> None:
        """Let the load end with the requests that are under way."""
        self._is_stopping = True

    async def _ask(self, due: float, latencies: list[float]) -> None:
        number = self._number
        self._number += 1
        ticket = self._tickets[number % len(self._tickets)]
        try:
            card = await self._app.bot.classify(ticket.text, source=SourceRef(PLUGIN, f"{ticket.id}-{number}"))
            self.n_failed += card.inference_id is None  # a ticket that could not be masked gets no suggestion
        except BotError:
            self.n_failed += 1
        latencies.append((time.perf_counter() - due) * 1e3)
        self.asked.append((due, latencies[-1]))


@contextmanager
def fresh_home(*, threads: int) -> Iterator[Path]:
    """Hand out an empty home that this process and its children use, whatever the machine's own settings are."""
    shutil.rmtree(HOME, ignore_errors=True)
    HOME.mkdir(parents=True)
    (HOME / CONFIG_FILE).touch()
    before = dict(os.environ)
    own = build_demo_environment(before, HOME)
    own |= {"UNDERSTUDY_ENGINE_N_THREADS": str(threads), "UNDERSTUDY_TRAINING_THREADS": str(threads)}
    own["UNDERSTUDY_TRAINING_CRON"] = ""
    os.environ.clear()
    os.environ.update(own)
    try:
        yield HOME
    finally:
        os.environ.clear()
        os.environ.update(before)
        shutil.rmtree(HOME, ignore_errors=True)


async def bench_live(size: LiveSize, *, threads: int) -> dict[str, Any]:
    """Return the seconds from trigger to live, those of each phase, and the training process's peak memory; nobody asks meanwhile."""
    with fresh_home(threads=threads):
        app = await _start(size)
        try:
            figures, _ = await _retrain(app)
            return figures
        finally:
            await app.stop()


async def bench_latency(size: LiveSize, *, threads: int) -> dict[str, Any]:
    """Return the latencies of classifications at a steady rate while a run trains, and without one, just before and after it."""
    with fresh_home(threads=threads):
        app = await _start(size)
        load = OpenLoad(app, load_demo_tickets().unseen, rate=size.rate)
        try:
            await load.run(seconds=5.0)
            if load.n_failed:
                raise BenchError(f"{load.n_failed} of the first requests brought no suggestion; nothing can be measured")
            without = await load.run(seconds=size.quiet_s)
            asking = asyncio.create_task(load.run())
            run, phases = await _retrain(app)
            load.stop()
            training = await asking
            without += await load.run(seconds=size.quiet_s)
        finally:
            await app.stop()
    figures = {"serving_failed": load.n_failed, "serving_run_s": run["trigger_to_live_s"]}
    return {**compare_latencies(training, without), **figures, "serving_p99_ms_by_phase": split_by_phase(load.asked, phases)}


def compare_latencies(training: Sequence[float], without: Sequence[float]) -> dict[str, Any]:
    """Return percentiles of both lists of milliseconds, and the ratio of their 99th."""
    figures: dict[str, Any] = {"serving_requests_while_training": len(training), "serving_requests_without": len(without)}
    for share in (50, 99):
        figures[f"serving_p{share}_ms_while_training"] = float(np.percentile(training, share))
        figures[f"serving_p{share}_ms_without"] = float(np.percentile(without, share))
    return figures | {"serving_p99_ratio": figures["serving_p99_ms_while_training"] / figures["serving_p99_ms_without"]}


def split_by_phase(asked: Sequence[tuple[float, float]], phases: Phases) -> dict[str, float]:
    """Return the 99th percentile, in milliseconds, of the requests that were due in each phase of a run: where it hurts."""
    found: dict[str, list[float]] = {}
    for name, begin, end in phases.spans:
        found.setdefault(name, []).extend(latency for due, latency in asked if begin <= due < end)
    return {name: float(np.percentile(latencies, 99)) for name, latencies in found.items() if latencies}


async def _start(size: LiveSize) -> App:
    """Import the tickets and start the bot; the clock does not run yet. Raises BenchError where tickets are missing."""
    app = App(read_settings(), with_plugins=False)
    tickets = load_demo_tickets().stream[: size.examples]
    if len(tickets) < size.examples:
        raise BenchError(f"the bundled data holds {len(tickets)} tickets to train on: ask for fewer")
    n_imported = await asyncio.to_thread(_import, app, tickets)
    if n_imported < 0.9 * size.examples:
        raise BenchError(f"only {n_imported} of {size.examples} tickets could be imported")
    await app.start()
    return app


def _import(app: App, tickets: Sequence[DemoTicket]) -> int:
    """Store the tickets as examples and end the processes that masked them, before anything is measured; return how many there are."""
    rows = [build_plain_ticket({"id": ticket.id, "text": ticket.text, "label": ticket.label}) for ticket in tickets]
    with Importer(app.settings, app.core.label_set, is_golden=False) as importer:
        importer.store(rows)
    return importer.counts["imported"]


async def _retrain(app: App) -> tuple[dict[str, Any], Phases]:
    """Start a run and follow it until its adapter answers; return its figures and phases. Raises BenchError where it is not promoted."""
    started = time.perf_counter()
    phases, memory = Phases(), MemoryWatch(app)
    run = await app.bot.manager.start_run(TaskKind.CLASSIFICATION, actor=PLUGIN, trigger=RunTrigger.MANUAL)
    watching = asyncio.create_task(memory.watch())
    try:
        async for seen in app.bot.manager.follow_run(run.run_id):
            run = seen
            phases.enter(run.phase or _BEFORE)
        phases.enter(_AFTER)
        if run.status is not RunStatus.PROMOTED or run.adapter_digest is None:
            raise BenchError(f"the run ended as {run.status.value}: {run.message}; {'; '.join(run.verdict)}")
        if not await app.watch.wait_until_served(TaskKind.CLASSIFICATION, run.adapter_digest, timeout_s=_SERVED_WITHIN_S):
            raise BenchError(f"the new adapter was not taken up: {app.watch.problems.get(TaskKind.CLASSIFICATION, 'no reason')}")
        seconds = time.perf_counter() - started
        phases.enter("done")
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    figures = {"trigger_to_live_s": seconds, "peak_rss_bytes": memory.peak_bytes, "phases_s": phases.seconds}
    return figures, phases


class MemoryWatch:
    """Reads the high-water mark of the process that holds the training lease, until cancelled."""

    def __init__(self, app: App) -> None:
        self._app = app
        self.peak_bytes = 0

    async def watch(self) -> None:
        """Look every so often; the kernel keeps the mark, so that only the last look before the end matters."""
        while True:
            holder = await self._app.core.in_db(_read_holder)
            if holder is not None:
                self.peak_bytes = max(self.peak_bytes, read_peak_bytes(int(holder.rpartition(":")[2])))
            await asyncio.sleep(_POLL_S)


def _read_holder(session: Session) -> str | None:
    return leases.get_holder(session, leases.TRAINING)


def read_peak_bytes(pid: int) -> int:
    """Return the most resident memory a process has had, 0 where it has ended. Linux only."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)
