"""The sidebar app on the real bot: a card, a decision taken back, an edited summary, a blind ticket; tokens counted in the database."""

import asyncio
import json
from datetime import UTC, datetime

import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr
from sqlmodel import Session, select

from bot.masking import Vault
from bot.plugin_api import FeedbackKind
from db.tables import Example, FeedbackRow
from plugins.helpdesk.client import SystemClock
from plugins.zendesk.sidebar_token import sign_token
from tests.plugins.zendesk.sidebar_helpers import APP_SECRET, build_claims
from tests.plugins.zendesk.zendesk_double import ZendeskDouble
from tests.scenario.conftest import _share_masker, make_settings, masker, model_home, run_app

__all__ = ["_share_masker", "masker", "model_home"]
ODD = ("\ud800", "a\0b", "<script>", 10**30, -1, None, 1.5, True, [], {})
PATHS = ("/card", "/decide", "/undo", "/summary", "/summary/decide", "/macro")
TEXT = "Hello, this is Maria Lindqvist (maria@example.com). My VPN has been down since this morning, please help."


class Client:
    def __init__(self, http, ticket_id):
        self._http, self._ticket_id = http, ticket_id

    async def ask(self, path, body=None, *, token=None, status=200):
        token = token or sign_token(build_claims(datetime.now(UTC), self._ticket_id), APP_SECRET)
        headers = {"Authorization": f"Bearer {token}"}
        answer = await self._http.post(f"/plugins/zendesk/app{path}", json=body or {}, headers=headers)
        assert answer.status_code == status, answer.text
        return answer.json()

    async def send(self, path, content):
        token = sign_token(build_claims(datetime.now(UTC), self._ticket_id), APP_SECRET)
        headers = {"Authorization": f"Bearer {token}"}
        return (await self._http.post(f"/plugins/zendesk/app{path}", content=content, headers=headers)).status_code

    async def look(self):
        for _ in range(200):
            view = await self.ask("/card")
            if view["state"] != "waiting":
                return view
            await asyncio.sleep(0.05)
        pytest.fail("the ticket was never looked at")


@pytest.fixture
async def app(request, tmp_path, model_home):
    changes = {"vault_key": SecretStr(Vault.new_key()), "blind_share": getattr(request, "param", 0.0)}
    async for built in run_app(make_settings(tmp_path / "home", model_home, **changes)):
        yield built


@pytest.fixture
async def client(app, monkeypatch):
    monkeypatch.setenv("ZENDESK_APP_SECRET", APP_SECRET)
    double = ZendeskDouble()
    double.clock = SystemClock()
    plugin = double.build(app.bot)
    web = FastAPI()
    web.include_router(plugin.router, prefix="/plugins/zendesk")
    await plugin.start()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=web), base_url="http://bot") as http:
        yield Client(http, double.open_ticket("VPN down", TEXT))
    await plugin.stop()


def get_rows(app, table):
    with Session(app.core.db_engine) as session:
        return list(session.exec(select(table)).all())


async def test_decision_is_recorded_taken_back_and_recorded_anew(app, client):
    view = await client.look()
    assert view["state"] == "open"
    click = {"inference_id": view["inference_id"], "kind": "accept"}
    assert (await client.ask("/decide", click | {"key": "click-001"}))["decision"]["is_own"]
    assert (await client.ask("/undo"))["state"] == "open"
    other = next(label["name"] for label in view["labels"] if label["name"] != view["card"]["label"])
    decided = await client.ask(
        "/decide", click | {"key": "click-002", "kind": "override", "value": other, "reason": "seen before"}
    )
    assert decided["decision"]["label"] == other
    rows = [(row.kind, row.value, row.actor, row.withdrawn_at is not None) for row in get_rows(app, FeedbackRow)]
    suggested = view["card"]["label"]
    assert rows == [(FeedbackKind.ACCEPT, suggested, "zendesk:9002", True), (FeedbackKind.OVERRIDE, other, "zendesk:9002", False)]
    assert other in [example.target for example in get_rows(app, Example)]


async def test_edited_summary_is_stored_masked_and_shown_unmasked(app, client):
    await client.look()
    made = (await client.ask("/summary"))["summary"]
    words = "Maria Lindqvist cannot use the VPN."
    click = {"inference_id": made["inference_id"], "key": "click-001", "kind": "edit", "value": words}
    assert (await client.ask("/summary/decide", click))["summary"]["text"] == words
    [row] = get_rows(app, FeedbackRow)
    assert (row.kind, "Lindqvist" in row.value) == (FeedbackKind.EDIT, False)


async def test_odd_bodies_are_answered_without_a_fault(client):
    view = await client.look()
    click = {"inference_id": view["inference_id"], "kind": "override", "value": view["labels"][0]["name"]}
    bodies = [b"[" * 30_000, b'{"a":' * 5_000, b"null", b"[]", b"\xff", b'{"inference_id": 1e400}', b"{"]
    names = ("inference_id", "key", "kind", "value", "reason", "decision_ms")
    odd = [{**click, "key": f"click-{number:03}-{name}", name: value} for number, value in enumerate(ODD) for name in names]
    bodies += [json.dumps(body).encode() for body in odd]
    statuses = {await client.send(path, body) for path in PATHS for body in bodies}
    assert max(statuses) < 500
    assert (await client.ask("/card"))["decision"]["label"] == click["value"]


async def test_token_counts_once_in_the_database(client):
    await client.look()
    token = sign_token(build_claims(datetime.now(UTC), client._ticket_id), APP_SECRET)
    await client.ask("/card", token=token)
    await client.ask("/card", token=token, status=401)


@pytest.mark.parametrize("app", [1.0], indirect=True)
async def test_blind_choice_is_made_unseen(app, client):
    view = await client.look()
    assert (view["state"], "card" in view) == ("blind", False)
    click = {"inference_id": view["inference_id"], "key": "click-001", "kind": "override", "value": view["labels"][0]["name"]}
    decided = await client.ask("/decide", click)
    assert decided["decision"]["was_blind"]
    assert decided["card"]["label"]
