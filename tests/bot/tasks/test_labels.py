"""Label set files: what is read, what is refused, and by which sentence."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.data import demo_label_set
from bot.tasks.labels import LabelSetError, load_label_set, parse_label_set, render_label_set

FULL = """\
name: Helpdesk
labels:
  - name: Access
    description: Passwords and
      badges
    macro: |
      Hello,
      which system?
    queue: Identity
    priority: high
    escalate: true
  - name: Hardware
  - Purchase
"""


def parse(text: str):
    return parse_label_set(text, source="labels.yaml")


def test_full_file_gives_every_field():
    label_set = parse(FULL)
    access = label_set.labels[0]
    assert label_set.name == "Helpdesk"
    assert label_set.names == ("Access", "Hardware", "Purchase")
    assert access.description == "Passwords and badges"
    assert access.macro == "Hello,\nwhich system?"
    assert (access.queue, access.priority, access.escalate) == ("Identity", "high", True)
    assert label_set.labels[1].macro is None
    assert not label_set.labels[1].escalate


def test_version_is_twelve_hex_digits_and_follows_content_alone():
    label_set = parse(FULL)
    assert len(label_set.version) == 12
    assert int(label_set.version, 16) >= 0
    assert parse("# a comment\n" + FULL.replace("  - Purchase", "  - name: 'Purchase'")).version == label_set.version
    assert parse(FULL.replace("high", "low")).version != label_set.version
    assert parse(FULL.replace("Purchase", "Buying")).version != label_set.version


def test_bundled_set_survives_the_round_trip():
    label_set = demo_label_set()
    assert parse(render_label_set(label_set)) == label_set


names = st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=20)
texts = st.text(st.characters(categories=["L", "N", "P", "S", "Zs"]), max_size=60)


@given(st.lists(st.tuples(names, texts, texts, st.booleans()), min_size=2, max_size=6))
def test_any_valid_set_survives_the_round_trip(rows):
    seen = {}
    for name, description, macro, escalate in rows:
        label = {"name": name, "description": description, "macro": macro, "escalate": escalate}
        seen.setdefault(name.casefold(), label)
    import yaml

    try:
        label_set = parse(yaml.safe_dump({"labels": list(seen.values())}, allow_unicode=True))
    except LabelSetError:
        return  # names that differ in form alone, or too few left
    assert parse(render_label_set(label_set)) == label_set


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("labels:\n  - Access\n  - Hardware\n  - Access\n", 4, "'Access' is there twice (first in line 2)"),
        ("labels:\n  - Hardware\n  - name: 'hard ware'\n", 3, "differs from 'Hardware' in case or spaces alone"),
        ("labels:\n  - name: A\n    descripton: x\n  - B\n", 3, "did you mean `description`?"),
        ("labels:\n  - name: A\n    colour: x\n  - B\n", 3, "use one of name, description"),
        ("nam: x\nlabels: [A, B]\n", 1, "did you mean `name`?"),
        ("name: x\nname: y\nlabels: [A, B]\n", 2, "given twice"),
        ("labels: []\n", 1, "no label leaves nothing to choose"),
        ("labels:\n  - Only\n", 2, "a single label leaves nothing to choose"),
        ("labels:\n  - 404\n  - B\n", 2, "reads '404' as a number; put it in quotes"),
        ("labels:\n  - A\n  - no\n", 3, "reads 'no' as a yes/no value; put it in quotes"),
        ("labels:\n  - A\n  - name: 2024-01-01\n", 3, "as a date"),
        ("labels:\n  - A\n  -\n", 3, "as nothing"),
        ("labels:\n  - A\n  - name: ''\n", 3, "`name` is empty"),
        ("labels:\n  - A\n  - name: [B]\n", 3, "must be text, not a list"),
        ("labels:\n  - A\n  - [B]\n", 3, "a label must be a name or a mapping"),
        ("labels:\n  - A\n  - description: x\n", 3, "has no `name:`"),
        ("labels:\n  - A\n  - name: B\n    escalate: maybe\n", 4, "must be true or false"),
        ('labels:\n  - A\n  - name: "B\\x07"\n', 3, "control character U+0007"),
        ('labels:\n  - A\n  - name: "B\\u202Ecod"\n', 3, "control character U+202E"),
        ('labels:\n  - A\n  - name: "B\\nC"\n', 3, "more than one line"),
        (f"labels:\n  - A\n  - {'x' * 121}\n", 3, "longer than 120 characters"),
        ("labels:\n  - A\n  - B\n\x07", 4, "U+0007 is not allowed"),
        ("labels:\n  - A\n - B\n", 3, "not valid YAML"),
        ("labels:\n  - 'A\n", 3, "not valid YAML"),
        ("labels: {A: 1, B: 2}\n", 1, "must be a list"),
        ("name: x\n", 1, "`labels:` is missing"),
        ("- A\n- B\n", 1, "must hold `name:` and `labels:`"),
        ("", 1, "the file is empty"),
        ("labels: &x [A, B]\nname: *x\n", 2, "alias '*x' is not allowed"),
        ("labels:\n- " + "[" * 5000, 2, "nested deeper than"),
        ("a: 1\n---\nb: 2\n", 2, "not valid YAML"),
        ("labels: !!python/object/apply:os.system [echo]\n", 1, "a single label"),
    ],
)
def test_fault_is_one_sentence_with_file_and_line(text, line, words):
    with pytest.raises(LabelSetError) as caught:
        parse(text)
    message = str(caught.value)
    assert message.startswith(f"labels.yaml, line {line}: ")
    assert words in message
    assert "\n" not in message


def test_more_than_a_thousand_labels_are_refused():
    thousand = "labels:\n" + "".join(f"- L{number}\n" for number in range(1000))
    assert len(parse(thousand).labels) == 1000
    with pytest.raises(LabelSetError, match="1001 labels are more than the 1000 allowed"):
        parse(thousand + "- one more\n")


def test_file_is_read_with_byte_order_mark(tmp_path):
    path = tmp_path / "labels.yaml"
    path.write_bytes(b"\xef\xbb\xbflabels: [A, B]\n")
    assert load_label_set(path).names == ("A", "B")


def test_missing_file_is_named(tmp_path):
    with pytest.raises(LabelSetError, match="there is no label set file"):
        load_label_set(tmp_path / "none.yaml")


def test_folder_in_place_of_a_file_is_refused(tmp_path):
    with pytest.raises(LabelSetError, match="cannot be read"):
        load_label_set(tmp_path)


def test_file_that_is_not_utf8_names_the_line(tmp_path):
    path = tmp_path / "labels.yaml"
    path.write_bytes(b"labels:\n  - A\n  - B\xff\n")
    with pytest.raises(LabelSetError, match=r"line 3: not UTF-8"):
        load_label_set(path)


def test_huge_file_is_refused_unread(tmp_path):
    path = tmp_path / "labels.yaml"
    path.write_bytes(b"#" * 1_000_001)
    with pytest.raises(LabelSetError, match="larger than 1000 kB"):
        load_label_set(path)
