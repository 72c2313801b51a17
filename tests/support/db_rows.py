"""Rows for the database tests, each made through the queries with everything that does not matter filled in."""

from itertools import count

from db.queries import adapters, feedback, inferences, runs, tickets
from db.types import FeedbackKind, ModelKind, RunTrigger, TaskKind

CLASSIFICATION = TaskKind.CLASSIFICATION
SUMMARY = TaskKind.SUMMARY
_numbers = count(1)


def add_ticket(session, **values):
    values = {"plugin": "console", "external_id": f"T-{next(_numbers)}", "subject": "s", "text": "t", **values}
    return tickets.upsert_ticket(session, **values)


def add_inference(session, ticket=None, **values):
    ticket = ticket or add_ticket(session)
    defaults = {"task": CLASSIFICATION, "model_kind": ModelKind.ENCODER, "base_digest": "b" * 64, "adapter_digest": "base"}
    defaults |= {"prompt_version": "1", "latency_ms": 3.5, "label_set_version": "v1"}
    if values.get("task", CLASSIFICATION) is CLASSIFICATION:
        defaults |= {"label": "billing", "confidence": 0.9}
    else:
        defaults |= {"output": {"text": "The printer is broken.", "units": [0]}}
    return inferences.record_inference(session, ticket_id=ticket.id, **(defaults | values))


def add_feedback(session, inference=None, **values):
    inference = inference or add_inference(session)
    defaults = {"kind": FeedbackKind.ACCEPT, "actor": "ana", "idempotency_key": f"key-{next(_numbers)}"}
    return feedback.record_feedback(session, inference_id=inference.id, **(defaults | values))


def add_adapter(session, digest=None, **values):
    number = next(_numbers)
    defaults = {
        "task": CLASSIFICATION,
        "model_kind": ModelKind.ENCODER,
        "base_digest": "b" * 64,
        "prompt_version": "1",
        "path": "p",
    }
    return adapters.register_adapter(session, digest=digest or f"{number:064x}", actor="trainer", **(defaults | values))


def add_run(session, **values):
    return runs.enqueue_run(session, **({"task": CLASSIFICATION, "trigger": RunTrigger.MANUAL, "actor": "ana"} | values))
