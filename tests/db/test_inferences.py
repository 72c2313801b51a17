"""Inferences and the decided tickets that new ones are compared with."""

import pytest

from db.errors import RowNotFoundError
from db.queries import examples, inferences
from db.session import transaction
from db.types import FeedbackKind, Split
from tests.support.db_rows import CLASSIFICATION, SUMMARY, add_feedback, add_inference, add_ticket


def test_inference_comes_back_as_recorded(db_engine):
    output = {"candidates": [["billing", 0.9], ["refund", 0.1]], "reason": "…", "similar": []}
    with transaction(db_engine) as session:
        inference_id = add_inference(session, output=output, adapter_digest="a" * 64).id
    with transaction(db_engine) as session:
        row = inferences.get_inference(session, inference_id)
    assert (row.output, row.adapter_digest, row.label, row.task) == (output, "a" * 64, "billing", CLASSIFICATION)


def test_unknown_inference_raises(db_engine):
    with transaction(db_engine) as session, pytest.raises(RowNotFoundError, match="there is no inference 5"):
        inferences.get_inference(session, 5)


def test_latest_inference_is_the_newest_of_that_ticket_and_task(db_engine):
    with transaction(db_engine) as session:
        ticket, other = add_ticket(session), add_ticket(session)
        add_inference(session, ticket)
        newest = add_inference(session, ticket)
        summary = add_inference(session, ticket, task=SUMMARY)
        elsewhere = add_inference(session, other)
        assert inferences.latest_inference(session, ticket_id=ticket.id, task=CLASSIFICATION) is newest
        assert inferences.latest_inference(session, ticket_id=ticket.id, task=SUMMARY) is summary
        assert inferences.latest_inference(session, ticket_id=other.id, task=SUMMARY) is None
        many = inferences.latest_inferences(session, [ticket.id, other.id, 999], task=CLASSIFICATION)
    assert many == {ticket.id: newest, other.id: elsewhere}


def test_decided_tickets_carry_text_and_the_label_people_chose_newest_first(db_engine):
    with transaction(db_engine) as session:
        accepted = add_ticket(session, text="invoice wrong")
        add_feedback(session, add_inference(session, accepted))
        overridden = add_ticket(session, text="cannot log in")
        add_feedback(session, add_inference(session, overridden), kind=FeedbackKind.OVERRIDE, value="access")
        decided = inferences.list_decided(session)
        later = inferences.list_decided(session, after_id=decided[-1].example_id)
    assert [(row.ticket_id, row.text, row.label) for row in decided] == [
        (overridden.id, "cannot log in", "access"),
        (accepted.id, "invoice wrong", "billing"),
    ]
    assert later == decided[:1]


def test_decided_tickets_leave_out_handoffs_withdrawn_blind_golden_and_summaries(db_engine):
    with transaction(db_engine) as session:
        add_feedback(session, kind=FeedbackKind.HANDOFF)
        withdrawn = add_feedback(session)
        examples.withdraw_example(session, withdrawn.example_id, actor="ana", reason="wrong")
        add_feedback(session, add_inference(session, is_blind=True))
        golden = add_feedback(session)
        examples.record_splits(session, {golden.example_id: Split.GOLDEN})
        add_feedback(session, add_inference(session, task=SUMMARY))
        kept = add_feedback(session)
        examples.record_splits(session, {kept.example_id: Split.TRAIN})
        assert [row.example_id for row in inferences.list_decided(session)] == [kept.example_id]
