"""What an error of a route becomes: one sentence for the caller, and in the log its type and place, never its text.

An exception's text may quote what it worked on; a traceback would print it.
"""

import logging
import traceback
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from bot.plugin_api import BotError, BusyError, ConflictError, NotFoundError
from db.errors import DatabaseError

logger = logging.getLogger(__name__)


def describe_fault(error: BaseException) -> str:
    """Say an unexpected error without its text: its type, and the files and lines it came through."""
    frames = traceback.extract_tb(error.__traceback__)[-4:]
    return f"{type(error).__name__} at " + " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(frames))


class FaultBarrier:
    """Turns what no handler knows into a 500 without a traceback in the log."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        try:
            await self._app(scope, receive, send)
        except Exception as error:
            logger.error("unexpected error in %s: %s", scope.get("path", scope["type"]), describe_fault(error))  # noqa: TRY400
            if scope["type"] == "http":
                body = {"error": "an unexpected error; the log of the bot names its place"}
                await JSONResponse(body, status_code=500)(scope, receive, send)


def add_error_handling(web: FastAPI) -> None:
    """Give known errors their status and one sentence; keep unknown ones out of the log's text."""

    async def refuse(_: Request, error: Exception) -> JSONResponse:
        statuses = ((NotFoundError, 404), (ConflictError, 409), (BusyError, 429), (DatabaseError, 503))
        status = next((code for kind, code in statuses if isinstance(error, kind)), 400)
        headers = {"Retry-After": str(error.retry_after_s)} if isinstance(error, BusyError) else None
        return JSONResponse({"error": str(error)}, status_code=status, headers=headers)

    web.add_exception_handler(BotError, refuse)
    web.add_exception_handler(DatabaseError, refuse)
    web.add_middleware(FaultBarrier)
