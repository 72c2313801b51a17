"""What the processes of the two-process tests run. Each opens an engine of its own, waits for a common moment, and returns plain values."""

import os
import time
from datetime import timedelta

from db.errors import RunConflictError
from db.migrate import upgrade
from db.queries import adapters, feedback, leases, runs, tickets
from db.session import build_db_engine, transaction
from db.types import FeedbackKind, RunTrigger, TaskKind


def call_at(start_at, url, name, *arguments):
    """Run the named function below on a fresh engine at a time of the machine's monotonic clock."""
    engine = build_db_engine(url)
    try:
        time.sleep(max(0.0, start_at - time.monotonic()))
        return globals()[name](engine, *arguments)
    finally:
        engine.dispose()


def get_pid(_engine):
    return os.getpid()


def record_click(engine, inference_id, key):
    with transaction(engine) as session:
        result = feedback.record_feedback(
            session, inference_id=inference_id, kind=FeedbackKind.OVERRIDE, actor="ana", idempotency_key=key, value="refund"
        )
        return result.feedback.id, result.is_new, result.example_id


def upsert(engine, text):
    with transaction(engine) as session:
        return tickets.upsert_ticket(session, plugin="p", external_id="1", subject="", text=text).id


def enqueue(engine):
    try:
        with transaction(engine) as session:
            return runs.enqueue_run(session, task=TaskKind.CLASSIFICATION, trigger=RunTrigger.MANUAL, actor="ana").id
    except RunConflictError as error:
        return str(error)


def take_lease(engine, holder):
    with transaction(engine) as session:
        return leases.acquire(session, "training", holder=holder, ttl=timedelta(minutes=1))


def activate(engine, digest):
    with transaction(engine) as session:
        return adapters.activate_adapter(session, digest, actor="ana", reason="r").digest


def migrate(engine):
    upgrade(engine)
    return "upgraded"


def write_many(engine, worker, count):
    """Write in transactions that read first, which is where deferred SQLite transactions break."""
    for number in range(count):
        with transaction(engine) as session:
            tickets.list_tickets(session, limit=1)
            tickets.upsert_ticket(session, plugin=str(worker), external_id=str(number), subject="", text="t")
    return count


def write_and_hang(url):
    """Leave feedback half done: written, not committed. The test kills the process here."""
    engine = build_db_engine(url)
    with transaction(engine) as session:
        ticket = tickets.upsert_ticket(session, plugin="p", external_id="1", subject="", text="changed by the dead")
        tickets.upsert_ticket(session, plugin="p", external_id="2", subject="", text="new by the dead")
        print(f"written {ticket.id}", flush=True)  # noqa: T201
        time.sleep(600)
