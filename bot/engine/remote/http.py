"""HTTP to one model server: JSON calls and event streams, and their failures as engine errors that name the server.

Knows no model, no adapter and no ticket. A request is sent again only where no connection came about, so nothing is computed twice.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, cast

import httpx

from bot.engine.protocol import DeadlineError, EngineError, QueueFullError
from bot.engine.remote.settings import RemoteSettings

CONNECT_RETRIES_S: Final = (0.1, 0.4)
"""Pauses before a connection is tried again."""
LOOK_EVERY_S: Final = 1.0
"""Between two looks for a server that did not answer."""
KEEPALIVE_S: Final = 2.0
MESSAGE_LIMIT: Final = 200
UNAVAILABLE: Final = 503
_NEW_CONNECTION: Final = "connection.connect_tcp.complete"
_NEW_SOCKET: Final = "connection.connect_unix_socket.complete"


class ServerError(EngineError):
    """The server answered with an error. `status` is its HTTP status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class HttpClient:
    """Connections to one server. `n_connected` grows with each new one: a server that was started again shows in it.

    `trouble` says why the server did not answer the last request, None where it did.
    """

    def __init__(self, url: str, settings: RemoteSettings) -> None:
        self.url = url
        self.n_connected = 0
        self.trouble: str | None = None
        self._settings = settings
        self._client: httpx.AsyncClient | None = None
        self._looking: asyncio.Task[None] | None = None

    @property
    def is_open(self) -> bool:
        """Whether requests can be sent."""
        return self._client is not None

    def open(self) -> None:
        """Make the pool; no connection yet."""
        settings = self._settings
        headers = {}
        if settings.api_key is not None and settings.api_key.get_secret_value():
            headers["Authorization"] = f"Bearer {settings.api_key.get_secret_value()}"
        self._client = httpx.AsyncClient(
            base_url=self.url,
            headers=headers,
            limits=httpx.Limits(
                max_connections=settings.connections,
                max_keepalive_connections=settings.connections,
                # Both llama-server and vLLM close an idle connection after five seconds, as httpx would: it must be sooner.
                keepalive_expiry=KEEPALIVE_S,
            ),
            timeout=httpx.Timeout(settings.timeout_s, connect=settings.connect_timeout_s, pool=None),
            trust_env=False,  # a proxy of the environment would see tickets
        )

    async def close(self) -> None:
        """Close every connection."""
        client, self._client = self._client, None
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
        if client is not None:
            await client.aclose()

    async def get(self, path: str) -> Any:
        """Return a JSON answer. Raises EngineError."""
        response = await self._send("GET", path, None)
        return self._parse(response, path)

    async def post(self, path: str, body: Mapping[str, Any] | list[Any], *, holds_text: bool = False) -> Any:
        """Return a JSON answer. With `holds_text` an error does not quote the server, which might quote the text. Raises EngineError."""
        response = await self._send("POST", path, body, holds_text=holds_text)
        return self._parse(response, path)

    async def post_plain(self, path: str, body: Mapping[str, Any]) -> str:
        """Return an answer that need not be JSON. Raises EngineError."""
        return (await self._send("POST", path, body)).text

    async def stream(self, path: str, body: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """Yield the events of an answer until `[DONE]` or its end. Closing the iterator closes the connection, and so ends the work."""
        with self._translate(path):
            response = await self._connect("POST", path, body, is_stream=True)
        lines = _read_lines(response)
        is_done = False
        try:
            with self._translate(path):
                if response.is_error:
                    await response.aread()
                    self._refuse(response, path, holds_text=False)
                async for line in lines:  # to its very end, so that the connection can be used again
                    if line.startswith("error:"):
                        raise EngineError(f"the model server at {self.url} broke off: {_read_message(line[6:])}")
                    is_done = is_done or line.strip() == "data: [DONE]"
                    if line.startswith("data:") and not is_done:
                        yield self._load(line[5:], path)
        finally:
            await lines.aclose()
            await response.aclose()

    async def _send(self, method: str, path: str, body: Any, *, holds_text: bool = False) -> httpx.Response:
        with self._translate(path):
            response = await self._connect(method, path, body)
        if response.is_error:
            self._refuse(response, path, holds_text=holds_text)
        return response

    async def _connect(self, method: str, path: str, body: Any, *, is_stream: bool = False) -> httpx.Response:
        """Send a request, again where no connection came about."""
        for pause in (*CONNECT_RETRIES_S, None):
            client = self._require()
            request = client.build_request(method, path, json=body, extensions={"trace": self._trace})
            try:
                response = await client.send(request, stream=is_stream)
            except (httpx.ConnectError, httpx.ConnectTimeout):
                if pause is None:
                    raise
                await asyncio.sleep(pause)
            else:
                if response.status_code != UNAVAILABLE:  # a server that still loads its model answers so
                    self.trouble = None
                return response
        raise AssertionError  # the last round returned or raised

    def _require(self) -> httpx.AsyncClient:
        if self._client is None:
            raise EngineError("the engine is not running; start it first")
        return self._client

    async def _trace(self, event: str, _: Mapping[str, Any]) -> None:
        if event in {_NEW_CONNECTION, _NEW_SOCKET}:
            self.n_connected += 1

    def _refuse(self, response: httpx.Response, path: str, *, holds_text: bool) -> None:
        status = response.status_code
        said = "" if holds_text else f": {_read_message(response.text)}"
        if status in {429, UNAVAILABLE}:
            raise QueueFullError(f"the model server at {self.url} takes no more requests now ({status}); try again in a moment")
        if status in {401, 403}:
            raise ServerError(f"the model server at {self.url} refuses the key; correct UNDERSTUDY_REMOTE_API_KEY", status)
        if status in {408, 504}:
            raise DeadlineError(
                f"the model server at {self.url} gave up on {path} ({status}); allow more time or give it less work"
            )
        raise ServerError(f"the model server at {self.url} answered {path} with {status}{said}", status)

    def _parse(self, response: httpx.Response, path: str) -> Any:
        return self._load(response.text, path)

    def _load(self, text: str, path: str) -> Any:
        try:
            return json.loads(text)
        except ValueError:
            message = f"the model server at {self.url} answered {path} with something that is not JSON; is it the right server?"
            raise EngineError(message) from None

    @contextmanager
    def _translate(self, path: str) -> Iterator[None]:
        """Turn what httpx raises into engine errors; their texts may hold headers, so only the type is told."""
        try:
            yield
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            message = f"the model server at {self.url} cannot be reached ({type(error).__name__}); start it, or correct its URL"
            raise EngineError(self._note(message)) from None
        except httpx.TimeoutException:
            message = (
                f"the model server at {self.url} did not answer {path} within {self._settings.timeout_s:g} s; "
                "try again, or raise UNDERSTUDY_REMOTE_TIMEOUT_S"
            )
            raise DeadlineError(message) from None  # one slow request says nothing of the server
        except httpx.HTTPError as error:
            message = f"the model server at {self.url} broke the connection at {path} ({type(error).__name__}); see its log"
            raise EngineError(self._note(message)) from None

    def _note(self, message: str) -> str:
        """Keep what is wrong and look for the server until it answers again, even where nobody asks it for anything."""
        self.trouble = message
        if self._client is not None and (self._looking is None or self._looking.done()):
            self._looking = asyncio.get_running_loop().create_task(self._look())
        return message

    async def _look(self) -> None:
        while self.trouble is not None and self._client is not None:
            await asyncio.sleep(LOOK_EVERY_S)
            try:
                await self._connect("GET", "/health", None)
            except (httpx.HTTPError, EngineError):
                continue


async def _read_lines(response: httpx.Response) -> AsyncGenerator[str, None]:
    """Yield lines that end with a line feed, and only those: httpx would also split at characters that stand inside a JSON string."""
    held = b""
    pieces = cast("AsyncGenerator[bytes, None]", response.aiter_bytes())
    try:
        async for piece in pieces:
            *lines, held = (held + piece).split(b"\n")
            for line in lines:
                yield line.decode("utf-8", errors="replace")
    finally:
        await pieces.aclose()
    if held:
        yield held.decode("utf-8", errors="replace")


def _read_message(text: str) -> str:
    """Return what an error body says, shortened."""
    try:
        body = json.loads(text)
    except ValueError:
        return text.strip()[:MESSAGE_LIMIT] or "no reason given"
    for key in ("error", "message", "detail"):
        if isinstance(body, dict) and key in body:
            body = body[key]
    if isinstance(body, dict):
        body = body.get("message", "no reason given")
    return str(body)[:MESSAGE_LIMIT]
