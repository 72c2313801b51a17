"""Many webhooks on the queues of the database, with repetitions: each ticket gets one suggestion.

300 in the suite; `ZENDESK_WEBHOOKS=10000 pytest tests/plugins/zendesk/test_zendesk_flood.py` for the whole.
"""

import asyncio
import os
import random
from collections import Counter

import httpx
import pytest
from fastapi import FastAPI

from tests.plugins.zendesk.zendesk_double import ZendeskDouble
from tests.support.durable_bot import DurableFakeBot

N_WEBHOOKS = int(os.environ.get("ZENDESK_WEBHOOKS", "300"))
SHARE_REPEATED = 0.2
SENDERS = 8


async def wait_until_done(desk):
    for _ in range(100_000):
        counts = [await queue.get_counts() for queue in (desk.queue, desk.outbox.queue)]
        assert [count.n_failed for count in counts] == [0, 0]
        if not any(count.n_waiting for count in counts):
            return
        await asyncio.sleep(0.02)
    pytest.fail("the events are never done")


@pytest.mark.timeout(1800)
async def test_repeated_webhooks_give_each_ticket_one_suggestion(sqlite_engine, tmp_path):
    double = ZendeskDouble()
    bot = DurableFakeBot(sqlite_engine, tmp_path, double.clock)
    plugin = double.build(bot)
    n_tickets = int(N_WEBHOOKS * (1 - SHARE_REPEATED))
    tickets = [double.open_ticket(f"VPN down {number}", "The VPN does not connect.") for number in range(n_tickets)]
    chance = random.Random(7)
    told = [*tickets, *chance.choices(tickets, k=N_WEBHOOKS - n_tickets)]
    chance.shuffle(told)
    waiting = iter(told)
    app = FastAPI()
    app.include_router(plugin.router, prefix="/plugins/zendesk")
    await plugin.start()
    statuses = Counter()

    async def send(http):
        for ticket_id in waiting:
            body, headers = double.build_webhook(ticket_id, event="made")
            answer = await http.post("/plugins/zendesk/webhook", content=body, headers=headers)
            statuses[answer.status_code, answer.json()["status"]] += 1

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://bot") as http:
        await asyncio.gather(*(send(http) for _ in range(SENDERS)))
    await wait_until_done(plugin.desk)
    await plugin.stop()
    assert statuses == {(200, "stored"): n_tickets, (200, "known"): N_WEBHOOKS - n_tickets}
    assert Counter(len(double.get_notes(ticket_id)) for ticket_id in tickets) == {1: n_tickets}
    assert Counter(verb for verb, _ in bot.calls)["classify"] == n_tickets
