"""`make bench-api`: how soon Slack gets its acknowledgement while the engine has more to do than it can; writes `.bench/api.json`.

Run as `python -m benches.api [--seconds N] [--load N]`. Requests leave on a fixed schedule, whether earlier ones are answered or not, and their
time counts from when they were due. `--load` adds N events with a fifth delivered twice and one kill -9 in the middle, each of which must end
in exactly one card. Knows rates and figures; what is sent is in `benches.api_slack`, what serves in `benches.api_server`.
"""

import argparse
import asyncio
import os
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp
import numpy as np

from benches.api_slack import CHANNEL, SECRET, BenchSlack, build_click, build_command, build_message, get_ts, sign
from benches.paths import ROOT, BenchError
from benches.report import describe_machine, print_table, write_json
from benches.workload import load_tickets

RATE: Final = 50.0
BAR_MS: Final = 100.0
LOADERS: Final = 24
WARM_S: Final = 3.0
START_LIMIT_S: Final = 180.0
LOAD_CONCURRENCY: Final = 16
LOAD_LIMIT_S: Final = 3600.0


@dataclass
class Server:
    """The bot as a process of its own."""

    process: asyncio.subprocess.Process
    url: str

    async def kill(self) -> None:
        """End it as a power cut would."""
        self.process.kill()
        await self.process.wait()


@dataclass
class Acks:
    """What came of the requests."""

    times_ms: list[float] = field(default_factory=list)
    errors: int = 0


async def start_server(home: Path, slack: BenchSlack, *, n_loaders: int) -> Server:
    """Start the bot and wait until it answers. Raises BenchError."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("UNDERSTUDY_", "SLACK_"))}
    environment |= {
        "SLACK_SIGNING_SECRET": SECRET,
        "SLACK_BOT_TOKEN": "xoxb-bench",
        "UNDERSTUDY_SLACK_API_URL": slack.url,
        "UNDERSTUDY_SLACK_CHANNELS": f'{{"{CHANNEL}": []}}',
        "UNDERSTUDY_SLACK_UNDO_MINUTES": "0",
    }
    arguments = ("-m", "benches.api_server", str(home), str(port), str(n_loaders))
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, cwd=ROOT, env=environment)
    server = Server(process, f"http://127.0.0.1:{port}")
    deadline = time.monotonic() + START_LIMIT_S
    async with aiohttp.ClientSession() as session:
        while time.monotonic() < deadline and process.returncode is None:
            try:
                async with session.get(f"{server.url}/bench") as response:
                    if response.status == 200:
                        return server
            except aiohttp.ClientError:
                await asyncio.sleep(0.2)
    if process.returncode is None:
        await server.kill()
    message = "the bot did not start; its output above says why"
    raise BenchError(message)


def choose_request(number: int, texts: Sequence[str]) -> tuple[bytes, str]:
    """Return the request of that number: seven in ten are messages, one in ten is a repetition, the others are clicks and commands."""
    text = texts[number % len(texts)]
    turn = number % 10
    if turn == 7:
        return build_message(number - 7, texts[(number - 7) % len(texts)])
    if turn == 8:
        return build_click(number - 8, 1 + (number - 8))
    return build_command(number, text) if turn == 9 else build_message(number, text)


async def send_one(
    session: aiohttp.ClientSession, url: str, number: int, *, texts: Sequence[str], due: float, acks: Acks
) -> None:
    """Send one request and keep how long after its time it was acknowledged."""
    body, content_type = choose_request(number, texts)
    try:
        async with session.post(f"{url}/plugins/slack/events", data=body, headers=sign(body, content_type)) as response:
            await response.read()
            is_right = response.status == 200
    except (aiohttp.ClientError, TimeoutError):
        is_right = False
    if is_right:
        acks.times_ms.append((time.perf_counter() - due) * 1e3)
    else:
        acks.errors += 1


async def read_scored(session: aiohttp.ClientSession, url: str) -> int:
    """Return how many requests of others the engine has answered."""
    async with session.get(f"{url}/bench") as response:
        return int((await response.json())["n_scored"])


async def measure_acks(server: Server, *, seconds: float) -> dict[str, Any]:
    """Send at the rate for that long; return the figures."""
    texts = load_tickets(400)
    acks, warm = Acks(), Acks()
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=10)) as session:
        n_warm, n_requests = int(WARM_S * RATE), int((WARM_S + seconds) * RATE)
        senders: list[asyncio.Task[None]] = []
        scored, started = 0, time.perf_counter()
        for number in range(n_requests):
            due = started + number / RATE
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            if number == n_warm:
                scored = await read_scored(session, server.url)
            kept = acks if number >= n_warm else warm
            sending = send_one(session, server.url, number, texts=texts, due=time.perf_counter(), acks=kept)
            senders.append(asyncio.create_task(sending))
        await asyncio.gather(*senders)
        scored = await read_scored(session, server.url) - scored
    if not acks.times_ms:
        message = "no request was acknowledged; the bot's output above says why"
        raise BenchError(message)
    p50, p99 = np.percentile(acks.times_ms, [50, 99])
    return {
        "ack_p50_ms": float(p50),
        "ack_p99_ms": float(p99),
        "ack_max_ms": max(acks.times_ms),
        "errors": acks.errors + warm.errors,
        "n_requests": n_requests - n_warm,
        "requests_per_s": RATE,
        "engine_scored_per_s": scored / seconds,
    }


def build_deliveries(n_events: int) -> list[int]:
    """Return the numbers of events in the order they are delivered: a fifth of them twice, half of those much later."""
    again = list(range(0, n_events, 5))
    soon, late = set(again[::2]), again[1::2]
    return [one for number in range(n_events) for one in ((number, number) if number in soon else (number,))] + late


async def deliver(server: Server, numbers: Sequence[int]) -> list[int]:
    """Send events, some at a time; return those that were not acknowledged, which Slack would send again."""
    texts = load_tickets(400)
    left = list(reversed(numbers))
    missed: list[int] = []
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session:

        async def work() -> None:
            while left:
                number = left.pop()
                body, content_type = build_message(number, f"{texts[number % len(texts)]} ({number})")
                try:
                    async with session.post(
                        f"{server.url}/plugins/slack/events", data=body, headers=sign(body, content_type)
                    ) as response:
                        if response.status != 200:
                            missed.append(number)
                except (aiohttp.ClientError, TimeoutError):
                    missed.append(number)

        await asyncio.gather(*(work() for _ in range(LOAD_CONCURRENCY)))
    return missed


async def measure_load(home: Path, slack: BenchSlack, n_events: int) -> dict[str, Any]:
    """Deliver the events through a kill -9 in the middle; count what became of each."""
    slack.forget()
    deliveries = build_deliveries(n_events)
    started = time.monotonic()
    first = await start_server(home, slack, n_loaders=0)
    sending = asyncio.create_task(deliver(first, deliveries[: len(deliveries) * 6 // 10]))
    while len(slack.cards) < n_events // 3 and not sending.done():  # noqa: ASYNC110 - cards come in from another process
        await asyncio.sleep(0.05)
    await first.kill()
    missed = await sending
    second = await start_server(home, slack, n_loaders=0)
    try:
        missed = await deliver(second, [*missed, *deliveries[len(deliveries) * 6 // 10 :]])
        wanted = {get_ts(number) for number in range(n_events)}
        while not wanted <= slack.cards.keys() and time.monotonic() < started + LOAD_LIMIT_S:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.2)
        await asyncio.sleep(2.0)  # whatever would come a second time has come by now
    finally:
        await second.kill()
    counts = [slack.cards[ts] for ts in wanted]
    return {
        "load_events": n_events,
        "load_deliveries": len(deliveries),
        "load_handled_once": sum(count == 1 for count in counts),
        "load_lost": sum(count == 0 for count in counts) + len(missed),
        "load_handled_twice": sum(count > 1 for count in counts),
        "load_seconds": time.monotonic() - started,
    }


@asynccontextmanager
async def run_slack() -> AsyncIterator[BenchSlack]:
    """Run a Slack."""
    slack = BenchSlack()
    await slack.start()
    try:
        yield slack
    finally:
        await slack.stop()


def build_rows(figures: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return the rows of the table."""
    rows = [
        ("acknowledgement, p50", f"{figures['ack_p50_ms']:.1f} ms", ""),
        ("acknowledgement, p99", f"{figures['ack_p99_ms']:.1f} ms", f"bar: < {BAR_MS:.0f} ms"),
        ("not acknowledged", str(figures["errors"]), f"of {figures['n_requests']} at {RATE:.0f}/s; bar: 0"),
        ("the engine's other answers", f"{figures['engine_scored_per_s']:.0f}/s", f"{LOADERS} clients that never pause"),
    ]
    if "load_events" in figures:
        rows.append(
            (
                "events handled exactly once",
                f"{figures['load_handled_once']} of {figures['load_events']}",
                f"{figures['load_deliveries']} deliveries, one kill -9; {figures['load_seconds']:.0f} s",
            )
        )
    return rows


async def _run(arguments: argparse.Namespace) -> None:
    machine = describe_machine(threads=arguments.threads)
    with tempfile.TemporaryDirectory(prefix="bench-api-") as folder:
        async with run_slack() as slack:
            server = await start_server(Path(folder) / "acks", slack, n_loaders=LOADERS)
            try:
                figures = await measure_acks(server, seconds=arguments.seconds)
            finally:
                await server.kill()
            if arguments.load:
                figures |= await measure_load(Path(folder) / "load", slack, arguments.load)
    figures = {"machine": machine, **figures}
    print_table("Slack's acknowledgement while the engine is saturated", build_rows(figures))
    path = write_json("api", figures)
    print(f"written: {path.relative_to(ROOT)}")  # noqa: T201


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(prog="benches.api", description="Measures how soon Slack gets its acknowledgement.")
    parser.add_argument("--seconds", type=float, default=40.0, help="how long to send (default 40)")
    parser.add_argument(
        "--load", type=int, default=0, metavar="N", help="also deliver N events through a crash (10000: about ten minutes)"
    )
    parser.add_argument("--threads", type=int, default=2, help="threads that compute, as reported (default 2)")
    try:
        asyncio.run(_run(parser.parse_args(sys.argv[1:])))
    except BenchError as error:
        print(f"bench-api: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(1)


if __name__ == "__main__":
    main()
