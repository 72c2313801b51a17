"""The dataset card says what a run learned from, in counts that add up, and holds no text."""

import json

from bot.training_settings import TrainingSettings
from db.queries.examples import NewExample, add_examples, iterate_examples
from db.queries.provenance import NO_FEEDBACK, UNTICKETED, count_provenance
from db.session import transaction
from db.types import FeedbackKind, Split, TaskKind
from tests.support.db_rows import add_feedback, add_inference, add_ticket
from tests.training.test_dataset import LABELS, build, make_example, make_text
from training.card import build_card, render_card, write_card


def make_card(dataset, **settings):
    return build_card(
        dataset,
        run_id=7,
        settings=TrainingSettings(**settings),
        versions={"base_digest": "b" * 64, "label_set_version": "v1", "prompt_version": "1"},
        sources={"import": 90},
        kinds={"accept": 80, "override": 10},
        questions={"label_noise": 2},
    )


def make_dataset():
    examples = [make_example(number) for number in range(1, 201)]
    examples[0].split = Split.GOLDEN
    examples[1].is_blind = True
    examples += [make_example(501, text=make_text(9)), make_example(502, "gone")]
    examples += [make_example(number, target, text="badge | lost") for number, target in ((503, "access"), (504, "billing"))]
    return build(examples)


def test_the_counts_of_a_card_add_up_and_name_what_was_left_out():
    dataset = make_dataset()
    card = make_card(dataset)
    splits = card["splits"]
    used = splits["train"] + splits["train_handoffs"] + splits["validation"] + splits["test"]
    assert used + sum(card["left_out"].values()) == card["n_seen"] == 204
    assert (splits["test_golden"], splits["test_blind"]) == (1, 1)
    assert sum(sum(parts.values()) for parts in card["labels"].values()) == used
    assert set(card["labels"]) == set(LABELS)
    assert card["unknown_labels"] == {"gone": 1}
    assert card["questions"] == {"contradictions": 1, "disagreements": 0, "new_in_queue": {"label_noise": 2}}
    assert card["digest"] == dataset.digest
    assert card["created_between"][0] < card["created_between"][1]
    assert card["how"]["near_duplicates"]["threshold"] == TrainingSettings().near_duplicate


def test_a_card_is_written_as_json_and_as_a_page_without_any_text(tmp_path):
    dataset = make_dataset()
    path = write_card(make_card(dataset), tmp_path / "run")
    page = (tmp_path / "run" / "dataset.md").read_text()
    assert json.loads(path.read_text()) == make_card(dataset)
    assert page == render_card(make_card(dataset))
    assert "| access |" in page
    assert "new questions in the review queue: 2; label noise 2" in page
    texts = [item.text for items in (dataset.train, dataset.validation, dataset.test) for item in items]
    assert not any(text in page or text in path.read_text() for text in texts)


def test_a_card_of_nothing_can_be_read():
    card = make_card(build([]))
    assert card["created_between"] == []
    assert "0 examples to learn from" in render_card(card)


def test_examples_are_counted_by_where_they_come_from_and_what_people_did(db_engine):
    with transaction(db_engine) as session:
        rows = [NewExample(text=f"text {number}", target="a") for number in range(3)]
        add_examples(session, rows, task=TaskKind.CLASSIFICATION, label_set_version="v1", actor="ana")
        for plugin, kind in (("slack", FeedbackKind.ACCEPT), ("slack", FeedbackKind.HANDOFF), ("zendesk", FeedbackKind.ACCEPT)):
            add_feedback(session, add_inference(session, add_ticket(session, plugin=plugin)), kind=kind)
        ids = [row.id for row in iterate_examples(session, TaskKind.CLASSIFICATION)]
        assert count_provenance(session, ids) == (
            {UNTICKETED: 3, "slack": 2, "zendesk": 1},
            {NO_FEEDBACK: 3, "accept": 2, "handoff": 1},
        )
        assert count_provenance(session, ids[:1]) == ({UNTICKETED: 1}, {NO_FEEDBACK: 1})
