"""The command `mask` on files: order, spans, what is withheld, and bad files as one sentence that quotes none of them."""

import gzip
import json
import subprocess
import sys

import pytest

from bot.cli import masking as command
from bot.cli.masking import mask_file
from bot.errors import UserError
from bot.masking import MaskingError, MaskingSettings

PATIENT = MaskingSettings(chunk_timeout_ms=60_000, max_chars=1000)
ROWS = [{"id": n, "text": f"user{n}@example.com 😀 wrote" + " again" * (n % 7)} for n in range(100)]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def read(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("workers", [0, 2])
def test_lines_come_out_in_order_with_spans_of_the_input(tmp_path, workers):
    out = tmp_path / "out.jsonl"
    assert mask_file(PATIENT, write(tmp_path / "in.jsonl", ROWS), out, workers=workers) == 0
    lines = read(out)
    assert [line["id"] for line in lines] == list(range(100))
    for row, line in zip(ROWS, lines, strict=True):
        assert line["masked"] == row["text"].replace(f"user{row['id']}@example.com", "<EMAIL_ADDRESS_1>")
        assert line["spans"] == [{"start": 0, "end": row["text"].index(" "), "type": "EMAIL_ADDRESS"}]


def test_ids_keep_their_kind_and_offsets_count_characters(tmp_path):
    out = tmp_path / "out.jsonl"
    rows = [{"id": "7", "text": "😀😀 ann@example.com"}, {"id": 7, "text": ""}]
    rows += [{"id": -1, "text": "\ud800"}, {"id": -2, "text": ""}, {"id": "\ud800", "text": ""}]
    mask_file(PATIENT, write(tmp_path / "in.jsonl", rows), out)
    assert read(out) == [
        {"id": "7", "masked": "😀😀 <EMAIL_ADDRESS_1>", "spans": [{"start": 3, "end": 18, "type": "EMAIL_ADDRESS"}]},
        {"id": 7, "masked": "", "spans": []},
        {"id": -1, "masked": "?", "spans": []},
        {"id": -2, "masked": "", "spans": []},
        {"id": "?", "masked": "", "spans": []},
    ]


@pytest.mark.parametrize("workers", [0, 1])
def test_huge_text_is_withheld_and_the_others_are_masked(tmp_path, workers):
    out = tmp_path / "out.jsonl"
    rows = [{"id": 1, "text": "ann@example.com " * 100}, {"id": 2, "text": "ann@example.com"}]
    assert mask_file(PATIENT, write(tmp_path / "in.jsonl", rows), out, workers=workers) == 1
    withheld, masked = read(out)
    assert (withheld["masked"], withheld["spans"]) == (None, [])
    assert "1600 characters and max_chars is 1000" in withheld["error"]
    assert "ann" not in withheld["error"]
    assert masked["masked"] == "<EMAIL_ADDRESS_1>"


def test_empty_file_gives_an_empty_file(tmp_path):
    out = tmp_path / "out.jsonl"
    assert mask_file(PATIENT, write(tmp_path / "in.jsonl", []), out) == 0
    assert out.read_text() == ""


def test_compressed_file_is_read_too(tmp_path):
    with gzip.open(tmp_path / "in.jsonl.gz", "wt") as file:
        file.write('{"id": 1, "text": "ann@example.com"}\n')
    mask_file(PATIENT, tmp_path / "in.jsonl.gz", tmp_path / "out.jsonl")
    assert read(tmp_path / "out.jsonl")[0]["masked"] == "<EMAIL_ADDRESS_1>"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"id": 1, "text": "secret words', "line 3: not valid JSON"),
        ('{"id": 1}', "line 3: the field 'text' is missing"),
        ('{"text": "secret words"}', "line 3: the field 'id' is missing"),
        ('{"id": ["secret words"], "text": "a"}', "line 3: the field 'id' is missing or neither"),
        ('{"id": true, "text": "a"}', "line 3: the field 'id' is missing or neither"),
        ('{"id": 2, "text": {"a": "secret words"}}', "line 3: the field 'text' is not text"),
        ('"secret words"', "line 3: a str, where an object"),
        ('{"id": "secret words", "text": "b"}', "line 3: its id is that of line 1"),
    ],
)
def test_bad_line_is_named_without_its_text_and_nothing_is_written(tmp_path, line, said):
    (tmp_path / "in.jsonl").write_text(f'{{"id": "secret words", "text": "a"}}\n\n{line}\n')
    with pytest.raises(UserError, match=said) as caught:
        mask_file(PATIENT, tmp_path / "in.jsonl", tmp_path / "out.jsonl")
    assert "secret words" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_bad_line_far_down_writes_nothing_either(tmp_path):
    write(tmp_path / "in.jsonl", [*ROWS, {"id": 3, "text": "b"}])
    with pytest.raises(UserError, match="line 101: its id is that of line 4"):
        mask_file(PATIENT, tmp_path / "in.jsonl", tmp_path / "out.jsonl", workers=1)
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_absent_file_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match=r"cannot read .*absent.jsonl: No such file"):
        mask_file(PATIENT, tmp_path / "absent.jsonl", tmp_path / "out.jsonl")


def test_masking_a_file_into_itself_is_refused_and_leaves_it_as_it_was(tmp_path):
    file = write(tmp_path / "t.jsonl", [{"id": 1, "text": "a"}])
    with pytest.raises(UserError, match="read and written at once"):
        mask_file(PATIENT, file, tmp_path / "." / "t.jsonl")
    assert read(file) == [{"id": 1, "text": "a"}]


def test_rows_are_read_only_as_far_as_texts_are_in_work():
    read_so_far = []

    def rows():
        for row in ROWS:
            read_so_far.append(row["id"])
            yield row["id"], row["text"]

    results = command._mask_rows(rows(), lambda text: text, in_flight=5)
    assert [next(results) for _ in range(3)] == [(n, ROWS[n]["text"]) for n in range(3)]
    assert len(read_so_far) == 7


def test_model_that_cannot_be_loaded_is_told_and_writes_nothing(tmp_path):
    source = write(tmp_path / "in.jsonl", ROWS)
    with pytest.raises(MaskingError, match="cannot load the name model"):
        mask_file(MaskingSettings(model_dir=tmp_path), source, tmp_path / "out.jsonl", workers=2)
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--jsonl", "in.jsonl"], "--jsonl needs --json OUT"),
        (["--json", "out.jsonl", "text"], "--json goes with --jsonl IN"),
        (["--workers", "2", "text"], "--workers goes with --jsonl IN"),
        (["--jsonl", "in.jsonl", "--json", "out.jsonl", "text"], "give --jsonl or a text, not both"),
        (["--jsonl", "absent.jsonl", "--json", "out.jsonl"], "cannot read absent.jsonl: No such file or directory"),
    ],
)
def test_options_that_do_not_go_together_end_with_one_sentence(tmp_path, arguments, said):
    (tmp_path / "in.jsonl").write_text('{"id": 1, "text": "a"}\n')
    done = subprocess.run(
        [sys.executable, "-m", "bot", "mask", *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr
