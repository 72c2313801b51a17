import gzip

import pytest

from bot.cli.serve import bind
from bot.cli.tickets import read_text
from bot.errors import UserError
from bot.jsonl import read_jsonl


def test_lines_are_read_plain_and_compressed(tmp_path):
    line = '{"id": 7, "text": "a"}\n'
    (tmp_path / "a.jsonl").write_text(line + "\n")
    with gzip.open(tmp_path / "a.jsonl.gz", "wt") as file:
        file.write(line)
    for name in ("a.jsonl", "a.jsonl.gz"):
        assert list(read_jsonl(tmp_path / name, required=("id", "text"))) == [{"id": "7", "text": "a"}]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"id": 1, "text": "a"}\n{"id": 2', "line 2: not valid JSON"),
        ('{"id": 1}', "line 1: the field 'text' is missing"),
        ('{"id": 1, "text": ["secret words"]}', "line 1: the field 'text' is not text"),
        ("[1]", "line 1: a list, where an object"),
    ],
)
def test_a_bad_line_is_named_by_file_and_number_without_its_content(tmp_path, content, said):
    (tmp_path / "bad.jsonl").write_text(content)
    with pytest.raises(UserError, match=said) as caught:
        list(read_jsonl(tmp_path / "bad.jsonl", required=("id", "text")))
    assert "secret words" not in str(caught.value)


def test_a_file_that_is_absent_or_not_text_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match=r"cannot read .*absent"):
        list(read_jsonl(tmp_path / "absent.jsonl"))
    (tmp_path / "binary.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="not UTF-8"):
        list(read_jsonl(tmp_path / "binary.jsonl"))


def test_a_port_in_use_says_which_setting_to_change():
    first = bind("127.0.0.1", 0)
    first.listen()
    try:
        with pytest.raises(UserError, match="UNDERSTUDY_PORT"):
            bind("127.0.0.1", first.getsockname()[1])
    finally:
        first.close()


def test_text_comes_from_one_place_only(tmp_path):
    (tmp_path / "t.txt").write_text("hello")
    assert read_text(None, str(tmp_path / "t.txt")) == "hello"
    with pytest.raises(UserError, match="not both"):
        read_text("a", "b")
