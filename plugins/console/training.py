"""The training pages: what a run would use, start, live progress, cancel, verdicts, pause.

Progress comes from the core as a stream and goes to the browser as server-sent events; without scripts the page reloads itself.
"""

import asyncio
import json
from collections.abc import AsyncIterator

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from bot.plugin_api import Bot, RunInfo, TaskKind
from plugins.console import charts, words
from plugins.console.forms import parse_task, read_form
from plugins.console.guard import Guard
from plugins.console.pages import Pages

STREAM_S = 10.0  # a stream ends after this and the browser comes back, so that a stopping server never waits for long
REFRESH_S = 3  # without scripts


class TrainingPages:
    """Pages under /training."""

    def __init__(self, bot: Bot, pages: Pages, guard: Guard) -> None:
        self._bot = bot
        self._pages = pages
        self._guard = guard

    def add_to(self, router: APIRouter) -> None:
        """Add the routes."""
        router.add_api_route("/training", self.show_training, methods=["GET"])
        router.add_api_route("/training/start", self.start, methods=["POST"])
        router.add_api_route("/training/pause", self.set_paused, methods=["POST"])
        router.add_api_route("/training/runs/{run_id}", self.show_run, methods=["GET"])
        router.add_api_route("/training/runs/{run_id}/cancel", self.cancel, methods=["POST"])
        router.add_api_route("/training/runs/{run_id}/events", self.send_events, methods=["GET"])

    async def show_training(self, request: Request) -> Response:
        """Show dry runs, the run that is going and those that ended."""
        runs = await self._bot.manager.list_runs(limit=20)
        going = next((run for run in runs if run.status in words.RUNNING), None)
        dry_runs = {task: await self._bot.manager.dry_run(task) for task in TaskKind}
        return await self._pages.render(
            request,
            "training.html",
            section="training",
            runs=runs,
            going=going,
            dry_runs=dry_runs,
            label_bars={task: charts.build_bars(dry_run.per_label) for task, dry_run in dry_runs.items()},
            split_bars={task: charts.build_split_bar(dry_run) for task, dry_run in dry_runs.items()},
            refresh_s=REFRESH_S if going else 0,
        )

    async def start(self, request: Request) -> Response:
        """Queue a run and show its progress."""
        task = parse_task(await read_form(request))
        run = await self._bot.manager.start_run(task, actor=self._guard.get_actor(request))
        return self._pages.redirect(request, f"/training/runs/{run.run_id}", flash="started")

    async def show_run(self, request: Request, run_id: int) -> Response:
        """Show one run: progress while it goes, the verdict when it has ended."""
        run = await self._bot.manager.get_run(run_id)
        is_going = run.status in words.RUNNING
        return await self._pages.render(
            request,
            "run.html",
            section="training",
            run=run,
            is_going=is_going,
            comparison=charts.build_comparisons(words.pair_metrics(run.before_after)),
            other_numbers=charts.get_unpaired(run.before_after),
            refresh_s=REFRESH_S if is_going else 0,
        )

    async def cancel(self, request: Request, run_id: int) -> Response:
        """Ask a run to stop."""
        await self._bot.manager.cancel_run(run_id, actor=self._guard.get_actor(request))
        return self._pages.redirect(request, f"/training/runs/{run_id}", flash="cancelled")

    async def set_paused(self, request: Request) -> Response:
        """Pause or resume suggestions."""
        is_paused = (await read_form(request)).get("paused") == "yes"
        await self._bot.manager.set_paused(is_paused=is_paused, actor=self._guard.get_actor(request))
        return self._pages.redirect(request, "/training", flash="paused" if is_paused else "resumed")

    async def send_events(self, run_id: int) -> Response:
        """Stream a run's progress. Raises NotFoundError before the stream begins."""
        await self._bot.manager.get_run(run_id)
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(self._stream(run_id), media_type="text/event-stream", headers=headers)

    async def _stream(self, run_id: int) -> AsyncIterator[str]:
        yield "retry: 1000\n\n"
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + STREAM_S
        runs = self._bot.manager.follow_run(run_id)
        while (left_s := ends_at - loop.time()) > 0:
            try:
                run = await asyncio.wait_for(anext(runs), left_s)
            except (StopAsyncIteration, TimeoutError):
                return
            yield f"data: {json.dumps(describe_progress(run))}\n\n"


def describe_progress(run: RunInfo) -> dict[str, str | float | bool]:
    """Return what a progress bar shows of a run."""
    return {
        "percent": round(100 * run.fraction),
        "status": words.RUN_STATES[run.status][0],
        "message": run.message,
        "loss": "" if run.loss is None else f"{run.loss:.3f}",
        "eta": "" if run.eta_s is None else words.say_duration(run.eta_s),
        "isOver": run.status not in words.RUNNING,
    }
