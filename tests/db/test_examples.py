"""Examples: streaming, counting, splits, withdrawal, imports."""

import pytest

from db.errors import RowNotFoundError
from db.queries import audit, examples
from db.queries.examples import NewExample
from db.session import transaction
from db.types import FeedbackKind, Split
from tests.support.db_rows import CLASSIFICATION, SUMMARY, add_feedback, add_inference, add_ticket


def add(session, targets, **values):
    rows = (NewExample(text=f"text {number}", target=target) for number, target in enumerate(targets))
    return examples.add_examples(session, rows, **({"task": CLASSIFICATION, "label_set_version": "v1", "actor": "ana"} | values))


@pytest.mark.parametrize("chunk", [1, 3, 7, 8])
def test_streaming_yields_every_example_once_in_order_whatever_the_chunk(db_engine, chunk):
    with transaction(db_engine) as session:
        assert add(session, "abcdefg") == 7
        add(session, "zz", task=SUMMARY)
        rows = list(examples.iterate_examples(session, CLASSIFICATION, chunk=chunk))
        assert [row.target for row in rows] == list("abcdefg")
        assert not session.identity_map.values()


def test_streaming_leaves_withdrawn_ones_out_unless_asked_and_filters_by_split(db_engine):
    with transaction(db_engine) as session:
        add(session, "ab", split=Split.GOLDEN)
        add(session, "cd")
        first = next(examples.iterate_examples(session, CLASSIFICATION))
        examples.withdraw_example(session, first.id, actor="ana", reason="duplicate")

        def get_targets(**values):
            return [row.target for row in examples.iterate_examples(session, CLASSIFICATION, **values)]

        assert get_targets() == ["b", "c", "d"]
        assert get_targets(has_withdrawn=True) == ["a", "b", "c", "d"]
        assert get_targets(split=Split.GOLDEN) == ["b"]


def test_import_larger_than_a_chunk_is_complete_and_audited_once(db_engine):
    with transaction(db_engine) as session:
        assert add(session, ["x"] * 2_345, split=Split.GOLDEN) == 2_345
        assert examples.count_examples(session, CLASSIFICATION, split=Split.GOLDEN) == 2_345
        rows = audit.list_audit(session, action=examples.ACTION_ADDED)
    assert [row.detail for row in rows] == [{"count": 2_345, "split": "golden", "label_set_version": "v1"}]


def test_single_imported_example_keeps_its_ticket_and_split(db_engine):
    with transaction(db_engine) as session:
        ticket = add_ticket(session)
        values = {"text": "a\x00b", "target": "billing", "label_set_version": "v1", "split": Split.GOLDEN, "group_key": "acme"}
        example_id = examples.add_example(session, ticket_id=ticket.id, task=CLASSIFICATION, **values).id
    with transaction(db_engine) as session:
        row = examples.get_example(session, example_id)
    assert (row.ticket_id, row.text, row.target, row.split, row.group_key) == (ticket.id, "ab", "billing", Split.GOLDEN, "acme")
    assert (row.weight, row.is_negative, row.is_blind, row.is_withdrawn, row.turns) == (1.0, False, False, False, [])


def test_counts_per_label_leave_out_negative_and_withdrawn(db_engine):
    with transaction(db_engine) as session:
        add(session, "abbb")
        add(session, "b", label_set_version="v2")
        add_feedback(session, add_inference(session, label="a"), kind=FeedbackKind.HANDOFF)
        gone = add_feedback(session, add_inference(session, label="a"))
        examples.withdraw_example(session, gone.example_id, actor="ana", reason="r")
        assert list(examples.count_per_label(session).items()) == [("b", 4), ("a", 1)]
        assert examples.count_per_label(session, label_set_version="v2") == {"b": 1}
        assert examples.count_examples(session, CLASSIFICATION) == 6


def test_splits_are_written_back_to_the_examples_named(db_engine):
    with transaction(db_engine) as session:
        add(session, "abc")
        ids = [row.id for row in examples.iterate_examples(session, CLASSIFICATION)]
        held = examples.get_example(session, ids[0])
        examples.record_splits(session, {ids[0]: Split.TRAIN, ids[2]: Split.TEST})
        assert held.split is Split.TRAIN
    with transaction(db_engine) as session:
        splits = [row.split for row in examples.iterate_examples(session, CLASSIFICATION)]
    assert splits == [Split.TRAIN, None, Split.TEST]


def test_withdrawing_twice_is_audited_once(db_engine):
    with transaction(db_engine) as session:
        add(session, "a")
        example_id = next(examples.iterate_examples(session, CLASSIFICATION)).id
        for _ in range(2):
            examples.withdraw_example(session, example_id, actor="ana", reason="personal data")
        rows = audit.list_audit(session, action=examples.ACTION_WITHDRAWN)
    assert [(row.subject_id, row.detail) for row in rows] == [(str(example_id), {"reason": "personal data"})]


def test_unknown_example_raises(db_engine):
    with transaction(db_engine) as session, pytest.raises(RowNotFoundError):
        examples.withdraw_example(session, 4, actor="ana", reason="r")
