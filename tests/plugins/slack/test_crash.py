"""kill -9 in the middle of many events, a fifth of them delivered twice: every event is handled exactly once."""

import asyncio
import os
import signal
import sys
from collections import Counter
from pathlib import Path

import pytest

from db.migrate import upgrade
from db.session import build_db_engine
from tests.plugins.slack.durable_worker import build_deliveries
from tests.plugins.slack.slack_helpers import CHANNEL

ROOT = Path(__file__).resolve().parents[3]
N_EVENTS = int(os.environ.get("SLACK_CRASH_EVENTS", "300"))


async def start_worker(folder, url, start):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.plugins.slack.durable_worker",
        str(folder),
        url,
        str(N_EVENTS),
        str(start),
        cwd=ROOT,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
    )


async def read_until(process, n_lines):
    lines = []
    while len(lines) < n_lines and (line := await process.stdout.readline()):
        lines.append(line.decode().strip())
    return lines


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("trouble", ["none", "lost answers and limits"])
async def test_every_event_is_handled_exactly_once_through_a_crash(slack, tmp_path, trouble):
    engine = build_db_engine(f"sqlite:///{tmp_path / 'test.db'}")
    upgrade(engine)
    engine.dispose()
    slack.delay_s = 0.002  # so that calls are under way when the process dies
    if trouble != "none":
        slack.lost["chat.postMessage"] = 15
        slack.limit["chat.postMessage"] = [0.2] * 5
    n_deliveries = len(build_deliveries(N_EVENTS))
    first = await start_worker(tmp_path, slack.url, 0)
    acknowledged = await read_until(first, n_deliveries // 2)
    os.kill(first.pid, signal.SIGKILL)
    rest = (await first.stdout.read()).decode().split()
    assert await first.wait() == -signal.SIGKILL
    acknowledged = {int(one) for one in [*acknowledged, *rest] if one.isdigit()}
    # Slack delivers again what was not acknowledged; the blocks of twenty are sent again from the first gap on.
    gap = next((n for n in range(n_deliveries) if n not in acknowledged), n_deliveries)
    second = await start_worker(tmp_path, slack.url, gap)
    lines = await read_until(second, n_deliveries + 1)
    assert await second.wait() == 0
    assert lines[-1] == f"end 0 {N_EVENTS} 0"
    cards = Counter(card["thread_ts"] for card in slack.get_own(CHANNEL))
    assert len(cards) == N_EVENTS
    assert set(cards.values()) == {1}
