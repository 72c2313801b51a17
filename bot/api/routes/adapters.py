"""Adapters and runs as JSON, read-only. Changing them is for managers, through plugins and the command line."""

from collections.abc import Sequence

from fastapi import APIRouter

from bot.plugin_api import AdapterInfo, Bot, RunInfo


def build_router(bot: Bot) -> APIRouter:
    """Serve /api/adapters and /api/runs."""
    router = APIRouter(prefix="/api", tags=["adapters"])

    @router.get("/adapters")
    async def list_adapters() -> Sequence[AdapterInfo]:
        return await bot.manager.list_adapters()

    @router.get("/runs")
    async def list_runs() -> Sequence[RunInfo]:
        return await bot.manager.list_runs()

    return router
