"""Load: a closed loop of clients, and a lean HTTP client for the peers, so that what they are charged for is their own work.

Knows requests, latencies and rates; not what is asked.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import numpy as np

from benches.paths import BenchError

HTTP_OK: Final = 200
KEPT_ALIVE_S: Final = 2.0
"""Connections that rested longer are not used again: llama-server closes them after five seconds."""
_LINE_LIMIT: Final = 2**22


@dataclass(frozen=True)
class Load:
    """One run: how long it took, each request's latency, and what the requests counted (tokens)."""

    seconds: float
    latencies_ms: tuple[float, ...]
    counted: int

    @property
    def per_second(self) -> float:
        """Requests per second."""
        return len(self.latencies_ms) / self.seconds

    @property
    def counted_per_second(self) -> float:
        """What the requests counted, per second."""
        return self.counted / self.seconds

    def percentile_ms(self, share: float) -> float:
        """Return a percentile of the latencies in milliseconds."""
        return float(np.percentile(self.latencies_ms, share))


async def run_clients(ask: Callable[[int], Awaitable[int]], count: int, *, concurrency: int) -> Load:
    """Ask for numbers 0..count-1 from that many clients, each waiting for its answer; `ask` returns what is to be counted."""
    latencies: list[float] = []
    numbers = iter(range(count))
    counted = 0

    async def work() -> None:
        nonlocal counted
        for number in numbers:
            started = time.perf_counter()
            answer = await ask(number)  # not in one line with the sum: other clients add to it meanwhile
            counted += answer
            latencies.append((time.perf_counter() - started) * 1000)

    started = time.perf_counter()
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(concurrency):
                group.create_task(work())
    except BaseExceptionGroup as failures:  # one reason is enough: all clients ask the same server
        raise failures.exceptions[0] from None
    return Load(time.perf_counter() - started, tuple(latencies), counted)


class HTTPClient:
    """Posts JSON over kept-alive connections, as many as there are requests at once. A general client costs more than some peers do."""

    def __init__(self, base_url: str) -> None:
        parts = urlsplit(base_url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._idle: list[tuple[float, asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def post(self, path: str, payload: dict[str, Any]) -> Any:
        """Return the answer's JSON. Raises BenchError where it is not 200."""
        body = json.dumps(payload).encode()
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {self._host}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        reader, writer = await self._connect()
        try:
            writer.write(head.encode() + body)
            await writer.drain()
            answer, is_last = await self._read(reader, path)
        except BaseException:
            writer.close()
            raise
        if is_last:  # llama-server closes a connection after its hundredth request
            writer.close()
        else:
            self._idle.append((time.monotonic(), reader, writer))
        return json.loads(answer)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        while self._idle:
            used_at, reader, writer = self._idle.pop()
            if time.monotonic() - used_at < KEPT_ALIVE_S:
                return reader, writer
            writer.close()
        return await asyncio.open_connection(self._host, self._port, limit=_LINE_LIMIT)

    async def _read(self, reader: asyncio.StreamReader, path: str) -> tuple[bytes, bool]:
        """Return the body, and whether the server closes the connection now."""
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines[1:] if ": " in line)
        if "content-length" not in headers:
            message = f"the peer's answer to {path} has no length; this client reads whole answers only"
            raise BenchError(message)
        answer = await reader.readexactly(int(headers["content-length"]))
        status = int(lines[0].split()[1])
        if status != HTTP_OK:
            message = f"the peer answered {path} with {status}: {answer[:300].decode(errors='replace')}"
            raise BenchError(message)
        return answer, headers.get("connection") == "close"

    async def close(self) -> None:
        """Close the idle connections."""
        for _, _, writer in self._idle:
            writer.close()
        self._idle.clear()
