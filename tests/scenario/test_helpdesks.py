"""The real bot beside real helpdesks: a ticket is made there, the suggestion is written back, a support agent changes it, and an
example comes of it that the next training run uses.
"""

import asyncio
import threading
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from fastapi.requests import Request
from fastapi.responses import Response
from sqlmodel import Session, select

from bot.data import load_demo_tickets
from bot.plugin_api import Feedback, FeedbackKind, SourceRef, TaskKind
from bot.plugin_host import PluginHost
from db.tables import Example, FeedbackRow
from db.types import Split
from plugins.helpdesk.client import SystemClock
from plugins.redmine.app import build_plugin as build_redmine
from plugins.redmine.settings import RedmineSettings
from plugins.request_tracker.app import build_plugin as build_request_tracker
from plugins.request_tracker.settings import RequestTrackerSettings
from plugins.zendesk import spec as zendesk_spec
from tests.plugins.zendesk.zendesk_double import SECRET, ZendeskDouble
from tests.scenario.conftest import make_settings, run_app
from tests.support.peers import serve, start_peer
from training.pipeline import run_training

pytestmark = pytest.mark.timeout(900)
LABELS = """\
name: helpdesk
labels:
  - {name: billing, description: "invoices, payments and refunds"}
  - {name: bug, description: "something is broken or shows an error"}
  - {name: how-to, description: "questions about how to do something"}
  - {name: outage, description: "a service is down for everybody"}
  - {name: account, description: "log-in, password, access rights"}
"""
SUBJECT, TEXT = "Invoice is wrong", "The invoice of last month has a payment twice, please refund one of them."
WATCH = {"poll_interval_s": 0.5, "backfill_days": 0, "requests_per_minute": 2000}


@pytest.fixture
async def app(tmp_path: Path, model_home: Path):
    labels = tmp_path / "labels.yaml"
    labels.write_text(LABELS, encoding="utf-8")
    async for built in run_app(make_settings(tmp_path / "home", model_home, labels=labels)):
        yield built


async def eventually(check, *, limit_s=40.0):
    """Wait until `check` returns something, and return that."""
    async with asyncio.timeout(limit_s):
        while not (found := await check()):  # noqa: ASYNC110 - another server's state has no event
            await asyncio.sleep(0.1)
    return found


def get_rows(app, table):
    with Session(app.db_engine) as session:
        return list(session.exec(select(table)).all())


async def check_override(app, suggested, other):
    async def find():
        return get_rows(app, FeedbackRow)

    [feedback] = await eventually(find)
    assert (feedback.kind, feedback.value, feedback.is_passive) == (FeedbackKind.OVERRIDE, other, True)
    [example] = get_rows(app, Example)
    assert (example.target, example.draft) == (other, suggested)
    plan = await app.bot.manager.dry_run(TaskKind.CLASSIFICATION)
    assert plan.n_seen == 1, "the next training run sees the example"


async def decide_in_console(app, plugin, external_id):
    """Choose another label than the suggested one, as the console's button does; return it."""
    detail = await app.bot.inbox.find_ticket(SourceRef(plugin, external_id))
    other = next(name for name in app.core.label_set.names if name != detail.classification.label)
    click = Feedback(
        detail.classification.inference_id, FeedbackKind.OVERRIDE, "ana", idempotency_key=f"console-{external_id}", value=other
    )
    await app.bot.record_feedback(click)
    return other


def build_zendesk_server(double):
    """The double behind a real port, as ZENDESK_BASE_URL points to it."""
    web = FastAPI()

    async def answer(request: Request) -> Response:
        sent = httpx.Request(request.method, str(request.url), headers=request.headers.raw, content=await request.body())
        given = double._answer(sent)
        return Response(given.content, given.status_code, dict(given.headers))

    web.add_api_route("/{path:path}", answer, methods=["GET", "POST", "PUT", "PATCH"])
    return web


async def test_zendesk_ticket_becomes_an_example(app, monkeypatch):
    double = ZendeskDouble()
    double.clock = SystemClock()
    double.labels = app.core.label_set.names
    async with serve(build_zendesk_server(double)) as zendesk:
        account = {"BASE_URL": zendesk, "EMAIL": "bot@example.com", "API_TOKEN": "t", "WEBHOOK_SECRET": SECRET}
        for name, value in account.items():
            monkeypatch.setenv(f"ZENDESK_{name}", value)
        monkeypatch.setenv("UNDERSTUDY_ZENDESK_BACKFILL_DAYS", "0")
        host = PluginHost([zendesk_spec], app.bot)
        [hosted] = host.plugins
        web = FastAPI()
        web.include_router(hosted.plugin.router, prefix="/plugins/zendesk")
        await host.start()
        async with serve(web) as bot, httpx.AsyncClient(base_url=bot) as http:
            await use_zendesk(app, http, double)
        await host.stop()


async def use_zendesk(app, http, double):
    ticket_id = double.open_ticket(SUBJECT, TEXT)

    async def tell(event):
        body, headers = double.build_webhook(ticket_id, event=event)
        assert (await http.post("/plugins/zendesk/webhook", content=body, headers=headers)).status_code == 200

    async def find_note():
        return double.get_notes(ticket_id)

    await tell("made")
    [note] = await eventually(find_note)
    suggested = double.get_label(ticket_id)
    assert suggested in app.core.label_set.names
    assert suggested in note
    other = next(name for name in app.core.label_set.names if name != suggested)
    await asyncio.sleep(1.1)  # Zendesk tells times in whole seconds
    double.choose(ticket_id, other)
    await tell("chosen")
    await check_override(app, suggested, other)


async def test_what_people_did_in_the_helpdesk_is_what_a_real_run_trains_on(tmp_path, model_home):
    training = {"epochs": 1, "r": 4, "threads": 2, "daemon": "external", "gate_min_test": 5, "policy": "approval"}
    settings = make_settings(tmp_path / "home", model_home, training=training)
    async for app in run_app(settings):
        await work_in_zendesk(app, load_demo_tickets().stream[:100])
        run = await app.bot.manager.start_run(TaskKind.CLASSIFICATION, actor="ana")
        await asyncio.to_thread(run_training, run.run_id, settings, stop=threading.Event())
        ended = await app.bot.manager.get_run(run.run_id)
        assert ended.adapter_digest, ended.message
        traces = [await app.bot.manager.trace_ticket(row.ticket_id) for row in get_rows(app, FeedbackRow)]
        learned = [trace for found in traces for trace in found if trace.split is Split.TRAIN]
        assert len(learned) > 50
        assert {trace.adapter_digest for trace in learned} == {ended.adapter_digest}


async def work_in_zendesk(app, tickets):
    """Let each ticket come in, and solve those whose suggestion is right and correct the others, without a click."""
    double = ZendeskDouble()
    double.clock, double.labels = SystemClock(), app.core.label_set.names
    plugin = double.build(app.bot, bulk_changes=1000, note_summary=False)
    await plugin.start()
    numbers = [double.open_ticket("", ticket.text) for ticket in tickets]

    async def are_told():
        return all(double.get_notes(number) for number in numbers)

    async def are_learned():
        return len(get_rows(app, FeedbackRow)) >= len(numbers)

    await tell_all(plugin, numbers, event="made")
    await eventually(are_told, limit_s=120)
    await asyncio.sleep(1.1)  # Zendesk tells times in whole seconds
    wrong = [number for number, ticket in zip(numbers, tickets, strict=True) if double.get_label(number) != ticket.label]
    for number, ticket in zip(numbers, tickets, strict=True):
        if number in wrong:
            double.choose(number, ticket.label)
        else:
            double.solve(number)
    await tell_all(plugin, numbers, event="decided")
    await eventually(are_learned, limit_s=120)
    await plugin.stop()
    kinds = [row.kind for row in get_rows(app, FeedbackRow)]
    assert (kinds.count(FeedbackKind.OVERRIDE), kinds.count(FeedbackKind.ACCEPT)) == (len(wrong), len(numbers) - len(wrong))


async def tell_all(plugin, numbers, *, event):
    for number in numbers:
        await plugin.desk.notice(number, key=f"{event}:{number}")


async def run_request_tracker(app, *, with_webhook):
    peer = start_peer("request-tracker-up.sh")
    settings = RequestTrackerSettings(
        url=peer["RT_URL"],
        token=peer["RT_BOT_TOKEN"],
        user="bot",
        queues=[peer["RT_QUEUE"]],
        webhook_secret=peer["RT_HOOK_SECRET"],
        label_field="Category",
        confidence_field="Confidence",
        tag_field="Triage Tags",
        **(WATCH | ({"poll_interval_s": 0} if with_webhook else {})),
    )
    plugin = build_request_tracker(app.bot, settings)
    web = FastAPI()
    web.include_router(plugin.router, prefix="/plugins/request_tracker")
    async with serve(web) as address, httpx.AsyncClient(base_url=peer["RT_REST2"], timeout=30) as http:
        set_hook(peer, f"{address}/plugins/request_tracker/webhook\n" if with_webhook else "")
        await plugin.start()
        try:
            await use_request_tracker(app, http, peer)
        finally:
            set_hook(peer, "")
            await plugin.stop()


def set_hook(peer, url):
    Path(peer["RT_HOOK_URL_FILE"]).write_text(url, encoding="utf-8")


async def use_request_tracker(app, http, peer):
    customer, agent = ("customer", "customer-pass"), (peer["RT_AGENT_USER"], peer["RT_AGENT_PASSWORD"])
    made = await http.post("/ticket", auth=customer, json={"Queue": peer["RT_QUEUE"], "Subject": SUBJECT, "Content": TEXT})
    path = f"/ticket/{made.json()['id']}"

    async def get_fields():
        ticket = (await http.get(path, auth=agent)).json()
        return {field["name"]: field["values"] for field in ticket["CustomFields"]}

    async def find_suggestion():
        fields = await get_fields()
        return fields["Category"] if fields["Triage Tags"] else None

    [suggested] = await eventually(find_suggestion)
    assert suggested in app.core.label_set.names

    async def find_note():
        found = (await http.get(f"{path}/attachments?fields=Content,TransactionId", auth=agent)).json()
        return [item for item in found["items"] if "Understudy suggests" in item["Content"]]

    [note] = await eventually(find_note)
    assert suggested in note["Content"]
    shown = (await http.get(f"/transaction/{note['TransactionId']}", auth=agent)).json()
    assert shown["Type"] == "Comment", "a note for support agents, no answer to the customer"
    other = next(name for name in app.core.label_set.names if name != suggested)
    changed = await http.put(path, auth=agent, json={"CustomFields": {"Category": other}})
    assert changed.status_code == 200
    await check_override(app, suggested, other)
    await http.put(path, auth=agent, json={"Status": "resolved"})
    await asyncio.sleep(2)
    assert [row.kind for row in get_rows(app, FeedbackRow)] == [FeedbackKind.OVERRIDE], "solving it takes nothing back"
    assert (await get_fields())["Category"] == [other]

    made = await http.post("/ticket", auth=customer, json={"Queue": peer["RT_QUEUE"], "Subject": SUBJECT, "Content": TEXT})
    path = f"/ticket/{made.json()['id']}"
    await eventually(find_suggestion)
    decided = await decide_in_console(app, "request_tracker", str(made.json()["id"]))

    async def find_decision():
        found = (await http.get(f"{path}/attachments?fields=Content,TransactionId", auth=agent)).json()
        return [item for item in found["items"] if f"ana chose {decided}" in item["Content"]]

    await eventually(find_decision)
    assert (await get_fields())["Category"] == [decided]


@pytest.mark.peer
@pytest.mark.parametrize("with_webhook", [True, False], ids=["webhook", "polling"])
async def test_request_tracker_ticket_becomes_an_example(app, with_webhook):
    await run_request_tracker(app, with_webhook=with_webhook)


@pytest.mark.peer
async def test_redmine_issue_becomes_an_example(app):
    peer = start_peer("redmine-up.sh")
    field = peer["REDMINE_FIELD_CATEGORY"]
    settings = RedmineSettings(
        url=peer["REDMINE_URL"],
        api_key=peer["REDMINE_BOT_KEY"],
        project=peer["REDMINE_PROJECT"],
        label_field=field,
        confidence_field=peer["REDMINE_FIELD_CONFIDENCE"],
        **WATCH,
    )
    plugin = build_redmine(app.bot, settings)
    await plugin.start()
    try:
        async with httpx.AsyncClient(base_url=peer["REDMINE_URL"], timeout=30) as http:
            await use_redmine(app, http, peer, field)
    finally:
        await plugin.stop()


async def use_redmine(app, http, peer, field):
    customer = {"X-Redmine-API-Key": peer["REDMINE_ADMIN_KEY"]}
    agent = {"X-Redmine-API-Key": peer["REDMINE_AGENT_KEY"]}
    issue = {"project_id": peer["REDMINE_PROJECT"], "subject": SUBJECT, "description": TEXT}
    made = (await http.post("/issues.json", headers=customer, json={"issue": issue})).json()["issue"]
    path = f"/issues/{made['id']}.json"

    async def get_issue():
        return (await http.get(path, headers=agent, params={"include": "journals"})).json()["issue"]

    async def find_suggestion():
        shown = await get_issue()
        return next((found["value"] for found in shown["custom_fields"] if str(found["id"]) == field), None)

    suggested = await eventually(find_suggestion)
    notes = [entry for entry in (await get_issue())["journals"] if "Understudy suggests" in (entry["notes"] or "")]
    assert [(suggested in note["notes"], note["private_notes"]) for note in notes] == [(True, True)]
    other = next(name for name in app.core.label_set.names if name != suggested)
    body = {"issue": {"custom_fields": [{"id": int(field), "value": other}]}}
    assert (await http.put(path, headers=agent, json=body)).status_code == 204
    await check_override(app, suggested, other)

    made = (await http.post("/issues.json", headers=customer, json={"issue": issue})).json()["issue"]
    path = f"/issues/{made['id']}.json"
    await eventually(find_suggestion)
    decided = await decide_in_console(app, "redmine", str(made["id"]))

    async def find_decision():
        return [entry for entry in (await get_issue())["journals"] if f"ana chose {decided}" in (entry["notes"] or "")]

    [note] = await eventually(find_decision)
    assert note["private_notes"]
    assert await find_suggestion() == decided
