"""How events reach the bot: an HTTP endpoint with signature check, and Socket Mode. Both hand verified payloads to bolt.

Knows nothing of what an event means. A body is never logged, not even where its signature is wrong.
"""

import asyncio
import json
import logging
import re
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl

from fastapi import APIRouter
from pydantic import SecretStr
from slack_bolt.adapter.socket_mode.aiohttp import AsyncSocketModeHandler
from slack_bolt.async_app import AsyncApp, AsyncBoltRequest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from plugins.slack.client import SlackClient, sdk_logger
from plugins.slack.signature import is_genuine

logger = logging.getLogger(__name__)
MAX_BODY_BYTES = 2_000_000
MAX_FIELDS = 100
MAX_SSL_CHECK_BYTES = 500
PING_INTERVAL_S = 10.0  # also the pause between two tries to connect


class BodyError(Exception):
    """A request that is not one of Slack's. The message says so without repeating anything of it; `status` is HTTP's."""

    def __init__(self, message: str, *, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


def build_router(app: AsyncApp, signing_secret: SecretStr | None, *, clock: Callable[[], float] = time.time) -> APIRouter:
    """Return the routes: /events takes events, interactions and commands alike."""
    router = APIRouter(include_in_schema=False)

    async def receive(request: Request) -> Response:
        if signing_secret is None:
            return PlainTextResponse("closed: no signing secret is set", status_code=401)
        try:
            raw = await _read_raw(request)
            is_ours = is_genuine(
                signing_secret.get_secret_value(),
                timestamp=request.headers.get("X-Slack-Request-Timestamp", ""),
                signature=request.headers.get("X-Slack-Signature", ""),
                body=raw,
                now=clock(),
            )
            if not is_ours:
                if is_ssl_check(raw):
                    return Response(status_code=200)  # Slack looks at the certificate, unsigned: nothing is done about it
                logger.info("a request with a wrong or old signature was refused")
                return PlainTextResponse("wrong or old signature", status_code=401)
            body = parse_body(raw, request.headers.get("Content-Type", ""))
        except BodyError as error:
            return PlainTextResponse(str(error), status_code=error.status)
        try:
            answer = await app.async_dispatch(AsyncBoltRequest(mode="socket_mode", body=body))
        except Exception as error:  # bolt's, of whatever kind: what could not be stored becomes a 503 in its error listener
            logger.warning("a request of a shape that bolt does not know was left alone (%s)", type(error).__name__)
            return Response(status_code=200)
        return Response(answer.body, status_code=answer.status, headers=answer.first_headers_without_set_cookie())

    router.add_api_route("/events", receive, methods=["POST"], response_model=None)
    return router


async def _read_raw(request: Request) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > MAX_BODY_BYTES:
            raise BodyError("the request is too long", status=413)
        parts.append(part)
    return b"".join(parts)


def is_ssl_check(raw: bytes) -> bool:
    """Whether a request is Slack's look at the certificate of a command's address: a form that asks for nothing."""
    form = dict(parse_qsl(raw.decode("utf-8", "replace"))) if len(raw) < MAX_SSL_CHECK_BYTES else {}
    return form.get("ssl_check") == "1" and not {"command", "payload"} & form.keys()


def parse_body(raw: bytes, content_type: str) -> dict[str, Any]:
    """Turn a body of any of Slack's three shapes into its payload: JSON, JSON within a form, or a form. Raises BodyError.

    Bolt's own parser takes every form with the word "payload" in it for the second shape, and would lose a command about payloads.
    """
    try:
        text = raw.decode()
        if content_type.startswith("application/json") or text.startswith("{"):
            body = json.loads(text)
        else:
            form = dict(parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_FIELDS))
            body = json.loads(form["payload"]) if "payload" in form else form
    except (ValueError, RecursionError):
        raise BodyError("the request is neither JSON nor a form") from None
    if not isinstance(body, dict):
        raise BodyError("the request holds no object")
    return body


class DiscreetFilter(logging.Filter):
    """Keeps the SDK's log lines to what happened: what it adds after a colon or bracket may quote a message or an address."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Shorten the line."""
        record.msg, record.args = re.split(r"[:(\n]", record.getMessage())[0].strip(), ()
        record.exc_info = record.exc_text = record.stack_info = None
        return True


class SocketMode:
    """The WebSocket connection. Connects in the background, and again after every break; Slack need not be there at the start."""

    def __init__(self, app: AsyncApp, client: SlackClient, app_token: SecretStr) -> None:
        self._app, self._client, self._token = app, client, app_token
        self._handler: AsyncSocketModeHandler | None = None
        self._worker: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to connect."""
        self._handler = AsyncSocketModeHandler(
            self._app,
            self._token.get_secret_value(),
            logger=sdk_logger,
            web_client=self._client.web,
            ping_interval=PING_INTERVAL_S,
        )
        self._handler.client.proxy = self._client.web.proxy
        self._worker = asyncio.create_task(self._handler.connect_async(), name="slack-socket")  # type: ignore[no-untyped-call]

    async def stop(self) -> None:
        """Close the connection, or end the tries."""
        if self._handler is None or self._worker is None:
            return
        socket = self._handler.client
        pending = [
            task
            for task in (self._worker, socket.message_processor, socket.current_session_monitor, socket.message_receiver)
            if task is not None
        ]
        await self._handler.close_async()  # type: ignore[no-untyped-call]
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        self._handler = self._worker = None

    def find_trouble(self) -> str | None:
        """Say what is wrong with the connection, or None."""
        socket = None if self._handler is None else self._handler.client
        session = None if socket is None or socket.stale else socket.current_session
        if session is not None and not session.closed:
            return None
        return "Socket Mode is not connected; it is tried again"
