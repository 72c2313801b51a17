"""Feedback: what a click teaches, once per key, and what replaces what."""

import pytest
from sqlmodel import select

from db.errors import InvalidValueError, RowNotFoundError
from db.queries import audit, examples, feedback
from db.queries.feedback import FeedbackWeights, Lesson, build_lesson
from db.session import transaction
from db.tables import Example, FeedbackRow
from db.types import FeedbackKind
from tests.support.db_rows import CLASSIFICATION, SUMMARY, add_feedback, add_inference, add_ticket

ACCEPT, EDIT, OVERRIDE, HANDOFF = FeedbackKind.ACCEPT, FeedbackKind.EDIT, FeedbackKind.OVERRIDE, FeedbackKind.HANDOFF


@pytest.mark.parametrize(
    ("kind", "value", "decision_ms", "is_blind", "expected"),
    [
        (ACCEPT, None, None, False, Lesson("billing", "billing", 0.5, is_negative=False, is_blind=False)),
        (ACCEPT, "billing", 4_000, False, Lesson("billing", "billing", 0.5, is_negative=False, is_blind=False)),
        (ACCEPT, None, 3_999, False, Lesson("billing", "billing", 0.2, is_negative=False, is_blind=False)),
        (ACCEPT, None, 0, False, Lesson("billing", "billing", 0.2, is_negative=False, is_blind=False)),
        (ACCEPT, None, 10, True, Lesson("billing", "billing", 1.0, is_negative=False, is_blind=True)),
        (OVERRIDE, "refund", 10, False, Lesson("refund", "billing", 1.0, is_negative=False, is_blind=False)),
        (OVERRIDE, "refund", None, True, Lesson("refund", "billing", 1.0, is_negative=False, is_blind=True)),
        (EDIT, "Better.", None, False, Lesson("Better.", "billing", 1.0, is_negative=False, is_blind=False)),
        (HANDOFF, None, 10, False, Lesson("billing", None, 0.3, is_negative=True, is_blind=False)),
    ],
)
def test_lesson_of_each_kind(kind, value, decision_ms, is_blind, expected):
    assert build_lesson(kind=kind, suggestion="billing", value=value, decision_ms=decision_ms, is_blind=is_blind) == expected


def test_lesson_uses_the_weights_given():
    weights = FeedbackWeights(accept=0.7, quick_accept=0.1, quick_accept_ms=1_000)
    made = [
        build_lesson(kind=ACCEPT, suggestion="x", value=None, decision_ms=ms, is_blind=False, weights=weights).weight
        for ms in (999, 1_000)
    ]
    assert made == [0.1, 0.7]


def test_handoff_without_a_suggestion_teaches_nothing():
    assert build_lesson(kind=HANDOFF, suggestion=None, value=None, decision_ms=None, is_blind=False) is None


@pytest.mark.parametrize(
    ("kind", "suggestion", "value", "reason"),
    [
        (ACCEPT, None, None, "no suggestion to accept"),
        (ACCEPT, "billing", "refund", "cannot carry another value"),
        (OVERRIDE, "billing", None, "needs a value"),
        (EDIT, "billing", " \n", "needs a value"),
    ],
)
def test_feedback_that_makes_no_sense_is_refused(kind, suggestion, value, reason):
    with pytest.raises(InvalidValueError, match=reason):
        build_lesson(kind=kind, suggestion=suggestion, value=value, decision_ms=None, is_blind=False)


def test_override_stores_row_and_example_together(db_engine):
    with transaction(db_engine) as session:
        turns = [{"speaker": "customer", "text": "t"}]
        ticket = add_ticket(session, text="masked <PERSON_1>", turns=turns, group_key="acme")
        result = add_feedback(
            session, add_inference(session, ticket), kind=OVERRIDE, value="refund", reason="it is about money back"
        )
    with transaction(db_engine) as session:
        row = session.get_one(FeedbackRow, result.feedback.id)
        example = examples.get_example(session, result.example_id)
    assert (result.is_new, result.replaced_id) == (True, None)
    assert (row.kind, row.value, row.reason, row.ticket_id) == (OVERRIDE, "refund", "it is about money back", ticket.id)
    assert (example.text, example.turns, example.group_key, example.label_set_version) == (
        "masked <PERSON_1>",
        turns,
        "acme",
        "v1",
    )
    assert (example.target, example.draft, example.weight, example.feedback_id) == ("refund", "billing", 1.0, row.id)


def test_edited_summary_keeps_the_draft(db_engine):
    with transaction(db_engine) as session:
        result = add_feedback(session, add_inference(session, task=SUMMARY), kind=EDIT, value="Printer on floor 2.")
        example = examples.get_example(session, result.example_id)
    assert (example.task, example.target, example.draft) == (SUMMARY, "Printer on floor 2.", "The printer is broken.")


def test_blind_inference_makes_a_blind_example(db_engine):
    with transaction(db_engine) as session:
        result = add_feedback(session, add_inference(session, is_blind=True), kind=OVERRIDE, value="refund")
        example = examples.get_example(session, result.example_id)
    assert (example.is_blind, example.weight) == (True, 1.0)


def test_same_key_twice_gives_the_first_row_and_one_example(db_engine):
    with transaction(db_engine) as session:
        inference = add_inference(session)
        first = add_feedback(session, inference, idempotency_key="click", kind=OVERRIDE, value="refund")
    with transaction(db_engine) as session:
        again = add_feedback(session, inference, idempotency_key="click", kind=ACCEPT)
        assert (again.is_new, again.feedback.id, again.example_id) == (False, first.feedback.id, first.example_id)
        assert again.feedback.kind is OVERRIDE
        assert examples.count_examples(session, CLASSIFICATION) == 1


def test_same_key_on_another_inference_is_refused(db_engine):
    with transaction(db_engine) as session:
        add_feedback(session, idempotency_key="click")
        with pytest.raises(InvalidValueError, match="make keys unique per click"):
            add_feedback(session, add_inference(session), idempotency_key="click")


def test_new_key_replaces_the_earlier_feedback_withdraws_its_example_and_is_audited(db_engine):
    with transaction(db_engine) as session:
        inference = add_inference(session)
        first = add_feedback(session, inference, kind=ACCEPT)
        second = add_feedback(session, inference, kind=OVERRIDE, value="refund", actor="bo")
    with transaction(db_engine) as session:
        earlier = session.get_one(FeedbackRow, first.feedback.id)
        counting = list(examples.iterate_examples(session, CLASSIFICATION))
        rows = audit.list_audit(session, action=feedback.ACTION_REPLACED)
        assert examples.get_example(session, first.example_id).is_withdrawn
        assert feedback.get_feedback(session, inference_id=inference.id).id == second.feedback.id
        assert [row.id for row in feedback.list_feedback(session, ticket_id=inference.ticket_id)] == [
            earlier.id,
            second.feedback.id,
        ]
        latest = feedback.latest_decisions(session, [inference.ticket_id], task=CLASSIFICATION)
        assert latest[inference.ticket_id].id == second.feedback.id
    assert (second.replaced_id, earlier.replaced_by_id) == (earlier.id, second.feedback.id)
    assert [example.target for example in counting] == ["refund"]
    assert [(row.actor, row.subject_id, row.detail["earlier_kind"]) for row in rows] == [("bo", str(earlier.id), "accept")]


def test_repeated_click_that_replaced_another_still_says_which(db_engine):
    with transaction(db_engine) as session:
        inference = add_inference(session)
        first = add_feedback(session, inference)
        add_feedback(session, inference, kind=OVERRIDE, value="refund", idempotency_key="second")
        again = add_feedback(session, inference, kind=OVERRIDE, value="refund", idempotency_key="second")
    assert (again.is_new, again.replaced_id) == (False, first.feedback.id)


def test_third_feedback_replaces_the_second_and_one_counts(db_engine):
    with transaction(db_engine) as session:
        inference = add_inference(session)
        results = [add_feedback(session, inference, kind=OVERRIDE, value=value) for value in ("a", "b", "c")]
        assert results[2].replaced_id == results[1].feedback.id
        assert [row.target for row in examples.iterate_examples(session, CLASSIFICATION)] == ["c"]


def test_unknown_inference_raises_and_stores_nothing(db_engine):
    with transaction(db_engine) as session:
        with pytest.raises(RowNotFoundError):
            feedback.record_feedback(session, inference_id=9, kind=ACCEPT, actor="a", idempotency_key="k")
        assert session.exec(select(FeedbackRow)).all() == []


def test_refused_feedback_stores_nothing(db_engine):
    with transaction(db_engine) as session:
        with pytest.raises(InvalidValueError):
            add_feedback(session, kind=OVERRIDE)
        assert session.exec(select(FeedbackRow)).all() == []
        assert session.exec(select(Example)).all() == []


def test_correction_reaches_the_feedback_on_an_earlier_inference_of_the_ticket(db_engine):
    with transaction(db_engine) as session:
        ticket = add_ticket(session)
        first = add_feedback(session, add_inference(session, ticket), kind=ACCEPT)
        on_summary = add_feedback(session, add_inference(session, ticket, task=SUMMARY))
        elsewhere = add_feedback(session)
        later = add_inference(session, ticket, label="hardware")
        second = add_feedback(session, later, kind=OVERRIDE, value="refund")
    with transaction(db_engine) as session:
        targets = [row.target for row in examples.iterate_examples(session, CLASSIFICATION)]
        latest = feedback.latest_decisions(session, [ticket.id], task=CLASSIFICATION)
        replaced = [row.subject_id for row in audit.list_audit(session, action=feedback.ACTION_REPLACED)]
        assert examples.get_example(session, first.example_id).is_withdrawn
        assert not examples.get_example(session, on_summary.example_id).is_withdrawn
        assert feedback.get_feedback(session, inference_id=first.feedback.inference_id) is None
        assert feedback.get_feedback(session, inference_id=later.id).id == second.feedback.id
    assert second.replaced_id == first.feedback.id
    assert replaced == [str(first.feedback.id)]
    assert latest[ticket.id].id == second.feedback.id
    assert targets == [elsewhere.feedback.value, "refund"]


def test_accepted_label_stays_what_it_was_when_the_ticket_is_classified_anew(db_engine):
    with transaction(db_engine) as session:
        ticket = add_ticket(session)
        label = add_feedback(session, add_inference(session, ticket, label="billing"))
        summary = add_feedback(session, add_inference(session, ticket, task=SUMMARY))
        add_inference(session, ticket, label="hardware")
    with transaction(db_engine) as session:
        latest = feedback.latest_decisions(session, [ticket.id], task=CLASSIFICATION)
    assert (latest[ticket.id].id, latest[ticket.id].value) == (label.feedback.id, "billing")
    assert summary.feedback.value is None
