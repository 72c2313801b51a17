"""People's data and the vault's keys from the command line."""

import json
import stat

import pytest
from typer.testing import CliRunner

from bot.app import build_vault, open_database
from bot.cli.common import mask_reason, read_settings
from bot.cli.main import app
from bot.errors import UserError
from bot.masking import PlaceholderMap, Vault
from bot.plugin_api import BotError
from db.queries import tickets
from db.queries.common import row_id
from db.session import transaction
from db.tables import Ticket, now
from tests.support.db_rows import add_feedback, add_inference

TEXT = "I am <PERSON_1>, ask qwyx."


@pytest.fixture
def key(home, monkeypatch):
    key = Vault.new_key()
    monkeypatch.setenv("UNDERSTUDY_VAULT_KEY", key)
    return key


@pytest.fixture
def db_engine(key):
    db_engine = open_database(read_settings())
    yield db_engine
    db_engine.dispose()


@pytest.fixture
def ticket_id(db_engine):
    mapping = PlaceholderMap()
    mapping.expect("PERSON", "Maria Gonzalez")
    with transaction(db_engine) as session:
        row = tickets.upsert_ticket(session, plugin="desk", external_id="9", subject="", text=TEXT)
        add_feedback(session, add_inference(session, row), text=TEXT)
        ciphertext = build_vault(read_settings()).encrypt(mapping)
        tickets.put_vault(session, ticket_id=row_id(row), ciphertext=ciphertext, expires_at=now().replace(year=now().year + 1))
        return row_id(row)


def run(*arguments, code=0, **options):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], **options)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.output


def test_somebody_is_found_by_a_name_typed_in_and_nothing_changes(ticket_id, db_engine):
    found = json.loads(run("privacy", "find", "--person", "-", "--json", input="maria gonzalez\n"))
    assert [(ticket["ticket_id"], ticket["how"]) for ticket in found["tickets"]] == [(ticket_id, "vault")]
    assert "found by" in run("privacy", "find", "--ticket", ticket_id)
    assert "No ticket holds anything" in run("privacy", "find", "--person", "Nobody Here")


def test_an_export_is_a_file_for_its_owner_alone(ticket_id, tmp_path):
    path = tmp_path / "out" / "maria.json"
    assert "1 tickets written" in run("privacy", "export", path, "--plugin", "desk", "--external-id", "9")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert json.loads(path.read_text())["tickets"][0]["ticket"]["text"] == "I am Maria Gonzalez, ask qwyx."


def test_an_erasure_is_shown_first_asked_for_and_then_done_once(ticket_id, db_engine):
    def is_there():
        with transaction(db_engine, is_read_only=True) as session:
            return session.get(Ticket, ticket_id) is not None

    assert "1 ticket" in run("privacy", "erase", "--ticket", ticket_id, "--dry-run")
    with pytest.raises(UserError, match="nothing was erased"):
        run("privacy", "erase", "--ticket", ticket_id, input="n\n")
    assert is_there()
    assert "1 tickets erased" in run("privacy", "erase", "--ticket", ticket_id, input="y\n")
    assert not is_there()
    assert json.loads(run("privacy", "erase", "--ticket", ticket_id, "--yes", "--json"))["n_tickets"] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "say whose data"),
        (("--person", "Ana Lee", "--ticket", "1"), "say whose data"),
        (("--plugin", "desk"), "go together"),
    ],
)
def test_a_subject_that_is_not_one_is_refused(home, arguments, message):
    with pytest.raises(UserError, match=message):
        run("privacy", "find", *arguments)


def test_a_correction_is_reported_listed_approved_applied_and_tested(ticket_id, db_engine):
    assert "waits for review" in run("privacy", "report", "mask", "PERSON", "-", "--ticket", ticket_id, input="qwyx\n")
    (row,) = json.loads(run("privacy", "list", "--status", "open", "--json"))
    assert (row["phrase"], row["context"]) == ("qwyx", "I am <PERSON_1>, ask ▮.")
    assert "qwyx" in run("privacy", "list")
    assert "is approved" in run("privacy", "approve", row["id"])
    assert "1 corrections applied" in run("privacy", "work")
    with transaction(db_engine, is_read_only=True) as session:
        assert session.get(Ticket, ticket_id).text == "I am <PERSON_1>, ask <PERSON_2>."
    assert json.loads(run("privacy", "regression", "--json"))["results"][0]["is_passed"]
    assert "1 passed, 0 failed" in run("privacy", "regression")
    assert "is rejected" in run("privacy", "reject", row["id"])
    with pytest.raises(BotError, match="rejected already"):
        run("privacy", "approve", row["id"])


def test_a_reason_on_the_command_line_is_masked_by_the_corrections_too(ticket_id, db_engine):
    run("privacy", "report", "mask", "PERSON", "qwyx", "--ticket", ticket_id)
    run("privacy", "approve", "1")
    assert mask_reason(read_settings(), "qwyx of maria@example.com asked") == "<PERSON_1> of <EMAIL_ADDRESS_1> asked"


def test_the_data_map_is_printed_as_a_table_a_page_and_json(home):
    assert "vault_entry" in run("privacy", "map")
    page = run("privacy", "map", "--markdown")
    assert "## ticket" in page
    assert "| text | VARCHAR | masked | first message |" in page
    assert {"ticket", "audit"} <= {table["name"] for table in json.loads(run("privacy", "map", "--json"))}


def test_keys_are_made_shown_by_fingerprint_and_rotated(ticket_id, key, monkeypatch):
    new = run("vault", "new-key").strip()
    monkeypatch.setenv("UNDERSTUDY_VAULT_KEY", f"{new},{key}")
    before = json.loads(run("vault", "status", "--json"))
    assert before["n_maps"] == {before["fingerprints"][1]: 1}
    assert "the older keys can be removed" in " ".join(run("vault", "rotate").split())
    monkeypatch.setenv("UNDERSTUDY_VAULT_KEY", new)
    output = run("vault", "status")
    assert "0 entries cannot be opened" in output
    assert new not in output
    assert json.loads(run("vault", "rotate", "--json")) == {"rotated": {}, "unreadable": 0, "bare": 0, "is_done": True}


@pytest.mark.parametrize("command", ["status", "rotate"])
def test_without_a_key_the_vaults_commands_say_how_to_get_one(home, command):
    with pytest.raises(UserError, match="understudy vault new-key"):
        run("vault", command)
