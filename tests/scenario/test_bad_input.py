"""Every wrong set-up ends in one clear sentence and exit status 1, never in a traceback."""

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tests.scenario.conftest import make_settings
from tests.support.tiny_decoder import make_tiny_decoder


def run(home: Path, *arguments: str, **environment: str) -> tuple[int, str]:
    """Run the command line in a clean environment; return the exit status and what it said on standard error."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("UNDERSTUDY_")}
    done = subprocess.run(
        [sys.executable, "-m", "bot", *arguments],
        env={**clean, "UNDERSTUDY_HOME": str(home), **environment},
        cwd=home,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "Traceback" not in done.stderr + done.stdout
    return done.returncode, done.stderr.strip()


@pytest.fixture
def prepared(tmp_path: Path, model_home: Path) -> Path:
    return make_settings(tmp_path / "home", model_home).home


def expect(home: Path, said: str, *arguments: str, **environment: str) -> None:
    status, message = run(home, *arguments, **environment)
    assert status == 1, message
    assert said in message
    assert len(message.splitlines()) == 1


def test_a_sound_set_up_is_in_order(prepared: Path):
    assert run(prepared, "check") == (0, "")


def test_an_unknown_setting(prepared: Path):
    expect(prepared, "did you mean UNDERSTUDY_PORT?", "check", UNDERSTUDY_PROT="1")


def test_a_list_that_is_not_json(prepared: Path):
    expect(prepared, "as JSON", "check", UNDERSTUDY_MASKING_PHONE_REGIONS="US,GB")


def test_a_malformed_label_set_names_the_line(prepared: Path):
    (prepared / "labels.yaml").write_text("name: x\nlabels:\n  - name: a\n  - nam: b\n")
    expect(prepared, "line 4", "check", UNDERSTUDY_LABELS=str(prepared / "labels.yaml"))


def test_a_label_set_that_is_absent(prepared: Path):
    expect(prepared, "absent.yaml", "check", UNDERSTUDY_LABELS="absent.yaml")


def test_a_model_file_that_is_no_gguf(prepared: Path):
    (prepared / "fake.gguf").write_bytes(b"this is not a model" * 100)
    expect(prepared, "fake.gguf", "check", UNDERSTUDY_MODEL_SUMMARY=str(prepared / "fake.gguf"))


def test_a_truncated_model_file(prepared: Path):
    make_tiny_decoder(prepared / "whole.gguf")
    content = (prepared / "whole.gguf").read_bytes()
    (prepared / "half.gguf").write_bytes(content[: len(content) // 2])
    expect(prepared, "half.gguf", "check", UNDERSTUDY_MODEL_SUMMARY=str(prepared / "half.gguf"))


def test_a_model_that_is_not_installed(prepared: Path):
    expect(prepared, "understudy models pull", "check", UNDERSTUDY_MODEL_CLASSIFICATION="bge-small-en-v1.5")


def test_an_unknown_plugin(prepared: Path):
    expect(prepared, "there is no plugin 'slak'", "check", UNDERSTUDY_PLUGINS="console,slak")


def test_a_database_that_is_down_without_showing_the_password(prepared: Path):
    url = "postgresql://me:hunter2@127.0.0.1:1/understudy"
    status, message = run(prepared, "check", UNDERSTUDY_DATABASE_URL=url)
    assert status == 1
    assert "not reachable" in message
    assert "hunter2" not in message


def test_a_database_that_is_behind_its_migrations(prepared: Path):
    assert run(prepared, "check")[0] == 0
    with sqlite3.connect(prepared / "understudy.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'not-known'")
    connection.close()
    expect(prepared, "does not know", "check")


def test_a_database_without_tables_that_is_not_ours_to_fill_is_brought_up_to_date(prepared: Path):
    assert run(prepared, "migrate")[0] == 0
    assert run(prepared, "check")[0] == 0


def test_a_port_in_use(prepared: Path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        expect(prepared, "UNDERSTUDY_PORT", "serve", "--port", str(taken.getsockname()[1]))


def test_a_vault_key_that_is_none(prepared: Path):
    expect(prepared, "vault key 1 is not a Fernet key", "classify", "hello", UNDERSTUDY_VAULT_KEY="short")


def test_a_file_with_a_bad_line_imports_nothing(prepared: Path):
    (prepared / "rows.jsonl").write_text(
        '{"id": "1", "text": "my printer", "label": "Hardware"}\n{"id": "2", "text": "x", "label": "Nope"}\n'
    )
    expect(prepared, "line 2: the label is not in the label set", "import", str(prepared / "rows.jsonl"))
    status, _ = run(prepared, "export", str(prepared / "out.jsonl"))
    assert status == 0
    assert (prepared / "out.jsonl").read_text() == ""


def test_promoting_an_adapter_that_is_not_there(prepared: Path):
    expect(prepared, "no adapter whose digest begins with", "promote", "0123456789")


def test_rolling_back_when_nothing_was_live(prepared: Path):
    expect(prepared, "nothing to roll back to", "rollback")


def test_imported_tickets_become_masked_examples_once(prepared: Path):
    rows = [
        {"id": "1", "text": "my printer is broken, call Maria Gonzalez at maria@example.com", "label": "Hardware"},
        {"id": "2", "text": "please reset my password for the portal", "label": "Access"},
    ]
    (prepared / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (prepared / "rows.csv").write_text("id,text,label\n3,need a new monitor,Hardware\n")
    for _ in range(2):
        assert run(prepared, "import", str(prepared / "rows.jsonl"))[0] == 0
    assert run(prepared, "import", str(prepared / "rows.csv"), "--golden")[0] == 0
    assert run(prepared, "export", str(prepared / "out.jsonl"))[0] == 0
    exported = [json.loads(line) for line in (prepared / "out.jsonl").read_text().splitlines()]
    assert [(row["label"], row["split"]) for row in exported] == [("Hardware", None), ("Access", None), ("Hardware", "golden")]
    assert "maria@example.com" not in (prepared / "out.jsonl").read_text()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("rows.csv", "text,label\nmy printer,Hardware\n,Hardware\n", "line 3: the field 'text' is empty"),
        ("rows.csv", "label,text\nHardware\n", "line 2: the field 'text' is empty"),
        ("rows.jsonl", '\n{"text": " ", "label": "Hardware"}\n', "line 2: the field 'text' is empty"),
    ],
)
def test_a_row_without_text_imports_nothing(prepared: Path, name: str, content: str, said: str):
    (prepared / name).write_text(content)
    expect(prepared, said, "import", str(prepared / name))
    assert not (prepared / "understudy.db").exists()


def test_a_vault_key_that_is_none_is_found_by_check(prepared: Path):
    expect(prepared, "vault key 1 is not a Fernet key", "check", UNDERSTUDY_VAULT_KEY="short")


def test_an_export_that_cannot_be_written(prepared: Path):
    expect(prepared, "cannot write", "export", str(prepared / "absent" / "out.jsonl"))


def test_a_model_that_does_not_load_stops_serve_in_one_sentence(prepared: Path):
    model = next((prepared / "models").glob("*.gguf"))
    content = model.read_bytes()
    assert b"blk.0.attn_q.weight" in content
    (prepared / "wrong.gguf").write_bytes(content.replace(b"blk.0.attn_q.weight", b"blk.0.attn_z.weight", 1))
    own = {"UNDERSTUDY_MODEL_ALLOW_UNAPPROVED": "true", "UNDERSTUDY_LOG_LEVEL": "error"}
    expect(prepared, "wrong.gguf", "serve", "--port", "0", UNDERSTUDY_MODEL_SUMMARY=str(prepared / "wrong.gguf"), **own)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_serve_cleanly(prepared: Path, number: signal.Signals):
    clean = {name: value for name, value in os.environ.items() if not name.startswith("UNDERSTUDY_")}
    own = {"UNDERSTUDY_HOME": str(prepared), "UNDERSTUDY_SAMPLE_TICKETS": "false", "UNDERSTUDY_TRAINING_DAEMON": "external"}
    command = [sys.executable, "-m", "bot", "serve", "--port", "0"]
    with subprocess.Popen(
        command, env={**clean, **own}, cwd=prepared, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert "Understudy serves at http://127.0.0.1:" in process.stdout.readline()
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert "Traceback" not in said
