"""Signed webhooks of odd shapes, on queues of a real database: each gets an answer, none a fault, and those after it are handled."""

import asyncio
import copy
import json
from pathlib import Path

import pytest
from fastapi import FastAPI
from httpx import ASGITransport, AsyncClient

from tests.plugins.request_tracker.rt_double import RequestTrackerDouble
from tests.plugins.webhook.webhook_double import WebhookDouble
from tests.plugins.zendesk.zendesk_double import ZendeskDouble
from tests.support.durable_bot import DurableFakeBot

RECORDED = Path(__file__).parents[3].parent / "shared" / "contracts" / "zendesk" / "webhooks" / "events.json"
ODD = (None, True, 0, -1, 1.5, 10**30, "", "\ud800", "a\0b", "٣", "x" * 5000, [], ["x"], {}, {"id": {}}, [[{}]])
BODIES = (b"", b"null", b"[]", b"3", b'"x"', b"{}", b"{", b"\xff\xfe", b"[" * 100_000, b'{"a":' * 50_000, b'{"id": NaN}')
ANSWERS = {200, 400, 401, 413, 422}


def vary(message, path=()):
    """Yield the message with each value, at any depth, left out and replaced by odd ones."""
    node = message
    for name in path:
        node = node[name]
    for name in list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ():
        for odd in (*ODD, "left out"):
            changed = copy.deepcopy(message)
            inner = changed
            for step in path:
                inner = inner[step]
            if odd == "left out":
                del inner[name]
            else:
                inner[name] = odd
            yield changed
        yield from vary(message, (*path, name))


def find_recorded(double):
    if double.name != "zendesk":
        return []
    if not RECORDED.exists():
        return []
    return [case["payload"] for case in json.loads(RECORDED.read_text())["cases"]]


async def wait_until_done(plugin):
    async with asyncio.timeout(60):
        for queue in (plugin.desk.queue, plugin.desk.outbox.queue) * 2:
            while (await queue.get_counts()).n_waiting:  # noqa: ASYNC110 - another task empties it
                await asyncio.sleep(0.02)


@pytest.mark.parametrize("make", [ZendeskDouble, RequestTrackerDouble, WebhookDouble])
async def test_odd_webhooks_are_answered_and_stop_nothing(make, sqlite_engine, tmp_path, caplog):
    double = make()
    bot = DurableFakeBot(sqlite_engine, tmp_path, double.clock)
    plugin = double.build(bot)
    web = FastAPI()
    web.include_router(plugin.router, prefix=f"/plugins/{double.name}")
    ticket_id = double.open_ticket("VPN down", "The VPN does not connect.")
    body, headers = double.build_webhook(ticket_id)
    messages = [json.loads(body), *find_recorded(double)]
    odd = [json.dumps(changed).encode() for message in messages for changed in vary(message)]
    await plugin.desk.start()
    async with AsyncClient(transport=ASGITransport(app=web), base_url="http://bot") as http:
        path = f"/plugins/{double.name}/webhook"
        for content in (*BODIES, *odd):
            signed, own = double.sign(content)
            answer = await http.post(path, content=signed, headers=own)
            assert answer.status_code in ANSWERS, content[:300]
        assert (await http.post(path, content=body, headers=headers)).status_code == 200
    await wait_until_done(plugin)
    assert double.get_label(ticket_id)
    assert len(double.get_notes(ticket_id)) == 1
    await plugin.stop()
    assert "Traceback" not in caplog.text
    assert "does not connect" not in caplog.text
