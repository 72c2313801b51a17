"""The route of signed webhooks that say where to look: check first, one line into the queue, then the answer.

Nothing of a body is logged or stored but the ticket's number. Each helpdesk says how it signs and what its bodies mean.
"""

import json
import logging
from collections.abc import Mapping
from typing import Any, Protocol

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse

from bot.plugin_api import BotError
from plugins.helpdesk.desk import Desk
from plugins.helpdesk.signing import BodyTooLargeError, SignatureError, read_body

logger = logging.getLogger(__name__)
RETRY_AFTER_S = 5


class Dialect(Protocol):
    """How one helpdesk sends webhooks."""

    def check(self, headers: Mapping[str, str], body: bytes) -> None:
        """Check signature and time. Raises SignatureError."""
        ...

    def read(self, message: Mapping[str, Any], body: bytes, headers: Mapping[str, str]) -> tuple[str, str] | None:
        """Return the ticket's number and a key that a repetition has as well, or None for what says nothing about a ticket."""
        ...


class SignedWebhook:
    """Takes in what a helpdesk sends."""

    def __init__(self, desk: Desk, dialect: Dialect) -> None:
        self._desk, self._dialect = desk, dialect
        self.n_refused = 0
        self.n_ignored = 0
        self.router = APIRouter(include_in_schema=False)
        self.router.add_api_route("/webhook", self.receive, methods=["POST"])

    async def receive(self, request: Request) -> JSONResponse:
        """Check, store, answer: 401 for a wrong signature, 503 where the event could not be stored and should be sent again."""
        try:
            body = await read_body(request)
            self._dialect.check(request.headers, body)
        except BodyTooLargeError as error:
            return JSONResponse({"error": str(error)}, status_code=413)
        except SignatureError as error:
            self.n_refused += 1
            logger.warning("a webhook was refused: %s", error)
            return JSONResponse({"error": str(error)}, status_code=401)
        return await self._take(body, request.headers)

    async def _take(self, body: bytes, headers: Mapping[str, str]) -> JSONResponse:
        try:
            message = json.loads(body)
        except (ValueError, RecursionError):
            return JSONResponse({"error": "the body is not JSON: set the webhook's format to JSON"}, status_code=400)
        found = self._dialect.read(message, body, headers) if isinstance(message, dict) else None
        if found is None:
            self.n_ignored += 1
            return JSONResponse({"status": "ignored"})
        ticket_id, key = found
        try:
            is_new = await self._desk.notice(ticket_id, key=key)
        except BotError:
            return JSONResponse({"error": "busy, send it again"}, status_code=503, headers={"Retry-After": str(RETRY_AFTER_S)})
        return JSONResponse({"status": "stored" if is_new else "known"})
