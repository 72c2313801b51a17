"""Exports of other systems become masked examples; bad rows are kept with their reason, and nothing is lost or doubled."""

import gzip
import json
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlmodel import select
from typer.testing import CliRunner

from bot.app import load_labels, open_database
from bot.cli import importing
from bot.cli.common import read_settings
from bot.cli.main import app
from bot.errors import UserError
from bot.import_files import read_export
from bot.import_map import ImportMap, RowError, apply_map, get_value, load_import_map
from bot.types import Label, LabelSet, Turn
from db.queries.examples import iterate_examples
from db.session import transaction
from db.tables import Ticket
from db.types import Split, TaskKind

LABEL_SET = LabelSet(name="it", version="v1", labels=(Label("Access"), Label("Hardware")))
ZENDESK = Path(__file__).parents[3] / "shared" / "contracts" / "zendesk" / "recorded_api.json.gz"


def write(folder, name, content):
    (folder / name).write_text(content)
    return folder / name


def load(folder, text):
    return load_import_map(write(folder, "map.yaml", text), LABEL_SET)


def run(*arguments):
    result = CliRunner().invoke(app, ["import", *map(str, arguments), "--json"])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def read_examples(task=TaskKind.CLASSIFICATION):
    db_engine = open_database(read_settings())
    with transaction(db_engine) as session:
        rows = list(iterate_examples(session, task))
    db_engine.dispose()
    return rows


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("a", 1),
        ("b.c", "x"),
        ("b.d", None),
        ("list[1].v", 5),
        ("list[9].v", None),
        ("list[id=7].v", 5),
        ("list[id=8].v", None),
        ("with.dot", "y"),
        ("b[0]", None),
        ("a[", None),
    ],
)
def test_a_path_leads_to_its_value_or_nowhere(path, value):
    row = {"a": 1, "b": {"c": "x"}, "list": [{"id": 6, "v": 4}, {"id": 7, "v": 5}], "with.dot": "y"}
    assert get_value(row, path) == value


def test_a_row_is_mapped_with_labels_times_and_several_text_fields(tmp_path):
    mapping = load(
        tmp_path,
        """
        id: number
        subject: title
        text: [body, details]
        label: {field: category, values: {HW: Hardware}}
        summary: notes
        created_at: opened
        created_format: "%d.%m.%Y %H:%M"
        group: account
        """,
    )
    row = {"number": 7, "title": "t", "body": "b", "details": "d", "category": "HW", "notes": "n", "opened": "02.01.2024 10:30"}
    ticket = apply_map(mapping, {**row, "account": "acme"}, LABEL_SET)
    assert (ticket.external_id, ticket.subject, ticket.text, ticket.label, ticket.summary, ticket.group) == (
        "7",
        "t",
        "b\n\nd",
        "Hardware",
        "n",
        "acme",
    )
    assert ticket.created_at == datetime(2024, 1, 2, 10, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"text": " "}, "the field 'text' is empty"),
        ({"id": None}, "the field 'id' is empty"),
        ({"label": ""}, "the field 'label' is empty"),
        ({"label": "secret"}, "the field 'label' holds nothing that"),
        ({"text": {"a": 1}}, "the field 'text' is not text"),
        ({"at": "yesterday"}, "the field 'at' is not a time of the form ISO 8601"),
        ({"turns": "x"}, "the field 'turns' is not a list"),
        ({"turns": ["x"]}, r"the field 'turns\[0\]' is not a message"),
    ],
)
def test_a_row_that_cannot_be_used_names_the_field_and_not_its_content(change, said):
    mapping = ImportMap.model_validate(
        {"text": "text", "label": "label", "created_at": "at", "turns": {"field": "turns", "text": "t", "speaker": "s"}}
    )
    with pytest.raises(RowError, match=said) as caught:
        apply_map(mapping, {"id": "1", "text": "x", "label": "Access", **change}, LABEL_SET)
    assert "secret" not in str(caught.value)


def test_tags_count_by_the_first_that_is_known_and_unknown_ones_may_be_skipped():
    mapping = ImportMap.model_validate(
        {"text": "text", "label": {"field": "tags", "values": {"hw": "Hardware"}, "unknown": "skip"}}
    )
    row = {"id": "1", "text": "x"}
    assert apply_map(mapping, {**row, "tags": ["vip", "hw"]}, LABEL_SET).label == "Hardware"
    assert apply_map(mapping, {**row, "tags": ["vip"]}, LABEL_SET) is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("text: [a", "not valid YAML"),
        ("- a", "a mapping is expected"),
        ("text: a", "names neither label nor summary"),
        ("label: a", "names neither text nor turns"),
        ("text: a\nlabel: b\ntxt: c", "txt: Extra inputs are not permitted"),
        ("text: a\nlabel: {field: b, values: {x: Nope}}", "label.values names 'Nope', which is not in the label set 'it'"),
        ("text: a\nlabel: b\nencoding: utf-99", "there is no such encoding"),
    ],
)
def test_a_wrong_mapping_says_what_to_change(tmp_path, text, said):
    with pytest.raises(UserError, match=said):
        load(tmp_path, text)


def test_rows_that_cannot_be_read_are_handed_out_with_their_line_and_the_others_go_on(tmp_path):
    mapping = ImportMap(text=("text",), label={"field": "label"})
    lines = write(tmp_path, "a.jsonl", '{"a": 1}\n\n{broken\n[1]\n{"a": 2}\n')
    assert [(row.line, row.fields, row.raw) for row in read_export(lines, mapping)] == [
        (1, {"a": 1}, ""),
        (3, None, "{broken"),
        (4, None, "[1]"),
        (5, {"a": 2}, ""),
    ]
    table = write(tmp_path, "a.csv", 'a,b\n1,"x\ny"\n2\n3,4,5\n')
    assert [(row.line, row.fields is None) for row in read_export(table, mapping)] == [(3, False), (4, True), (5, True)]


def test_a_table_in_another_encoding_says_so_and_is_read_once_it_is_named(tmp_path):
    (tmp_path / "a.csv").write_bytes("id;text\n1;Müller\n".encode("cp1252"))
    with pytest.raises(UserError, match="say `encoding: cp1252`"):
        list(read_export(tmp_path / "a.csv", ImportMap(text=("text",), summary=("s",))))
    mapping = ImportMap(text=("text",), summary=("s",), delimiter=";", encoding="cp1252")
    assert [row.fields for row in read_export(tmp_path / "a.csv", mapping)] == [{"id": "1", "text": "Müller"}]


TICKET = {
    "id": 35,
    "subject": "broken",
    "description": "my printer is broken, call maria@example.com",
    "requester_id": 9,
    "tags": ["hw_printer"],
    "created_at": "2023-09-18T15:57:42Z",
    "custom_fields": [{"id": 77, "value": "Printer at maria@example.com replaced."}],
    "comments": [
        {"author_id": 9, "plain_body": "my printer is broken, call maria@example.com", "public": True},
        {"author_id": 4, "plain_body": "an internal remark", "public": False},
        {"author_id": 4, "body": "a new one is on its way", "public": True},
    ],
}
ZENDESK_MAP = """
format: zendesk
label: {field: tags, values: {hw_printer: Hardware}}
summary: custom_fields[id=77].value
"""


@pytest.mark.parametrize(
    "content",
    [
        json.dumps(TICKET) + "\n",
        json.dumps({"tickets": [TICKET], "end_of_stream": True}) + "\n",
        json.dumps({"tickets": [TICKET]}, indent=2),
        json.dumps({"ticket": TICKET}),
    ],
    ids=["a ticket per line", "a page per line", "one document", "one ticket"],
)
def test_a_zendesk_export_becomes_a_label_and_a_summary_without_personal_data(home, tmp_path, content):
    export, mapping = write(tmp_path, "export.json", content), write(tmp_path, "map.yaml", ZENDESK_MAP)
    assert run(export, "--map", mapping)["imported"] == 1
    (label,) = read_examples()
    (summary,) = read_examples(TaskKind.SUMMARY)
    assert (label.text, label.target) == ("broken\nmy printer is broken, call <EMAIL_ADDRESS_1>", "Hardware")
    assert summary.target == "Printer at <EMAIL_ADDRESS_1> replaced."
    assert [Turn(**turn).speaker for turn in summary.turns] == ["customer", "agent"]
    assert summary.created_at == datetime(2023, 9, 18, 15, 57, 42, tzinfo=UTC)
    assert label.group_key == summary.group_key != "9"
    assert run(export, "--map", mapping) == {
        "read": 1,
        "skipped": 0,
        "imported": 0,
        "known": 1,
        "rejected": 0,
        "rejects": None,
        "is_dry_run": False,
    }


def test_recorded_pages_of_the_export_api_are_read_whole(tmp_path):
    if not ZENDESK.exists():
        pytest.skip(f"no recorded answers of the API at {ZENDESK}")
    with gzip.open(ZENDESK, "rt") as file:
        recorded = json.load(file)["interactions"]
    pages = [entry["response_body"] for entry in recorded if entry["path"].startswith("/api/v2/incremental/tickets")]
    pages = [page for page in pages if page and page.get("tickets")]
    export = write(tmp_path, "export.json", "".join(json.dumps(page) + "\n" for page in pages))
    mapping = ImportMap.model_validate({"format": "zendesk", "label": {"field": "status", "values": {}}})
    label_set = LabelSet(name="status", version="v", labels=tuple(Label(name) for name in ("new", "open", "closed", "deleted")))
    rows = [row for row in read_export(export, mapping) if row.fields is not None]
    assert len(rows) == sum(len(page["tickets"]) for page in pages) > 10
    tickets = [apply_map(mapping, row.fields, label_set) for row in rows if row.fields["status"] in label_set.names]
    assert all(ticket.text and ticket.group and ticket.created_at.year >= 2023 for ticket in tickets)


def test_bad_rows_lie_in_a_file_with_their_reason_and_once_corrected_join_the_others(home, tmp_path):
    rows = [{"id": n, "text": f"ticket {n} about a printer", "kind": "Hardware"} for n in range(5)]
    rows[3]["kind"] = "no such kind"
    export = write(tmp_path, "rows.jsonl", "".join(json.dumps(row) + "\n" for row in rows) + "{broken\n")
    mapping = write(tmp_path, "map.yaml", "text: text\nlabel: kind\ngroup: id\n")
    counts = run(export, "--map", mapping, "--golden")
    assert (counts["read"], counts["imported"], counts["rejected"]) == (6, 4, 2)
    rejects = Path(counts["rejects"])
    assert rejects.stat().st_mode & 0o077 == 0
    found = [json.loads(line) for line in rejects.read_text().splitlines()]
    assert [(entry["line"], entry["field"], entry["row"]) for entry in found] == [(4, "kind", rows[3]), (6, None, "{broken")]
    assert "label set" in found[0]["reason"]
    assert {row.split for row in read_examples()} == {Split.GOLDEN}
    rows[3]["kind"] = "Access"
    write(tmp_path, "rows.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    counts = run(export, "--map", mapping)
    assert (counts["imported"], counts["known"], counts["rejected"]) == (1, 4, 0)


def test_a_dry_run_stores_nothing_and_a_ticket_named_twice_is_imported_once(home, tmp_path):
    export = write(tmp_path, "rows.csv", "Ref,What happened,Kind\n1,my printer,Hardware\n1,my printer,Hardware\n2,,Hardware\n")
    mapping = write(tmp_path, "map.yaml", "id: Ref\ntext: What happened\nlabel: Kind\n")
    counts = run(export, "--map", mapping, "--dry-run")
    assert (counts["imported"], counts["rejected"], counts["is_dry_run"]) == (1, 1, True)
    assert read_examples() == []
    counts = run(export, "--map", mapping)
    assert (counts["imported"], counts["known"]) == (1, 1)


def test_a_ticket_that_cannot_be_masked_is_rejected_and_leaves_no_trace(home, tmp_path, monkeypatch):
    monkeypatch.setenv("UNDERSTUDY_MASKING_MAX_CHARS", "1000")
    rows = [{"id": 1, "text": "word " * 400, "kind": "Access"}, {"id": 2, "text": "my printer", "kind": "Access"}]
    export = write(tmp_path, "rows.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    counts = run(export, "--map", write(tmp_path, "map.yaml", "text: text\nlabel: kind\n"))
    assert (counts["imported"], counts["rejected"]) == (1, 1)
    assert "could not be masked" in Path(counts["rejects"]).read_text()
    db_engine = open_database(read_settings())
    with transaction(db_engine) as session:
        assert [row.text for row in session.exec(select(Ticket))] == ["my printer"]
    db_engine.dispose()


def test_a_large_file_is_masked_in_several_processes_and_comes_out_the_same(home, tmp_path, monkeypatch):
    monkeypatch.setenv("UNDERSTUDY_MASKING_CHUNK_TIMEOUT_MS", "60000")
    monkeypatch.setattr("bot.cli.importing.BATCH", 20)
    monkeypatch.setattr("bot.cli.importing.count_processes", lambda: 2)
    started = []
    open_pool = importing.open_pool
    monkeypatch.setattr("bot.cli.importing.open_pool", lambda *a, **k: started.append(k["workers"]) or open_pool(*a, **k))
    rows = [{"id": n, "text": f"user{n}@example.com: printer {n}", "kind": "Access"} for n in range(45)]
    export = write(tmp_path, "rows.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    counts = run(export, "--map", write(tmp_path, "map.yaml", "text: text\nlabel: kind\n"))
    assert (counts["imported"], started) == (45, [2])
    assert [row.text for row in read_examples()] == [f"<EMAIL_ADDRESS_1>: printer {n}" for n in range(45)]
    assert not [thread for thread in threading.enumerate() if thread.name == "masking-seat"]


def test_the_rejects_are_never_written_over_the_export(home, tmp_path):
    export, mapping = write(tmp_path, "rows.jsonl", "{broken\n"), write(tmp_path, "map.yaml", "text: text\nlabel: kind\n")
    with pytest.raises(UserError, match="read and written at once"):
        run(export, "--map", mapping, "--rejects", export)
    with pytest.raises(UserError, match="go with --map"):
        run(export, "--dry-run")
    assert export.read_text() == "{broken\n"


def test_the_bundled_label_set_knows_the_labels_of_these_tests(home):
    assert {"Hardware", "Access"} <= set(load_labels(read_settings()).names)
