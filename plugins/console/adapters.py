"""The adapters page: what is live per task, what could be, promote and roll back with a reason.

Every change goes through a page that says what will happen.
"""

from collections.abc import Sequence

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from bot.plugin_api import BASE, AdapterInfo, AdapterStatus, Bot, NotFoundError, RunInfo, TaskKind
from plugins.console import charts, words
from plugins.console.forms import FormError, parse_reason, read_form
from plugins.console.guard import Guard
from plugins.console.pages import Pages

PROMOTABLE = frozenset({AdapterStatus.CANDIDATE, AdapterStatus.SHADOW, AdapterStatus.RETIRED})


class AdapterPages:
    """Pages under /adapters."""

    def __init__(self, bot: Bot, pages: Pages, guard: Guard) -> None:
        self._bot = bot
        self._pages = pages
        self._guard = guard

    def add_to(self, router: APIRouter) -> None:
        """Add the routes."""
        router.add_api_route("/adapters", self.show_adapters, methods=["GET"])
        router.add_api_route("/adapters/{digest}/promote", self.ask_promote, methods=["GET"])
        router.add_api_route("/adapters/{digest}/promote", self.promote, methods=["POST"])
        router.add_api_route("/adapters/rollback/{task}", self.ask_rollback, methods=["GET"])
        router.add_api_route("/adapters/rollback/{task}", self.roll_back, methods=["POST"])

    async def show_adapters(self, request: Request) -> Response:
        """Show what is live, the charts and every adapter."""
        adapters = await self._bot.manager.list_adapters()
        overview = await self._bot.inbox.get_overview()
        runs = {run.run_id: run for run in await self._bot.manager.list_runs(limit=50)}
        live = {task: _find_live(adapters, task) for task in TaskKind}
        return await self._pages.render(
            request,
            "adapters.html",
            section="adapters",
            live=live,
            adapters=adapters,
            promotable=PROMOTABLE,
            comparisons={task: _compare(adapter, runs) for task, adapter in live.items()},
            timeline=charts.build_timeline(overview.timeline),
        )

    async def ask_promote(self, request: Request, digest: str) -> Response:
        """Say what promoting means and ask for a reason."""
        adapter = await self._find(digest)
        return await self._pages.render(request, "confirm_promote.html", section="adapters", adapter=adapter)

    async def promote(self, request: Request, digest: str) -> Response:
        """Make an adapter live."""
        reason = parse_reason(await read_form(request))
        adapter = await self._bot.manager.promote(digest, actor=self._guard.get_actor(request), reason=reason)
        flash = "promoted" if adapter.status is AdapterStatus.ACTIVE else "approved"
        return self._pages.redirect(request, "/adapters", flash=flash)

    async def ask_rollback(self, request: Request, task: TaskKind) -> Response:
        """Say what rolling back means and ask for a reason."""
        adapters = await self._bot.manager.list_adapters(task=task)
        return await self._pages.render(
            request, "confirm_rollback.html", section="adapters", task=task, adapter=_find_live(adapters, task)
        )

    async def roll_back(self, request: Request, task: TaskKind) -> Response:
        """Return to what was live before."""
        form = await read_form(request)
        reason, expected = parse_reason(form), form.get("live", "")
        live = _find_live(await self._bot.manager.list_adapters(task=task), task)
        if expected != (live.digest if live else BASE):
            raise FormError("Another adapter has gone live since this page was shown; go back to the adapters and look again.")
        await self._bot.manager.rollback(task, actor=self._guard.get_actor(request), reason=reason)
        return self._pages.redirect(request, "/adapters", flash="rolled-back")

    async def _find(self, digest: str) -> AdapterInfo:
        found = [adapter for adapter in await self._bot.manager.list_adapters() if adapter.digest == digest]
        if not found:
            raise NotFoundError("There is no adapter of that digest.")
        return found[0]


def _find_live(adapters: Sequence[AdapterInfo], task: TaskKind) -> AdapterInfo | None:
    return next((a for a in adapters if a.task is task and a.status is AdapterStatus.ACTIVE), None)


def _compare(adapter: AdapterInfo | None, runs: dict[int, RunInfo]) -> list[charts.Comparison]:
    run = runs.get(adapter.run_id) if adapter is not None and adapter.run_id is not None else None
    return charts.build_comparisons(words.pair_metrics(run.before_after)) if run is not None else []
