"""Adapters and runs as JSON, read-only. Changing them is for managers, through plugins and the command line."""

from collections.abc import Sequence
from ipaddress import ip_address

from fastapi import APIRouter, Depends, HTTPException, Request

from bot.plugin_api import AdapterInfo, Bot, RunInfo


def require_loopback(request: Request) -> None:
    """Serve this machine alone: actors, reasons and verdicts are nothing for the network, and there is no login here."""
    host = request.client.host if request.client else ""
    try:
        is_local = ip_address(host).is_loopback
    except ValueError:
        is_local = False
    if not is_local:
        raise HTTPException(
            status_code=403, detail="this is served on the machine itself only; use the console or the command line"
        )


def build_router(bot: Bot) -> APIRouter:
    """Serve /api/adapters and /api/runs."""
    router = APIRouter(prefix="/api", tags=["adapters"], dependencies=[Depends(require_loopback)])

    @router.get("/adapters")
    async def list_adapters() -> Sequence[AdapterInfo]:
        return await bot.manager.list_adapters()

    @router.get("/runs")
    async def list_runs() -> Sequence[RunInfo]:
        return await bot.manager.list_runs()

    return router
