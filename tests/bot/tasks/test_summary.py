"""Units, excerpts, and what becomes of generated text."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.data import load_demo_dialogues
from bot.tasks.scoring import rouge_l, unigram_f1
from bot.tasks.summary import (
    MAX_UNIT_WORDS,
    MAX_UNITS,
    Unit,
    build_excerpt,
    build_summary_prompt,
    parse_summary,
    pick_units,
    render_summary_answer,
    split_units,
)
from bot.types import Turn
from db.types import MaskedText


def units_of(*texts: str) -> tuple[Unit, ...]:
    return tuple(Unit(MaskedText(text), True) for text in texts)


def test_turns_become_units_with_their_side_and_courtesies_go():
    turns = [
        Turn("customer", "Hello, good morning"),
        Turn("customer", "My VPN drops every hour."),
        Turn("agent", "Which client do you use?"),
        Turn("customer", "Thanks, bye!"),
        Turn("customer", "   "),
    ]
    assert [(unit.text, unit.is_customer) for unit in split_units("ignored", turns)] == [
        ("My VPN drops every hour.", True),
        ("Which client do you use?", False),
    ]


def test_single_message_becomes_sentences():
    text = "Hi <PERSON_1>,\n\nthe scanner fails since 3 May. It shows error 12! Can you help?\n\nRegards\n<PERSON_2>"
    assert [unit.text for unit in split_units(text)] == [
        "the scanner fails since 3 May.",
        "It shows error 12!",
    ]


def test_ticket_of_courtesies_alone_keeps_them():
    assert [unit.text for unit in split_units("Hello there")] == ["Hello there"]


@pytest.mark.parametrize("text", ["", "  \n\t "])
def test_blank_ticket_gives_no_unit(text):
    assert split_units(text) == ()


def test_long_text_without_punctuation_is_cut_evenly():
    units = split_units(" ".join(f"w{n}" for n in range(90)))
    assert [len(unit.text.split()) for unit in units] == [30, 30, 30]


def test_abbreviation_and_decimal_do_not_end_a_sentence():
    assert len(split_units("The build 2.5.1 fails on host web-01.example.com at step 3.")) == 1


def test_endless_ticket_loses_its_middle():
    units = split_units("\n".join(f"Line number {n} of the log failed." for n in range(1000)))
    assert len(units) == MAX_UNITS
    assert "number 0 " in units[0].text
    assert "number 999 " in units[-1].text


@given(st.text(max_size=400))
def test_units_hold_words_of_the_text_in_order(text):
    units = split_units(text)
    assert all(unit.text.strip() and len(unit.text.split()) <= MAX_UNIT_WORDS for unit in units)
    squeezed = "".join(text.split())
    place = 0
    for unit in units:
        found = squeezed.find("".join(unit.text.split()), place)
        assert found >= place
        place = found


def test_excerpt_keeps_the_tickets_order_and_marks_what_is_left_out():
    units = units_of("First matter.", "Small talk.", "Second matter.")
    assert build_excerpt(units, np.array([0.2, 0.1, 0.9], np.float32)) == "First matter. … Second matter."
    assert build_excerpt(units, np.array([0.9, 0.8, 0.1], np.float32)) == "First matter. Small talk."


def test_excerpt_never_says_the_same_twice():
    units = units_of("The printer jams.", "the printer jams", "It is on floor two.")
    assert pick_units(units, np.array([0.9, 0.8, 0.1], np.float32)) == (0, 2)


def test_excerpt_is_bounded_and_cuts_between_words():
    text = build_excerpt(units_of("word " * 100 + "<PERSON_1>"), np.array([1.0], np.float32), max_chars=52)
    assert len(text) <= 52
    assert text.endswith("word…")


def test_excerpt_of_nothing_is_empty():
    assert build_excerpt((), np.zeros(0, np.float32)) == ""


def test_scores_of_other_units_are_refused():
    with pytest.raises(ValueError, match="2 units but 1 scores"):
        build_excerpt(units_of("a", "b"), np.zeros(1, np.float32))


def test_prompt_joins_what_one_side_says_and_has_fixed_ends():
    first = build_summary_prompt((Unit(MaskedText("a"), True), Unit(MaskedText("b"), True), Unit(MaskedText("c"), False)))
    second = build_summary_prompt(units_of("z"))
    assert first.text == "Customer: a b\nAgent: c"
    assert (first.key, first.prefix, first.suffix) == (second.key, second.prefix, second.suffix)


@pytest.mark.parametrize(
    ("written", "clean"),
    [
        (" The VPN drops.\n\n", "The VPN drops."),
        ("Summary: The VPN drops.", "The VPN drops."),
        ("Here is a short summary of the ticket:\n- The VPN drops.\n- A reset helped.", "The VPN drops. A reset helped."),
        ("**The VPN** drops.<|im_end|>", "The VPN drops."),
        ('"The VPN drops."', '"The VPN drops."'.strip('"')),
        ("<PERSON_1> wants a dock.\n\nTicket: more", "<PERSON_1> wants a dock."),
        ("a\x00\u202eb", "ab"),
        ("", ""),
    ],
)
def test_written_summary_is_cleaned(written, clean):
    assert parse_summary(written) == clean


def test_endless_summary_is_cut():
    assert len(parse_summary("word " * 1000)) <= 800


def test_trained_answer_parses_back():
    assert parse_summary(render_summary_answer(MaskedText("The VPN drops.\nReset helped."))) == "The VPN drops. Reset helped."


def test_demo_dialogues_all_give_units():
    for dialogue in load_demo_dialogues():
        units = split_units("", dialogue.turns)
        assert any(unit.is_customer for unit in units)


def test_overlap_measures_know_order_and_multiplicity():
    assert unigram_f1("the vpn drops", "VPN drops, the!") == 1.0
    assert unigram_f1("a a a", "a") == pytest.approx(0.5)
    assert unigram_f1("", "a") == 0.0
    assert unigram_f1("<PERSON_1> calls", "<PERSON_1> writes") == pytest.approx(0.5)
    assert rouge_l("a b c d", "a b c d") == 1.0
    assert rouge_l("d c b a", "a b c d") == pytest.approx(0.25)
