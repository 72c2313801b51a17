"""What a model is offered to choose from, and the sentence on the card."""

import pytest

from bot.data import demo_label_set
from bot.tasks.classification import (
    MAX_LISTED_CHARS,
    PROMPT_VERSION,
    build_choices,
    build_fields,
    confidence_words,
    describe,
    humanise,
    render_reason,
)
from bot.tasks.labels import parse_label_set
from bot.types import Label


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("card_not_arrived", "card not arrived"),
        ("CardNotArrived", "card not arrived"),
        ("HRSupport", "hr support"),
        ("reset-2FA", "reset 2fa"),
        ("Wi-Fi / VPN", "wi fi vpn"),
        ("Zugriff", "zugriff"),
        ("請求", "請求"),
        ("---", "---"),
    ],
)
def test_name_becomes_words(name, words):
    assert humanise(name) == words


def test_list_line_and_answer_have_the_same_characters():
    choices = build_choices(demo_label_set())
    for answer in choices.answers:
        words = answer.removesuffix("\n")
        assert f"\n-{words}:" in choices.prefix
    assert choices.suffix.endswith("\n-")


def test_no_answer_begins_another():
    choices = build_choices(parse_label_set("labels: [Access, Access rights, access_rights_admin]", source="x"))
    for first in choices.answers:
        assert [other for other in choices.answers if other.startswith(first)] == [first]


def test_names_that_differ_in_spelling_alone_keep_it():
    choices = build_choices(parse_label_set("labels: [HR_Support, HR-Support, Other]", source="x"))
    assert choices.answers == (" HR_Support\n", " HR-Support\n", " other\n")


def test_key_changes_with_the_label_set():
    first = parse_label_set("labels: [A, B]", source="x")
    second = parse_label_set("labels: [A, C]", source="x")
    assert build_choices(first).key != build_choices(second).key
    assert build_choices(first).key == f"classification:{first.version}:{PROMPT_VERSION}"


def test_long_list_goes_without_descriptions():
    rows = "".join(f"- {{name: label {n}, description: {'word ' * 30}}}\n" for n in range(100))
    choices = build_choices(parse_label_set("labels:\n" + rows, source="x"))
    assert len(choices.prefix) < MAX_LISTED_CHARS
    assert "- label 99\n" in choices.prefix
    assert choices.descriptions[0].startswith("label 0: word")


def test_description_is_name_alone_or_name_and_text():
    assert describe(Label("LostCard")) == "lost card"
    assert describe(Label("LostCard", description="Card stolen")) == "lost card: Card stolen"


@pytest.mark.parametrize(
    ("similar", "sentence"),
    [
        ([], "Likely Access (81 %), judging by its wording; no similar past ticket is known yet."),
        ([("Access", 0.9)], "Likely Access (81 %): the most similar past ticket was Access."),
        ([("Access", 0.9), ("Access", 0.8)], "Likely Access (81 %): all 2 of the most similar past tickets were Access."),
        ([("Access", 0.9), ("HR", 0.8), ("HR", 0.7)], "Likely Access (81 %): 1 of the 3 most similar past tickets was Access."),
        ([("HR", 0.9)], "Likely Access (81 %), judging by its wording, though the most similar past ticket was HR."),
    ],
)
def test_reason_tells_what_the_past_says(similar, sentence):
    assert render_reason("Access", 0.812, similar) == sentence


def test_reason_never_claims_certainty():
    assert "(99 %)" in render_reason("A", 1.0)
    assert "(1 %)" in render_reason("A", 0.0)


def test_confidence_words_fall_with_probability():
    said = [confidence_words(p) for p in (0.95, 0.75, 0.55, 0.35, 0.1)]
    assert said == ["Very likely", "Likely", "Probably", "Possibly", "A guess"]


def test_fields_hold_what_is_set():
    assert build_fields(Label("A")) == {}
    assert build_fields(Label("A", queue="Q", priority="high", escalate=True)) == {
        "queue": "Q",
        "priority": "high",
        "escalate": "true",
    }
