"""The review queue and the golden set from the command line."""

import json

import pytest
from typer.testing import CliRunner

from bot.app import load_labels, open_database
from bot.cli.common import read_settings
from bot.cli.main import app
from bot.errors import UserError
from bot.review import list_review
from db.errors import InvalidValueError
from db.queries import examples, review
from db.session import transaction
from db.types import ReviewKind, TaskKind
from tests.support.db_rows import add_inference, add_ticket

CLASSIFICATION = TaskKind.CLASSIFICATION


@pytest.fixture
def db_engine(home):
    db_engine = open_database(read_settings())
    yield db_engine
    db_engine.dispose()


def run(*arguments):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def fill(db_engine):
    """Two examples of one text with different labels, and the question about them."""
    with transaction(db_engine) as session:
        rows = [
            examples.add_example(
                session, ticket_id=None, task=CLASSIFICATION, text="<PERSON_1> lost a badge", target=label, label_set_version="v1"
            )
            for label in ("Access", "Hardware")
        ]
        sides = review.build_example_sides(session, [row.id for row in rows])
        key = review.build_key(ReviewKind.CONTRADICTION, CLASSIFICATION, 1)
        return review.ask(session, kind=ReviewKind.CONTRADICTION, task=CLASSIFICATION, key=key, sides=sides).id


def test_a_question_is_listed_and_shown_with_both_sides(db_engine):
    item_id = fill(db_engine)
    (listed,) = json.loads(run("review", "list", "--json"))
    assert [side["label"] for side in listed["sides"]] == ["Access", "Hardware"]
    assert "Access / Hardware" in run("review", "list")
    shown = run("review", "show", item_id)
    assert shown.count("<PERSON_1> lost a badge") == 1
    assert "Hardware: import" in shown
    assert json.loads(run("review", "show", item_id, "--json"))["sides"][0]["is_used"]
    assert "No resolved questions" in run("review", "list", "--status", "resolved")


def test_a_question_is_resolved_into_the_golden_set(db_engine):
    item_id = fill(db_engine)
    answer = json.loads(run("review", "resolve", item_id, "--label", "Hardware", "--golden", "--json"))
    assert (answer["kept"], answer["withdrawn"], answer["golden"]) == ([2], [1], [2])
    assert json.loads(run("golden", "list", "--json")) == {
        "total": 1,
        "examples": [{"id": 2, "target": "Hardware", "text": "<PERSON_1> lost a badge"}],
    }
    assert "(withdrawn)" in run("review", "show", item_id)
    run("golden", "remove", 2)
    assert json.loads(run("golden", "list", "--json"))["total"] == 0
    run("golden", "add", 2)
    assert "1 examples" in run("golden", "list")


def test_a_label_outside_the_label_set_or_no_answer_at_all_is_refused(db_engine):
    item_id = fill(db_engine)
    with pytest.raises(InvalidValueError, match="not in the label set"):
        run("review", "resolve", item_id, "--label", "Nope")
    for arguments in ((), ("--label", "Access", "--withdraw")):
        with pytest.raises(UserError, match="either which label is right"):
            run("review", "resolve", item_id, *arguments)
    assert len(json.loads(run("review", "list", "--json"))) == 1


def test_examples_are_flagged_with_a_masked_reason_and_dismissed(db_engine):
    fill(db_engine)
    flagged = json.loads(run("review", "flag", 1, "--reason", "ask maria@example.com about it", "--json"))
    shown = json.loads(run("review", "show", flagged["id"], "--json"))
    assert "maria@example.com" not in shown["reason"]
    assert "<EMAIL" in shown["reason"]
    run("review", "dismiss", flagged["id"])
    assert json.loads(run("review", "list", "--status", "dismissed", "--json"))[0]["id"] == flagged["id"]


def test_unsure_answers_are_collected_and_shown_with_what_the_model_read(db_engine):
    version = load_labels(read_settings()).version
    with transaction(db_engine) as session:
        ticket = add_ticket(session, subject="printer", text="jam")
        output = {"candidates": [["Hardware", 0.3], ["Access", 0.2]]}
        add_inference(session, ticket, label="Hardware", confidence=0.3, label_set_version=version, output=output)
    assert json.loads(run("review", "collect", "--json")) == {"asked": 1}
    with transaction(db_engine) as session:
        (item,) = list_review(session)
        assert [(side.label, side.confidence, side.text) for side in item.sides] == [
            ("Hardware", 0.3, "printer\njam"),
            ("Access", 0.2, "printer\njam"),
        ]
    run("review", "resolve", item.id, "--label", "Access")
    with transaction(db_engine) as session:
        (row,) = examples.iterate_examples(session, CLASSIFICATION)
        assert (row.text, row.target, row.ticket_id) == ("printer\njam", "Access", ticket.id)
