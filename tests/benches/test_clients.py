"""The load generator: nothing is lost between clients, and the lean HTTP client survives what llama-server does to connections."""

import asyncio
import json

import pytest

from benches.clients import HTTPClient, run_clients
from benches.paths import BenchError


async def test_counts_of_clients_that_overlap_all_add_up():
    async def ask(number):
        await asyncio.sleep(0.001 * (number % 3))
        return 10

    load = await run_clients(ask, 30, concurrency=7)

    assert load.counted == 300
    assert len(load.latencies_ms) == 30
    assert load.percentile_ms(99) >= load.percentile_ms(50) >= 0


async def test_no_more_requests_run_at_once_than_there_are_clients():
    running = most = 0

    async def ask(number):
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001)
        running -= 1
        return 0

    await run_clients(ask, 20, concurrency=3)

    assert most == 3


async def test_the_first_failure_ends_the_run_as_itself():
    async def ask(number):
        raise BenchError("the peer is gone")

    with pytest.raises(BenchError, match="the peer is gone"):
        await run_clients(ask, 4, concurrency=2)


class FakeServer:
    """Answers every request with its own body; closes a connection after `per_connection` requests, as llama-server does."""

    def __init__(self, *, per_connection=100, status=200):
        self.n_connections = 0
        self._serving = set()
        self._per_connection = per_connection
        self._status = status

    async def handle(self, reader, writer):
        self.n_connections += 1
        self._serving.add(asyncio.current_task())
        for served in range(1, self._per_connection + 1):
            try:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
            except asyncio.IncompleteReadError:
                break
            length = int(head.lower().split("content-length: ")[1].split("\r\n")[0])
            body = await reader.readexactly(length)
            last = "Connection: close\r\n" if served == self._per_connection else ""
            writer.write(f"HTTP/1.1 {self._status} X\r\nContent-Length: {len(body)}\r\n{last}\r\n".encode() + body)
            await writer.drain()
        writer.close()
        await writer.wait_closed()

    async def wait_ended(self):
        await asyncio.gather(*self._serving)


async def ask_fake(fake, count):
    server = await asyncio.start_server(fake.handle, "127.0.0.1", 0)
    client = HTTPClient(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    try:
        return [await client.post("/echo", {"number": number}) for number in range(count)]
    finally:
        await client.close()
        await fake.wait_ended()
        server.close()
        await server.wait_closed()


async def test_one_connection_serves_request_after_request():
    fake = FakeServer()

    assert await ask_fake(fake, 5) == [{"number": number} for number in range(5)]
    assert fake.n_connections == 1


async def test_a_connection_that_the_server_closes_is_replaced():
    fake = FakeServer(per_connection=2)

    assert len(await ask_fake(fake, 5)) == 5
    assert fake.n_connections == 3


async def test_an_answer_that_is_no_success_is_an_error_with_its_text():
    with pytest.raises(BenchError, match=r"answered /echo with 500.*" + json.dumps({"number": 0}).replace("{", r"\{")):
        await ask_fake(FakeServer(status=500), 1)
