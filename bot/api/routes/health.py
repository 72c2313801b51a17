"""Whether the bot can answer: database, engines, adapters, plugins, training daemon. No ticket data."""

import asyncio
from typing import Any

from fastapi import APIRouter, Response

from bot.api.deps import HealthSource
from bot.engine.protocol import Engine, SelfChecking
from db.errors import DatabaseError
from db.queries.state import get_daemon_heartbeat
from db.session import transaction


def build_router(source: HealthSource) -> APIRouter:
    """Serve /healthz: 200 while requests can be answered, 503 otherwise, with one line per part."""
    router = APIRouter(tags=["health"])

    @router.get("/healthz")
    async def get_health(response: Response) -> dict[str, Any]:
        database, daemon = await asyncio.to_thread(_check_database, source)
        engines = {task.value: _check_engine(engine) for task, engine in source.get_engines().items()}
        is_well = database == "ok" and all(state == "ok" for state in engines.values())
        response.status_code = 200 if is_well else 503
        return {
            "status": "ok" if is_well else "unavailable",
            "database": database,
            "engines": engines,
            "training_daemon": daemon,
            "serving": {task.value: engine.get_active(task) for task, engine in source.get_engines().items()},
            "base": {task.value: engine.base_digest for task, engine in source.get_engines().items()},
            "problems": dict(source.get_problems()),
            "plugins": {name: {"status": status, "error": error} for name, (status, error) in source.get_plugin_states().items()},
        }

    return router


def _check_engine(engine: Engine) -> str:
    trouble = engine.find_trouble() if isinstance(engine, SelfChecking) else None
    return trouble or "ok"


def _check_database(source: HealthSource) -> tuple[str, str]:
    try:
        with transaction(source.db_engine) as session:
            beat = get_daemon_heartbeat(session)
    except DatabaseError as error:
        return str(error), "unknown"
    return "ok", "none seen" if beat is None else beat.isoformat()
