"""The demo from start to end: bare model, agents, training, gate, swap under live requests, unseen tickets, report.

It uses the same bot, the same training process and the same database as `serve`; only the people are simulated.
"""

import asyncio
import json
import os
import shutil
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from sqlmodel import Session

from bot.app import App
from bot.cli.common import read_settings
from bot.cli.output import console, write_json
from bot.data import DemoTicket, load_demo_dialogues, load_demo_tickets
from bot.demo.agents import SimulatedAgent, Tally
from bot.demo.folder import CONFIG, build_demo_environment, reuse_models
from bot.demo.live import LiveLoad, count_wrong
from bot.demo.privacy import check_masking
from bot.demo.report import build_report, print_report
from bot.engine.protocol import Priority, ScoreRequest
from bot.errors import UserError
from bot.settings import CONFIG_FILE
from bot.tasks.labels import render_label_set
from bot.types import BASE, RunInfo
from db.queries.examples import iterate_examples
from db.types import RunStatus, RunTrigger, Split, TaskKind

T = TypeVar("T")
DEMO_FOLDER = "demo"
N_UNSEEN = 1500
N_DIALOGUES = 160
CONCURRENCY = 8
_EASY_PAUSE_S = 0.5
_ROUND_TRIPS = 5
_BETWEEN_SWAPS_S = 0.8


@dataclass
class Timings:
    """Seconds each step took, in order."""

    seconds: dict[str, float] = field(default_factory=dict)

    async def measure(self, name: str, work: Awaitable[T]) -> T:
        """Await and note how long it took."""
        started = time.perf_counter()
        result = await work
        self.seconds[name] = round(time.perf_counter() - started, 2)
        return result


def run_demo(*, n_stream: int, n_unseen: int = N_UNSEEN) -> dict[str, Any]:
    """Run the demo in `<home>/demo` and return the report's figures. Raises UserError where a step does not come to its end."""
    home = (Path(os.environ.get("UNDERSTUDY_HOME") or ".understudy") / DEMO_FOLDER).resolve()
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    (home / CONFIG_FILE).write_text(CONFIG, encoding="utf-8")
    # The training process is a child and finds the demo's folder and database the same way as this process: in the environment.
    own = build_demo_environment(os.environ, home)
    os.environ.clear()
    os.environ.update(own)
    reuse_models(home)
    app = App(read_settings(), with_plugins=False)
    report = asyncio.run(_run(app, n_stream=n_stream, n_unseen=n_unseen, home=home))
    write_json(home / "report.json", report)
    _draw(home)
    print_report(report, home)
    return report


async def _run(app: App, *, n_stream: int, n_unseen: int, home: Path) -> dict[str, Any]:
    timings = Timings()
    tickets = load_demo_tickets()
    stream, unseen, live = tickets.stream[:n_stream], tickets.unseen[:n_unseen], tickets.unseen[n_unseen:]
    if len(stream) < n_stream or len(unseen) < n_unseen:
        raise UserError(f"the bundled data holds {len(tickets.stream)} tickets to work through: ask for fewer with --tickets")
    await timings.measure("start", app.start())
    try:
        masking = await timings.measure("masking", check_masking(app))
        tally = await timings.measure("agents work on tickets", _work_tickets(app, stream))
        summaries = await timings.measure("agents work on summaries", _work_dialogues(app))
        run, swap = await timings.measure("retrain, gate and swap", _retrain_under_load(app, live or unseen))
        summary_run = await timings.measure("retrain summaries", _follow(app, TaskKind.SUMMARY))
        after = await timings.measure("unseen tickets", _score(app, unseen, adapter=None))
        before = await timings.measure("unseen tickets, bare model", _score(app, unseen, adapter=BASE))
        baselines = await timings.measure("baselines", _run_baselines(app, unseen, home))
    finally:
        await app.stop()
    return build_report(
        stream=tally,
        summaries=summaries,
        masking=masking,
        run=run,
        summary_run=summary_run,
        swap=swap,
        before=before,
        after=after,
        baselines=baselines,
        gold=[ticket.label for ticket in unseen],
        names=app.core.choices.names,
        timings=timings.seconds,
    )


async def _each(title: str, items: Sequence[T], work: Callable[[T], Awaitable[object]]) -> None:
    """Work through items with `CONCURRENCY` clients and a progress bar."""
    queue = list(reversed(items))
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task(title, total=len(items))

        async def client() -> None:
            while queue:
                await work(queue.pop())
                progress.advance(bar)

        await asyncio.gather(*(client() for _ in range(CONCURRENCY)))


async def _work_tickets(app: App, stream: Sequence[DemoTicket]) -> Tally:
    agent = SimulatedAgent(app.bot, name="demo-agent", seed=7)
    await _each("Support agents work through tickets", stream, agent.handle_ticket)
    return agent.tally


async def _work_dialogues(app: App) -> Tally:
    agent = SimulatedAgent(app.bot, name="demo-agent", seed=8)
    await _each("Support agents read summaries", load_demo_dialogues()[:N_DIALOGUES], agent.handle_dialogue)
    return agent.tally


async def _follow(app: App, task: TaskKind, on_change: Callable[[RunInfo], None] | None = None) -> RunInfo:
    """Start a run and follow it to its verdict."""
    run = await app.bot.manager.start_run(task, actor="demo-manager", trigger=RunTrigger.DEMO)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task(f"Retrain {task.value}", total=1.0)
        async for seen in app.bot.manager.follow_run(run.run_id):
            run = seen
            progress.update(bar, completed=run.fraction, description=f"Retrain {task.value}: {run.message or run.status.value}")
            if on_change is not None:
                on_change(run)
    if run.status in {RunStatus.FAILED, RunStatus.CANCELLED}:
        raise UserError(f"the {task.value} run ended as {run.status.value}: {run.message}")
    return run


async def _retrain_under_load(app: App, live: Sequence[DemoTicket]) -> tuple[RunInfo, dict[str, Any]]:
    """Retrain; from the evaluation on, live requests keep coming while the new adapter is swapped in, rolled back and put back."""
    # While the gate still needs the processors the clients take it easy; around the swaps they ask without a rest.
    load = LiveLoad(app.bot, live, concurrency=CONCURRENCY, pause_s=_EASY_PAUSE_S)
    is_loading = False

    def on_change(run: RunInfo) -> None:
        nonlocal is_loading
        if run.status is RunStatus.EVALUATING and not is_loading:
            is_loading = True
            load.start()

    run = await _follow(app, TaskKind.CLASSIFICATION, on_change)
    if run.status is not RunStatus.PROMOTED or run.adapter_digest is None:
        await load.stop()
        raise UserError(f"the gate did not promote the adapter: {'; '.join(run.verdict) or run.message}")
    load.pause_s = 0.0
    if not is_loading:
        load.start()
    if not await app.watch.wait_until_served(TaskKind.CLASSIFICATION, run.adapter_digest, timeout_s=60):
        await load.stop()
        raise UserError(
            f"the new adapter was promoted but not taken up: {app.watch.problems.get(TaskKind.CLASSIFICATION, 'no reason')}"
        )
    rollbacks_ms = [await _go_back_and_forth(app, run.adapter_digest) for _ in range(_ROUND_TRIPS)]
    await load.stop()
    digests = [answer.card.adapter_digest for answer in load.answers if answer.card is not None]
    return run, {
        "requests_during_swap": len(load.answers),
        "failed_during_swap": sum(answer.card is None or answer.card.inference_id is None for answer in load.answers),
        "wrong_adapter_during_swap": await count_wrong(app.core, load.answers),
        "answered_by": {digest[:12]: digests.count(digest) for digest in sorted(set(digests))},
        "swaps": 1 + 2 * _ROUND_TRIPS,
        "rollback_ms": round(float(np.median(rollbacks_ms)), 1),
        "p50_ms_during_swap": _percentile(load, 50),
        "p99_ms_during_swap": _percentile(load, 99),
    }


async def _go_back_and_forth(app: App, digest: str) -> float:
    """Roll back and promote again, some requests in between; return the milliseconds from the rollback's request to serving."""
    await asyncio.sleep(_BETWEEN_SWAPS_S)
    started = time.perf_counter()
    await app.bot.manager.rollback(TaskKind.CLASSIFICATION, actor="demo-manager", reason="demo: there and back")
    rollback_ms = (time.perf_counter() - started) * 1e3
    await asyncio.sleep(_BETWEEN_SWAPS_S)
    await app.bot.manager.promote(digest, actor="demo-manager", reason="demo: there and back")
    return rollback_ms


def _percentile(load: LiveLoad, share: float) -> float:
    return round(float(np.percentile([(answer.ended - answer.started) * 1e3 for answer in load.answers], share)), 1)


async def _score(app: App, tickets: Sequence[DemoTicket], *, adapter: str | None) -> dict[str, Any]:
    """Distributions for tickets that nobody labelled, in their order, and the latency of each."""
    engine = app.core.engines[TaskKind.CLASSIFICATION]
    found: dict[str, tuple[np.ndarray[Any, Any], float]] = {}

    async def ask(ticket: DemoTicket) -> None:
        masked = await app.core.masker.mask_async(ticket.text)
        started = time.perf_counter()
        request = ScoreRequest(
            task=TaskKind.CLASSIFICATION,
            choices=app.core.choices,
            text=masked.text,
            adapter=adapter,
            priority=Priority.INTERACTIVE,
        )
        scores = await engine.score(request)
        found[ticket.id] = (scores.probabilities, (time.perf_counter() - started) * 1e3)

    await _each("Unseen tickets" + (", bare model" if adapter == BASE else ""), tickets, ask)
    return {
        "probabilities": np.stack([found[ticket.id][0] for ticket in tickets]),
        "latency_ms": [found[ticket.id][1] for ticket in tickets],
    }


async def _run_baselines(app: App, unseen: Sequence[DemoTicket], home: Path) -> dict[str, Any]:
    """Train the simple baselines on the same examples as the run, in the training process, and score the same unseen tickets."""
    labels, train, test, out = (home / name for name in ("labels.yaml", "train.jsonl", "unseen.jsonl", "baselines.json"))
    labels.write_text(render_label_set(app.core.label_set), encoding="utf-8")
    _write_rows(train, await app.core.in_db(_read_train_rows))
    masked = [(await app.core.masker.mask_async(ticket.text)).text for ticket in unseen]
    _write_rows(test, [{"id": t.id, "text": text, "label": t.label} for t, text in zip(unseen, masked, strict=True)])
    await _call_python(
        "training", "baselines", "--labels", str(labels), "--train", str(train), "--test", str(test), "--json", str(out)
    )
    found: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return found


def _read_train_rows(session: Session) -> list[dict[str, Any]]:
    """What the run learned from: its training and validation examples that show a label ("not this" means nothing to a baseline)."""
    return [
        {"id": row.id, "text": row.text, "label": row.target}
        for row in iterate_examples(session, TaskKind.CLASSIFICATION)
        if row.split in {Split.TRAIN, Split.VALIDATION} and not row.is_negative
    ]


def _write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


async def _call_python(module: str, *arguments: str) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, *arguments, stdin=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    _, err = await process.communicate()
    if process.returncode != 0:
        lines = err.decode(errors="replace").strip().splitlines()
        raise UserError(f"`python -m {module}` failed: {lines[-1] if lines else 'no reason given'}")


def _draw(home: Path) -> None:
    asyncio.run(_call_python("training.demo_plots", str(home / "report.json"), str(home)))
