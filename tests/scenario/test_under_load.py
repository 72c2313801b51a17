"""The real bot when too much is asked of it, when its engine hangs, and when a ticket is too long: it says so, and it counts."""

import asyncio
import re
import threading

import httpx
import pytest
from fastapi import FastAPI

from bot.app import App, create_web
from bot.engine.protocol import ScoreRequest
from bot.engine.settings import EngineSettings
from bot.plugin_api import BusyError, SourceRef, Turn
from bot.service import TRUNCATED_NOTICE
from db.types import TaskKind
from tests.scenario.conftest import make_settings, run_app

TEXT = "My laptop screen stays black since this morning, please help."


@pytest.fixture
async def narrow_app(tmp_path, model_home):
    """An app whose engine takes one request at a time and is called stuck after a fraction of a second."""
    engine = EngineSettings(queue_limit=1, stall_s=0.2, deadline_s=0.4)
    async for built in run_app(make_settings(tmp_path / "home", model_home, engine=engine)):
        yield built


def connect(web: FastAPI) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=web), base_url="http://127.0.0.1:8000")


async def read_metrics(client: httpx.AsyncClient) -> dict[str, float]:
    page = (await client.get("/metrics")).text
    return {name: float(value) for name, value in re.findall(r"^(understudy_\S+) (\S+)$", page, flags=re.MULTILINE)}


async def test_metrics_move_with_what_is_asked(app: App):
    async with connect(create_web(app)) as client:
        before = await read_metrics(client)
        for number in range(3):
            await app.bot.classify(f"{TEXT} {number}", source=SourceRef("test", str(number)))
        await app.bot.classify(f"{TEXT} 0", source=SourceRef("test", "0"))
        await app.bot.summarize(TEXT, source=SourceRef("test", "0"))
        after = await read_metrics(client)
    model = 'model="all-MiniLM-L6-v2-Q8_0"'
    assert after['understudy_requests_total{outcome="answered",verb="classify"}'] == 3
    assert after['understudy_requests_total{outcome="repeated",verb="classify"}'] == 1
    assert after['understudy_requests_total{outcome="answered",verb="summarize"}'] == 1
    requests = f'understudy_engine_requests_total{{{model},outcome="answered",task="%s",verb="%s"}}'
    assert after[requests % ("classification", "score")] == 3
    assert after[requests % ("summary", "rank")] == 1
    tokens = f'understudy_engine_tokens_total{{adapter="base",{model},phase="prefill"}}'
    assert after[tokens] > before[tokens] > 0
    assert after[f"understudy_engine_up{{{model}}}"] == 1
    assert after['understudy_http_requests_total{method="GET",route="/metrics",status="200"}'] == 1
    assert any(name.startswith("understudy_engine_queue_depth") for name in after)


async def test_a_full_queue_is_said_counted_and_over_http_429_with_a_time_to_wait(narrow_app: App):
    web = create_web(narrow_app)

    @web.post("/classify/{number}")
    async def classify(number: str) -> str:
        return (await narrow_app.bot.classify(f"{TEXT} {number}", source=SourceRef("test", number))).label or ""

    async with connect(web) as client:
        engine = narrow_app.core.engines[TaskKind.CLASSIFICATION]
        gate = threading.Event()
        engine._worker.post(lambda: gate.wait(30), on_error=print)
        first = asyncio.create_task(engine.score(ScoreRequest(TaskKind.CLASSIFICATION, narrow_app.core.choices, "x")))
        await asyncio.sleep(0)
        refused = await client.post("/classify/2")
        gate.set()
        await first
        assert refused.status_code == 429
        assert refused.headers["Retry-After"] == "1"
        assert "requests wait already" in refused.json()["error"]
        assert (await client.post("/classify/2")).status_code == 200
        counts = await read_metrics(client)
    assert counts['understudy_requests_total{outcome="refused",verb="classify"}'] == 1
    assert counts['understudy_http_requests_total{method="POST",route="/classify/{number}",status="429"}'] == 1


async def test_a_stuck_engine_is_unhealthy_and_its_tickets_get_an_error_in_time(narrow_app: App):
    engine = narrow_app.core.engines[TaskKind.CLASSIFICATION]
    gate = threading.Event()
    async with connect(create_web(narrow_app)) as client:
        engine._worker.post(lambda: gate.wait(30), on_error=print)
        with pytest.raises(BusyError, match="within its deadline"):
            await narrow_app.bot.classify(TEXT, source=SourceRef("test", "1"))
        health = await client.get("/healthz")
        stalled = await read_metrics(client)
        gate.set()
        await engine._worker.call(lambda: None)
        well = await client.get("/healthz")
    assert health.status_code == 503
    assert "has not moved" in health.json()["engines"]["classification"]
    assert stalled['understudy_engine_up{model="all-MiniLM-L6-v2-Q8_0"}'] == 0
    assert stalled['understudy_engine_stalled_seconds{model="all-MiniLM-L6-v2-Q8_0"}'] > 0.2
    assert (well.status_code, well.json()["engines"]["classification"]) == (200, "ok")
    assert (await narrow_app.bot.classify(TEXT, source=SourceRef("test", "1"))).label


async def test_a_long_ticket_says_on_both_cards_that_its_middle_was_left_out(app: App):
    long = " ".join(f"In step {number} the printer shows error {number} again." for number in range(300))
    source = SourceRef("test", "long")
    card = await app.bot.classify(long, source=source)
    summary = await app.bot.summarize(long, source=source)
    assert card.notice == summary.notice == TRUNCATED_NOTICE
    assert summary.text
    short = await app.bot.summarize(TEXT, source=SourceRef("test", "short"))
    assert short.notice is None
    stored = await app.bot.inbox.get_ticket(card.ticket_id)
    assert stored.summary is not None
    assert stored.summary.notice == TRUNCATED_NOTICE


async def test_a_conversation_of_many_turns_gets_an_excerpt_of_few(app: App):
    turns = tuple(Turn("customer" if n % 2 else "agent", f"Message {n}: the printer shows error {n}.") for n in range(500))
    summary = await app.bot.summarize("", source=SourceRef("test", "many"), turns=turns)
    assert summary.notice == TRUNCATED_NOTICE
    assert 0 < len(summary.text) < 1000
