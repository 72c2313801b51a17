import json
from datetime import UTC, datetime, timedelta

import pytest
import typer
from typer.testing import CliRunner

from bot.cli import manage, runs
from bot.cli.main import app
from bot.errors import UserError
from bot.settings import Settings
from db.migrate import upgrade
from db.queries.leases import TRAINING, acquire
from db.queries.runs import cancel_run, enqueue_run, fail_run, get_run, start_run, update_progress
from db.queries.state import DAEMON, record_daemon_heartbeat, set_state
from db.session import build_db_engine, transaction
from db.types import RunStatus, RunTrigger, TaskKind


class Child:
    """Stands for the training process; `status` is None while it runs."""

    def __init__(self, status: int | None) -> None:
        self.status = status

    def poll(self) -> int | None:
        return self.status


@pytest.fixture
def settings(tmp_path, monkeypatch):
    monkeypatch.setattr(manage, "_LOOK_INTERVAL_S", 0.0)
    return Settings(home=tmp_path)


@pytest.fixture
def db_engine(settings):
    db_engine = build_db_engine(settings.resolved_database_url)
    upgrade(db_engine)
    yield db_engine
    db_engine.dispose()


@pytest.fixture
def run_id(db_engine):
    with transaction(db_engine) as session:
        return enqueue_run(session, task=TaskKind.CLASSIFICATION, trigger=RunTrigger.MANUAL, actor="ana").id


def end(db_engine, run_id):
    with transaction(db_engine) as session:
        update_progress(session, run_id, message="nothing to train on")
        cancel_run(session, run_id, actor="ana")


def beat(db_engine, age: timedelta) -> None:
    with transaction(db_engine) as session:
        record_daemon_heartbeat(session, holder="daemon", run_id=None)
        set_state(session, DAEMON, value={"holder": "daemon", "at": (datetime.now(UTC) - age).isoformat(), "run_id": None})


def test_a_run_is_started_here_when_the_daemon_dies_while_it_is_followed(settings, db_engine, run_id, monkeypatch):
    beat(db_engine, timedelta())
    looks = []

    def sleep(_seconds: float) -> None:
        looks.append(1)
        beat(db_engine, timedelta(minutes=1))

    def start(run_id: int) -> Child:
        assert looks
        end(db_engine, run_id)
        return Child(None)

    monkeypatch.setattr(manage.time, "sleep", sleep)
    monkeypatch.setattr(manage, "_start_run", start)
    manage._follow(settings, run_id)
    assert len(looks) == 2


def test_a_daemon_that_came_first_is_followed(settings, db_engine, run_id, monkeypatch):
    def start(_run_id: int) -> Child:
        beat(db_engine, timedelta())
        return Child(1)

    looks = []

    def sleep(_seconds: float) -> None:
        looks.append(1)
        if len(looks) == 3:
            end(db_engine, run_id)

    monkeypatch.setattr(manage.time, "sleep", sleep)
    monkeypatch.setattr(manage, "_start_run", start)
    manage._follow(settings, run_id)
    assert len(looks) == 3


def test_a_training_process_that_ends_before_its_run_is_one_sentence(settings, run_id, monkeypatch):
    monkeypatch.setattr(manage, "_start_run", lambda _run_id: Child(1))
    with pytest.raises(UserError, match=f"ended before run {run_id} did"):
        manage._follow(settings, run_id)


def test_a_failed_run_exits_with_1_and_a_cancelled_one_prints_its_message(db_engine, run_id, capsys):
    end(db_engine, run_id)
    with transaction(db_engine) as session:
        manage._print_verdict(session, get_run(session, run_id), as_json=False)
        assert "nothing to train on" in capsys.readouterr().out
        failed = enqueue_run(session, task=TaskKind.CLASSIFICATION, trigger=RunTrigger.MANUAL, actor="ana")
        fail_run(session, failed.id, error="", actor="ana")
        with pytest.raises(typer.Exit) as caught:
            manage._print_verdict(session, failed, as_json=False)
    assert caught.value.exit_code == 1


@pytest.fixture
def command_line(settings, monkeypatch):
    monkeypatch.setattr(manage, "read_settings", lambda: settings)
    monkeypatch.setattr(runs, "read_settings", lambda: settings)
    return CliRunner()


def begin(db_engine, run_id):
    with transaction(db_engine) as session:
        start_run(session, run_id, actor="training")


def test_a_run_that_nobody_works_on_is_cancelled_at_once(command_line, db_engine, run_id):
    begin(db_engine, run_id)
    assert f"Run {run_id} is cancelled." in command_line.invoke(app, ["runs", "cancel", str(run_id)]).output
    with transaction(db_engine) as session:
        assert get_run(session, run_id).status is RunStatus.CANCELLED


def test_a_run_that_a_process_works_on_is_asked_to_stop(command_line, db_engine, run_id):
    begin(db_engine, run_id)
    with transaction(db_engine) as session:
        acquire(session, TRAINING, holder="host:1", ttl=timedelta(seconds=60))
    answer = json.loads(command_line.invoke(app, ["runs", "cancel", str(run_id), "--json"]).output)
    assert answer == {"run_id": run_id, "status": "preparing", "is_over": False}
    with transaction(db_engine) as session:
        assert get_run(session, run_id).is_cancel_requested


def test_a_run_that_was_left_unfinished_is_named_with_what_to_do_about_it(command_line, db_engine, run_id):
    begin(db_engine, run_id)
    result = command_line.invoke(app, ["retrain"])
    assert isinstance(result.exception, UserError)
    assert f"`understudy runs cancel {run_id}` ends it" in str(result.exception)


def test_runs_are_listed_with_what_became_of_them(command_line, db_engine, run_id):
    end(db_engine, run_id)
    printed = command_line.invoke(app, ["runs"]).output
    assert "nothing to train on" in printed
    assert json.loads(command_line.invoke(app, ["runs", "--json"]).output)[0]["id"] == run_id


def test_an_answer_that_there_is_nothing_to_train_on_is_not_called_a_cancel(db_engine, run_id, capsys):
    end(db_engine, run_id)
    with transaction(db_engine) as session:
        manage._print_verdict(session, get_run(session, run_id), as_json=False)
    assert f"Run {run_id}: nothing to do" in capsys.readouterr().out
