"""The HTTP surface of the real bot."""

import logging

import httpx
import pytest

from bot.api.errors import FaultBarrier
from bot.app import App, create_web
from bot.plugin_api import TaskKind


def make_client(app: object, *, host: str = "127.0.0.1") -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=app, client=(host, 1), raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000")


async def test_health_names_what_serves_and_metrics_answer(app: App):
    async with make_client(create_web(app)) as client:
        health = (await client.get("/healthz")).json()
        assert (health["status"], health["database"], health["problems"]) == ("ok", "ok", {})
        assert health["serving"] == {task.value: "base" for task in TaskKind}
        assert (await client.get("/metrics")).status_code == 200


async def test_adapters_and_runs_are_for_this_machine_alone(app: App):
    async with make_client(create_web(app)) as client:
        assert (await client.get("/api/adapters")).json() == []
    async with make_client(create_web(app), host="192.0.2.7") as client:
        refused = await client.get("/api/runs")
        assert refused.status_code == 403
        assert "on the machine itself" in refused.json()["detail"]


async def test_an_unexpected_error_is_logged_by_its_place_without_its_text(caplog: pytest.LogCaptureFixture):
    async def broken(scope: object, receive: object, send: object) -> None:
        raise ValueError("my card 4111 1111 1111 1111")

    with caplog.at_level(logging.ERROR):
        async with make_client(FaultBarrier(broken)) as client:
            answer = await client.get("/x")
    assert answer.status_code == 500
    assert "4111" not in caplog.text + answer.text
    assert "ValueError at test_http.py" in caplog.text
