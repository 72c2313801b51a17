"""Lineage: from each example to each adapter and back in one query, and what an erasure marks and asks for."""

import pytest
from sqlalchemy import event

from db.errors import InvalidValueError
from db.queries import adapters, examples, lineage, runs, wanted
from db.queries.audit import list_audit
from db.session import transaction
from db.tables import Example
from db.types import AdapterStatus, MaskedText, RunStatus, RunTrigger, Split
from tests.support.db_rows import CLASSIFICATION, SUMMARY, add_adapter, add_run, add_ticket

BY = {"actor": "ana", "reason": "the customer asked"}


def add_examples(session, n, *, ticket=None, task=CLASSIFICATION):
    return [
        examples.add_example(
            session,
            ticket_id=None if ticket is None else ticket.id,
            task=task,
            text=MaskedText(f"text {number}"),
            target="billing",
            label_set_version="v1",
        ).id
        for number in range(n)
    ]


def add_trained(session, uses, *, is_live=True):
    """A run that used these examples, and the adapter that came of it."""
    run = add_run(session)
    lineage.add_run_examples(session, run.id, uses)
    adapter = add_adapter(session, run_id=run.id)
    for status in (RunStatus.PREPARING, RunStatus.TRAINING, RunStatus.EVALUATING):
        if status is RunStatus.PREPARING:
            runs.start_run(session, run.id, actor="t")
        else:
            runs.advance_run(session, run.id, status=status, actor="t")
    status = RunStatus.PROMOTED if is_live else RunStatus.REJECTED
    runs.finish_run(session, run.id, status=status, actor="t", adapter_digest=adapter.digest)
    if is_live:
        adapters.activate_adapter(session, adapter.digest, actor="t", reason="r")
    return adapter


def test_one_query_leads_from_an_example_to_every_adapter_that_used_it(db_engine):
    with transaction(db_engine) as session:
        first, second = add_examples(session, 2)
        older = add_trained(session, [(first, Split.TRAIN), (second, Split.TEST)])
        newer = add_trained(session, [(first, Split.TEST)])
        older_digest, newer_digest = older.digest, newer.digest
    statements = []
    event.listen(db_engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
    with transaction(db_engine, is_read_only=True) as session:
        statements.clear()
        traces = lineage.trace_example(session, first)
        assert sum(text.startswith("SELECT") for text in statements) == 1
    assert [(trace.adapter_digest, trace.split, trace.adapter_status) for trace in traces] == [
        (older_digest, Split.TRAIN, AdapterStatus.RETIRED),
        (newer_digest, Split.TEST, AdapterStatus.ACTIVE),
    ]
    assert traces[0].run_status is RunStatus.PROMOTED


def test_a_ticket_is_traced_through_its_examples_and_an_adapter_back_to_them(db_engine):
    with transaction(db_engine) as session:
        ticket = add_ticket(session)
        mine, others = add_examples(session, 2, ticket=ticket), add_examples(session, 1)
        adapter = add_trained(session, [(key, Split.TRAIN) for key in [*mine, *others]])
        assert [trace.example_id for trace in lineage.trace_ticket(session, ticket.id)] == mine
        assert [trace.example_id for trace in lineage.trace_adapter(session, adapter.digest)] == [*mine, *others]
        assert [trace.example_id for trace in lineage.trace_adapter(session, adapter.digest, limit=1, after_id=mine[0])] == [
            mine[1]
        ]
        assert lineage.count_uses(session, adapter.run_id) == {Split.TRAIN: 3}
        assert lineage.trace_ticket(session, 10**12) == []


def test_a_run_without_an_adapter_is_traced_too_and_forgotten_when_taken_up_again(db_engine):
    with transaction(db_engine) as session:
        (key,) = add_examples(session, 1)
        run = add_run(session)
        lineage.add_run_examples(session, run.id, [(key, Split.TRAIN)])
        (trace,) = lineage.trace_example(session, key)
        assert (trace.run_id, trace.adapter_digest) == (run.id, None)
        lineage.clear_run_examples(session, run.id)
        assert lineage.trace_example(session, key) == []


def test_many_uses_are_streamed_in_without_being_held(db_engine):
    with transaction(db_engine) as session:
        run = add_run(session)
        seen = []

        def stream():
            for key in range(1, 12_001):
                seen.append(key)
                yield key, Split.TRAIN

        assert lineage.add_run_examples(session, run.id, stream()) == 12_000
        assert lineage.count_uses(session, run.id) == {Split.TRAIN: 12_000}


@pytest.mark.parametrize("is_deleting", [True, False])
def test_erasing_a_tickets_examples_marks_the_adapters_that_learned_and_asks_for_a_run(db_engine, is_deleting):
    with transaction(db_engine) as session:
        ticket = add_ticket(session)
        learned, judged = add_examples(session, 2, ticket=ticket)
        retired = add_trained(session, [(learned, Split.VALIDATION)])
        refused = add_trained(session, [(judged, Split.TEST)], is_live=False)
        live = add_trained(session, [(learned, Split.TRAIN), (judged, Split.TEST)])
        erasure = lineage.erase_examples(session, ticket_ids=[ticket.id], is_deleting=is_deleting, **BY)
        assert erasure.n_examples == 2
        assert erasure.marked == {retired.digest: 1, live.digest: 1}
        assert erasure.retrains == (CLASSIFICATION,)
        for row in (retired, refused, live):
            session.refresh(row)
        assert (live.n_erased, refused.n_erased) == (1, None)
        assert live.erased_at is not None
        row = session.get(Example, learned)
        assert row is None if is_deleting else row.is_withdrawn
        (asked,) = wanted.list_wanted(session)
        assert (asked.task, asked.trigger) == (CLASSIFICATION, RunTrigger.ERASURE)
        assert "learned from 1 examples that were erased" in asked.reason
        marks = list_audit(session, action=lineage.ACTION_MARKED)
        assert {row.subject_id for row in marks} == {retired.digest, live.digest}
        (told,) = list_audit(session, action=lineage.ACTION_ERASED)
        assert (told.subject_type, told.subject_id) == ("ticket", str(ticket.id))
        assert [trace.adapter_digest for trace in lineage.trace_example(session, learned)] == [retired.digest, live.digest]
        again = lineage.erase_examples(session, ticket_ids=[ticket.id], is_deleting=is_deleting, **BY)
        assert (again.n_examples, again.marked, again.retrains) == (0, {}, ())


def test_an_erasure_of_what_no_live_adapter_learned_from_asks_for_nothing(db_engine):
    with transaction(db_engine) as session:
        (key,) = add_examples(session, 1, task=SUMMARY)
        erasure = lineage.erase_examples(session, example_ids=[key], **BY)
        assert (erasure.n_examples, erasure.marked, erasure.retrains) == (1, {}, ())
        assert wanted.list_wanted(session) == []
        with pytest.raises(InvalidValueError, match="needs tickets or examples"):
            lineage.erase_examples(session, **BY)


def test_a_task_is_wanted_once_with_its_first_reason(db_engine):
    with transaction(db_engine) as session:
        assert wanted.want_run(session, SUMMARY, trigger=RunTrigger.SCHEDULE, reason="first")
        assert not wanted.want_run(session, SUMMARY, trigger=RunTrigger.OVERRIDES, reason="second")
        wanted.want_run(session, CLASSIFICATION, trigger=RunTrigger.OVERRIDES, reason="other")
        assert [(row.task, row.reason) for row in wanted.list_wanted(session)] == [(SUMMARY, "first"), (CLASSIFICATION, "other")]
        wanted.drop_wanted(session, SUMMARY)
        assert [row.task for row in wanted.list_wanted(session)] == [CLASSIFICATION]
