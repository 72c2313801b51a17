"""The commands on adapters: what they print and what they change, against a home folder with a history."""

import json

import pytest
from typer.testing import CliRunner

from bot.app import open_database
from bot.cli import adapters as commands
from bot.cli.common import read_settings
from bot.cli.main import app
from db.errors import StateConflictError
from db.queries import adapters, examples, lineage, runs
from db.queries.timeline import build_timeline
from db.session import transaction
from db.types import AdapterStatus, MaskedText, RunStatus, Split, TaskKind
from tests.support.db_rows import CLASSIFICATION, add_adapter, add_run, add_ticket

DIGEST = "c" * 64


@pytest.fixture
def say(home):
    """Run a command and return what it printed; a failure is raised."""

    def run(*words):
        result = CliRunner().invoke(app, list(words), env={"COLUMNS": "240"})
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.stdout

    return run


@pytest.fixture
def database(say):
    engine = open_database(read_settings())
    yield engine
    engine.dispose()


@pytest.fixture
def history(database):
    """A candidate that waits for approval, the run it came of and the example of a ticket that it learned from."""
    with transaction(database) as session:
        ticket = add_ticket(session)
        example = examples.add_example(
            session, ticket_id=ticket.id, task=CLASSIFICATION, text=MaskedText("t"), target="billing", label_set_version="v1"
        )
        run = add_run(session)
        lineage.add_run_examples(session, run.id, [(example.id, Split.TRAIN)])
        runs.start_run(session, run.id, actor="t")
        runs.update_progress(session, run.id, data_digest="d" * 64, data_counts={"n_train": 80})
        for status in (RunStatus.TRAINING, RunStatus.EVALUATING):
            runs.advance_run(session, run.id, status=status, actor="t")
        add_adapter(session, DIGEST, run_id=run.id)
        runs.finish_run(session, run.id, status=RunStatus.AWAITING_APPROVAL, actor="t", adapter_digest=DIGEST)
        return {"ticket": ticket.id, "example": example.id, "run": run.id}


def act_as(monkeypatch, name):
    monkeypatch.setattr(commands, "get_actor", lambda: f"cli:{name}")


def test_timeline_says_what_was_live_on_what_data_and_by_whose_leave(say, history, monkeypatch):
    act_as(monkeypatch, "bo")
    say("promote", DIGEST[:8], "--reason", "looks fine")
    first, second = json.loads(say("timeline", "--task", "classification", "--json"))
    assert (first["digest"], first["until"]) == (None, second["since"])
    assert (second["digest"], second["approved_by"], second["run_id"]) == (DIGEST, ["cli:bo"], history["run"])
    assert (second["data_digest"], second["data_counts"]) == ("d" * 64, {"n_train": 80})
    table = say("timeline")
    assert "looks fine" in table
    assert "80 examples" in table
    (then,) = json.loads(say("timeline", "--task", "classification", "--at", "2020-01-01T12:00:00", "--json"))
    assert then["digest"] is None


def test_under_two_approvals_the_first_promote_says_who_is_missing_and_the_second_one_makes_it_live(
    say, history, monkeypatch, database
):
    monkeypatch.setenv("UNDERSTUDY_TRAINING_APPROVERS_NEEDED", "2")
    act_as(monkeypatch, "ana")
    assert "approved by cli:ana: 1 of 2 approvals" in say("promote", DIGEST)
    with pytest.raises(StateConflictError, match="has approved"):
        say("promote", DIGEST)
    act_as(monkeypatch, "bo")
    assert "is now active" in say("promote", DIGEST)
    with transaction(database) as session:
        assert build_timeline(session, task=CLASSIFICATION)[-1].approved_by == ("cli:ana", "cli:bo")


def test_lineage_leads_from_a_ticket_and_an_example_to_the_adapter_and_back(say, history):
    expected = {"example_id": history["example"], "ticket_id": history["ticket"], "adapter_digest": DIGEST, "split": "train"}
    for words in (["--ticket", str(history["ticket"])], ["--example", str(history["example"])], ["--adapter", DIGEST[:10]]):
        (found,) = json.loads(say("lineage", *words, "--json"))
        assert expected.items() <= found.items()
    assert "train 1" in say("lineage", "--example", str(history["example"]))
    assert "never used" in say("lineage", "--example", "999")


def test_lineage_of_nothing_in_particular_is_refused(say, history):
    with pytest.raises(Exception, match="needs one of --example, --ticket and --adapter"):
        say("lineage")


def test_show_tells_all_of_one_adapter(say, history, home):
    notes = home / "runs" / str(history["run"]) / "notes.md"
    notes.parent.mkdir(parents=True)
    notes.write_text("notes")
    found = json.loads(say("adapters", "show", DIGEST[:8], "--json"))
    assert found["adapter"]["digest"] == DIGEST
    assert found["run"]["data_digest"] == "d" * 64
    assert found["examples"] == {"train": 1}
    assert found["notes"] == {"notes.md": str(notes)}
    assert [row["action"] for row in found["decisions"]] == ["adapter.register"]
    assert "Who did what" in say("adapters", "show", DIGEST[:8])


def test_erased_data_show_in_the_list_and_the_time_line(say, history, database):
    with transaction(database) as session:
        adapters.activate_adapter(session, DIGEST, actor="t", reason="r")
        lineage.erase_examples(session, ticket_ids=[history["ticket"]], actor="ana", reason="asked")
    (row,) = json.loads(say("adapters", "--json"))
    assert row["n_erased"] == 1
    assert "1 examples" in say("adapters")
    assert "1 erased since" in say("timeline")


def test_retire_hands_over_to_the_base_model_and_reject_turns_a_candidate_down(say, history, database):
    with transaction(database) as session:
        live = add_adapter(session, "e" * 64)
        adapters.activate_adapter(session, live.digest, actor="t", reason="r")
    assert "the base model serves classification" in say("adapters", "retire", "--reason", "too slow")
    assert "is rejected" in say("adapters", "reject", DIGEST[:8])
    with transaction(database) as session:
        assert adapters.get_active(session, TaskKind.CLASSIFICATION) is None
        assert adapters.get_adapter(session, DIGEST).status is AdapterStatus.REJECTED
        assert runs.get_run(session, history["run"]).status is RunStatus.REJECTED
