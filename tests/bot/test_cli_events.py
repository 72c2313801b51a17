"""`understudy events`: shows what stands where without what it says, and tries failed ones again."""

import json

import pytest
from typer.testing import CliRunner

from bot.app import open_database
from bot.cli.main import app
from bot.settings import Settings
from db.queries import events
from db.session import transaction
from db.types import EventStatus


@pytest.fixture
def db_engine(home):
    engine = open_database(Settings(home=home))
    with transaction(engine) as session:
        for key in ("good", "bad"):
            events.add_event(session, events.NewEvent(key=key, kind="message", ciphertext=b"sealed"), plugin="slack")
        for row in events.claim_events(session, plugin="slack", holder="h", limit=9, ttl=events.timedelta(seconds=9)):
            if row.key == "bad":
                events.give_up_event(session, row.id, holder="h", error="ValueError")
    yield engine
    engine.dispose()


@pytest.mark.usefixtures("db_engine")
def test_failed_events_are_listed_with_the_type_of_their_error_and_without_content():
    result = CliRunner().invoke(app, ["events", "--status", "failed", "--json"])
    (row,) = json.loads(result.output)
    assert (row["key"], row["error"], row["status"]) == ("bad", "ValueError", "failed")
    assert "sealed" not in result.output


def test_a_failed_event_waits_again_after_a_retry(db_engine):
    with transaction(db_engine) as session:
        (failed,) = events.list_events(session, status=EventStatus.FAILED)
    result = CliRunner().invoke(app, ["events", "--retry", str(failed.id)])
    with transaction(db_engine) as session:
        row = next(row for row in events.list_events(session) if row.id == failed.id)
    assert result.exit_code == 0
    assert (row.status, row.attempts) == (EventStatus.WAITING, 0)
