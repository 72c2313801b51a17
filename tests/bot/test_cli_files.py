import gzip

import pytest

from bot.cli.main import describe_unknown
from bot.cli.output import console, open_replacing, print_table
from bot.cli.serve import bind
from bot.cli.tickets import read_text
from bot.demo import folder
from bot.demo.folder import build_demo_environment
from bot.errors import UserError
from bot.jsonl import read_jsonl, read_numbered


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
        ('{"id": ' + "9" * 5000 + ', "text": "a"}', "line 1: it holds a number with too many digits"),
        ("[" * 200_000, "line 1: nested too deeply"),
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


def test_a_lone_surrogate_becomes_a_question_mark_in_its_place(tmp_path):
    (tmp_path / "t.jsonl").write_text('{"id": 1, "text": "a\\ud800b"}\n')
    assert next(read_jsonl(tmp_path / "t.jsonl", required=("id", "text")))["text"] == "a?b"
    assert read_text("a\ud800b", None) == "a?b"


def test_a_line_keeps_its_number_after_blank_lines(tmp_path):
    (tmp_path / "t.jsonl").write_text('\n\n{"id": 1}\n')
    assert [where for where, _ in read_numbered(tmp_path / "t.jsonl")] == [f"{tmp_path / 't.jsonl'}, line 3"]


@pytest.mark.parametrize("content", [b"no gzip at all", gzip.compress(b'{"id": 1}\n' * 100)[:-20]])
def test_a_compressed_file_that_is_not_whole_is_one_sentence(tmp_path, content):
    (tmp_path / "t.jsonl.gz").write_bytes(content)
    with pytest.raises(UserError, match="not a whole gzip file"):
        list(read_jsonl(tmp_path / "t.jsonl.gz"))


def test_a_file_is_replaced_only_when_all_is_written(tmp_path):
    target = tmp_path / "out.jsonl"
    target.write_text("before")
    with pytest.raises(TypeError), open_replacing(target) as out:
        out.writelines(["half", None])
    assert [path.read_text() for path in tmp_path.iterdir()] == ["before"]
    with open_replacing(target) as out:
        out.write("after")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["after"]


@pytest.mark.parametrize("name", ["", "absent/out.jsonl"])
def test_a_target_that_cannot_be_written_is_one_sentence(tmp_path, name):
    with pytest.raises(UserError, match="cannot write"), open_replacing(tmp_path / name):
        pass


def test_brackets_and_colons_in_data_print_as_they_are():
    with console.capture() as capture:
        print_table("Labels [bold]", ("[red]name",), [("[/] :smile: [x]",)])
        console.print("[link]notice[/link]")
    shown = capture.get()
    assert all(part in shown for part in ("Labels [bold]", "[red]name", "[/] :smile: [x]", "[link]notice[/link]"))


def test_an_error_nobody_foresaw_is_named_by_type_and_place_without_its_text():
    try:
        describe_unknown("secret ticket")
    except AttributeError as error:
        said = describe_unknown(error)
    assert "fault in Understudy (AttributeError in bot.cli.main:" in said
    assert "secret ticket" not in said
    assert describe_unknown(PermissionError(13, "Permission denied", "a.txt")) == "cannot use a.txt: Permission denied"


def test_the_demo_takes_over_nothing_of_an_installation(tmp_path):
    environ = {
        "PATH": "/bin",
        "UNDERSTUDY_DATABASE_URL": "postgresql://x/y",
        "UNDERSTUDY_TRAINING_SEED": "1",
        "UNDERSTUDY_CONFIG": "a",
    }
    assert build_demo_environment(environ, tmp_path) == {
        "PATH": "/bin",
        "UNDERSTUDY_CONFIG": str(tmp_path / "understudy.toml"),
        "UNDERSTUDY_HOME": str(tmp_path),
        "UNDERSTUDY_DATABASE_URL": f"sqlite:///{tmp_path}/understudy.db",
        "UNDERSTUDY_LOG_LEVEL": "warning",
    }


def test_models_are_copied_where_they_cannot_be_linked(tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "a.gguf").write_text("a")
    monkeypatch.setattr(folder.os, "link", refuse)
    folder.reuse_models(tmp_path / "demo")
    assert (tmp_path / "demo" / "models" / "a.gguf").read_text() == "a"


def test_a_table_too_wide_for_the_terminal_is_printed_row_by_row_with_nothing_cut_off(monkeypatch):
    monkeypatch.setattr(console, "width", 40)
    digest = "0123456789ab"
    with console.capture() as capture:
        print_table("Adapters", ("digest", "task", "why", "empty"), [(digest, "classification", "better " * 20, "")])
    printed = capture.get()
    assert digest in printed
    assert "classification" in printed
    assert printed.count("better") == 20
    assert "empty" not in printed
