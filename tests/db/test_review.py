"""The review queue: asked once, settled once, and what the answer does to the examples."""

import pytest

from db.errors import InvalidValueError, RowNotFoundError, StateConflictError
from db.queries import answers, audit, examples, golden, review, tickets
from db.session import transaction
from db.types import FeedbackKind, ReviewKind, ReviewStatus, Split, TaskKind, TicketStatus
from tests.support.db_rows import CLASSIFICATION, SUMMARY, add_feedback, add_inference, add_ticket


def add(session, target, text="my printer is broken", **values):
    return examples.add_example(
        session, ticket_id=None, task=CLASSIFICATION, text=text, target=target, label_set_version="v1", **values
    )


def ask(session, rows, **values):
    sides = review.build_example_sides(session, [row.id for row in rows])
    defaults = {"kind": ReviewKind.CONTRADICTION, "task": CLASSIFICATION, "key": "k", "sides": sides}
    return review.ask(session, **(defaults | values))


def resolve(session, item, **values):
    return answers.resolve(session, item.id, **({"label": "access", "actor": "lead", "label_set_version": "v1"} | values))


def get_live(session):
    return [(row.text, row.target, row.split) for row in examples.iterate_examples(session, CLASSIFICATION)]


def test_the_same_question_is_asked_once_and_shows_both_sides(db_engine):
    with transaction(db_engine) as session:
        rows = [add(session, "access"), add(session, "hardware")]
        item = ask(session, rows)
        assert ask(session, rows) is None
        sides = review.list_sides(session, [item.id])[item.id]
        assert [(side.example_id, side.label, side.actor) for side in sides] == [
            (rows[0].id, "access", "import"),
            (rows[1].id, "hardware", "import"),
        ]
        assert review.count_open(session) == {ReviewKind.CONTRADICTION: 1}


def test_a_settled_question_is_asked_anew_when_another_example_joins_and_that_is_audited(db_engine):
    with transaction(db_engine) as session:
        rows = [add(session, "access"), add(session, "hardware")]
        item = ask(session, rows)
        review.dismiss(session, item.id, actor="lead")
        assert ask(session, rows) is None
        assert ask(session, [*rows, add(session, "billing")]).id == item.id
        assert (item.status, item.resolved_by) == (ReviewStatus.OPEN, None)
        assert len(review.list_sides(session, [item.id])[item.id]) == 3
        assert len(audit.list_audit(session, action=review.ACTION_REOPENED)) == 1


def test_questions_are_listed_by_priority_and_filtered(db_engine):
    with transaction(db_engine) as session:
        rows = [add(session, "access")]
        for number, (kind, priority) in enumerate([("contradiction", 0.1), ("label_noise", 0.9), ("flagged", 0.5)]):
            ask(session, rows, kind=ReviewKind(kind), priority=priority, key=str(number))
        assert [item.priority for item in review.list_items(session)] == [0.9, 0.5, 0.1]
        assert [item.kind for item in review.list_items(session, limit=1)] == ["label_noise"]
        assert len(review.list_items(session, kind=ReviewKind.FLAGGED)) == 1
        assert review.list_items(session, status=ReviewStatus.RESOLVED) == []


def test_resolving_keeps_the_right_label_and_withdraws_the_other_with_an_audit_trail(db_engine):
    with transaction(db_engine) as session:
        rows = [add(session, "access"), add(session, "hardware")]
        item = ask(session, rows)
        answer = resolve(session, item)
        assert (answer.kept, answer.withdrawn, answer.added) == ((rows[0].id,), (rows[1].id,), ())
        assert get_live(session) == [("my printer is broken", "access", None)]
        assert (item.status, item.resolution, item.resolved_by) == (ReviewStatus.RESOLVED, "access", "lead")
        trail = [(row.action, row.actor) for row in audit.list_audit(session)]
        assert {(review.ACTION_RESOLVED, "lead"), (examples.ACTION_WITHDRAWN, "lead")} <= set(trail)
        with pytest.raises(StateConflictError, match="resolved already, by lead"):
            resolve(session, item)


def test_a_third_label_replaces_both_sides_of_each_text_within_the_same_part(db_engine):
    with transaction(db_engine) as session:
        rows = [add(session, "access", split=Split.TRAIN), add(session, "hardware"), add(session, "hardware", text="other words")]
        answer = resolve(session, ask(session, rows), label="billing")
        assert len(answer.added) == 2
        assert get_live(session) == [("my printer is broken", "billing", Split.TRAIN), ("other words", "billing", None)]


def test_withdrawing_leaves_nothing_and_cannot_be_golden(db_engine):
    with transaction(db_engine) as session:
        item = ask(session, [add(session, "access"), add(session, "hardware")])
        with pytest.raises(InvalidValueError, match="cannot become golden"):
            resolve(session, item, label=None, is_golden=True)
        assert resolve(session, item, label=None).item.resolution == answers.WITHDRAWN
        assert get_live(session) == []


def test_a_resolved_example_may_become_golden_unless_a_model_has_learned_from_it(db_engine):
    with transaction(db_engine) as session:
        resolve(session, ask(session, [add(session, "access")]), is_golden=True)
        assert get_live(session) == [("my printer is broken", "access", Split.GOLDEN)]
    with transaction(db_engine) as session:
        item = ask(session, [add(session, "access", text="seen", split=Split.TRAIN)], key="seen")
        with pytest.raises(InvalidValueError, match="has learned from it already"):
            resolve(session, item, is_golden=True)


def test_dismissing_changes_no_example(db_engine):
    with transaction(db_engine) as session:
        item = ask(session, [add(session, "access"), add(session, "hardware")])
        review.dismiss(session, item.id, actor="lead", reason="both are right")
        assert len(get_live(session)) == 2
        assert audit.list_audit(session, action=review.ACTION_DISMISSED)[0].detail["reason"] == "both are right"
        assert review.list_settled_examples(session, ReviewKind.CONTRADICTION) == {1, 2}


def test_two_people_who_decide_one_ticket_differently_are_a_question_and_one_person_is_not(db_engine):
    with transaction(db_engine) as session:
        inference = add_inference(session)
        add_feedback(session, inference, actor="ana")
        add_feedback(session, inference, actor="ana", kind=FeedbackKind.OVERRIDE, value="access")
        assert review.list_items(session) == []
        add_feedback(session, inference, actor="bo", kind=FeedbackKind.OVERRIDE, value="hardware")
        (item,) = review.list_items(session)
        assert item.kind is ReviewKind.REVIEWER_DISAGREEMENT
        sides = review.list_sides(session, [item.id])[item.id]
        assert [(side.actor, side.label) for side in sides] == [("ana", "access"), ("bo", "hardware")]
        resolve(session, item, label="access")
        assert [target for _, target, _ in get_live(session)] == ["access"]


def test_a_decision_after_the_question_was_asked_is_part_of_the_answer(db_engine):
    with transaction(db_engine) as session:
        inference = add_inference(session)
        for actor, label in (("ana", "access"), ("bo", "hardware"), ("bo", "billing")):
            add_feedback(session, inference, actor=actor, kind=FeedbackKind.OVERRIDE, value=label)
        (item,) = review.list_items(session)
        assert [side.label for side in review.list_sides(session, [item.id])[item.id]] == ["access", "hardware"]
        resolve(session, item, label="access")
        assert [target for _, target, _ in get_live(session)] == ["access"]


def test_an_unsure_answer_is_asked_about_once_and_settled_by_the_feedback(db_engine):
    with transaction(db_engine) as session:
        unsure = [add_inference(session, confidence=confidence) for confidence in (0.3, 0.2)]
        add_inference(session, confidence=0.8)
        add_inference(session, confidence=0.1, is_blind=True)
        add_inference(session, confidence=0.1, label_set_version="old")
        assert review.collect_low_confidence(session, below=0.5, label_set_version="v1", limit=10) == 2
        assert review.collect_low_confidence(session, below=0.5, label_set_version="v1", limit=10) == 0
        items = review.list_items(session)
        assert [item.priority for item in items] == pytest.approx([0.8, 0.7])
        add_feedback(session, unsure[1], actor="ana", kind=FeedbackKind.OVERRIDE, value="access")
        assert (items[0].status, items[0].resolution, items[0].resolved_by) == (ReviewStatus.RESOLVED, "access", "ana")
        assert [item.id for item in review.list_items(session)] == [items[1].id]


def test_resolving_an_unsure_answer_writes_an_example_and_decides_the_ticket(db_engine):
    with transaction(db_engine) as session:
        ticket = add_ticket(session, group_key="acme")
        add_inference(session, ticket, confidence=0.2)
        review.collect_low_confidence(session, below=0.5, label_set_version="v1", limit=10)
        (item,) = review.list_items(session)
        resolve(session, item, texts={ticket.id: "what the model read"})
        assert get_live(session) == [("what the model read", "access", None)]
        assert tickets.get_ticket(session, ticket.id).status is TicketStatus.DECIDED


def test_a_flag_is_a_question_with_its_reason_and_a_second_one_is_refused_until_it_is_settled(db_engine):
    with transaction(db_engine) as session:
        row = add(session, "access")
        item = review.flag(session, example_id=row.id, actor="ana", reason="looks odd")
        with pytest.raises(StateConflictError, match="flagged already"):
            review.flag(session, example_id=row.id, actor="bo")
        review.dismiss(session, item.id, actor="lead")
        assert review.flag(session, example_id=row.id, actor="bo", reason="still odd").id == item.id
        assert (item.status, item.reason) == (ReviewStatus.OPEN, "still odd")
        with pytest.raises(RowNotFoundError):
            review.flag(session, example_id=999, actor="ana")


def test_a_summary_is_withdrawn_or_kept_but_takes_no_label(db_engine):
    with transaction(db_engine) as session:
        add_feedback(session, add_inference(session, task=SUMMARY), actor="ana")
        item = review.flag(session, example_id=1, actor="ana")
        with pytest.raises(InvalidValueError, match="about a summary"):
            resolve(session, item)
        assert resolve(session, item, label=None).withdrawn == (1,)


def test_golden_examples_are_added_listed_and_removed_and_never_return_to_training(db_engine):
    with transaction(db_engine) as session:
        row = add(session, "access")
        golden.add_golden(session, row.id, actor="lead")
        golden.add_golden(session, row.id, actor="lead")
        assert [found.id for found in golden.list_golden(session, TaskKind.CLASSIFICATION)] == [row.id]
        assert golden.remove_golden(session, row.id, actor="lead").split is Split.TEST
        with pytest.raises(InvalidValueError, match="not golden"):
            golden.remove_golden(session, row.id, actor="lead")
        actions = [entry.action for entry in audit.list_audit(session, subject_type="example")]
        assert actions == [golden.ACTION_REMOVED, golden.ACTION_ADDED]


@pytest.mark.parametrize("fault", ["withdrawn", "handoff"])
def test_what_cannot_judge_cannot_be_golden(db_engine, fault):
    with transaction(db_engine) as session:
        row = add(session, "access")
        row.is_withdrawn, row.is_negative = fault == "withdrawn", fault == "handoff"
        with pytest.raises(InvalidValueError, match="cannot become golden"):
            golden.add_golden(session, row.id, actor="lead")
