"""Spreading of found values over the text, and joining of overlaps; pure functions on offsets."""

import pytest

from bot.masking.arbitration import Finding, resolve, spread


def is_name(word):
    return word in {"Antti", "Poutiainen", "Ann"}


def found(known, text):
    findings = spread(known, text, is_name)
    assert all(f.end <= len(text) for f in findings)
    return [(text[f.start : f.end], f.type) for f in findings]


def test_value_is_found_again_at_the_very_end_of_the_text():
    assert found([("PERSON", "Antti Poutiainen")], "Antti Poutiainen, call me Antti") == [
        ("Antti Poutiainen", "PERSON"),
        ("Antti", "PERSON"),
    ]


def test_name_inside_a_word_is_left_and_a_long_number_is_found_even_glued():
    assert found([("PERSON", "Ann Poutiainen")], "Anna, Annex, xAnn") == []
    assert found([("CREDIT_CARD", "4111111111111111")], "x4111111111111111y") == [("4111111111111111", "CREDIT_CARD")]
    assert found([("USERNAME", "wchen2")], "wchen23 wchen2") == [("wchen2", "USERNAME")]


def test_longest_value_wins_where_several_start():
    known = [("EMAIL_ADDRESS", "ann@example.com"), ("EMAIL_ADDRESS", "ann@example.com.au")]
    assert found(known, "to ann@example.com.au") == [("ann@example.com.au", "EMAIL_ADDRESS")]


def test_many_values_with_one_beginning_are_spread_over_a_long_text():
    known = [("EMAIL_ADDRESS", f"aaaaaa{n}@example.com") for n in range(20_000)]
    text = " ".join(surface for _, surface in known)
    assert len(spread(known, text, is_name)) == 20_000


@pytest.mark.parametrize(
    ("first", "second", "kind"),
    [
        (Finding(0, 5, "PERSON", 0.85), Finding(3, 9, "EMAIL_ADDRESS", 0.8), "EMAIL_ADDRESS"),
        (Finding(0, 5, "LOCATION", 0.85, is_model=True), Finding(0, 5, "PERSON", 0.85), "PERSON"),
        (Finding(0, 5, "LOCATION", 0.85, is_model=True), Finding(0, 5, "PERSON", 0.75), "LOCATION"),
        (Finding(0, 5, "SECRET", 0.8), Finding(2, 4, "CREDIT_CARD", 1.0), "SECRET"),
    ],
)
def test_overlap_becomes_one_span_of_the_strongest_type(first, second, kind):
    (span,) = resolve([first, second])
    assert (span.start, span.end, span.type) == (0, max(first.end, second.end), kind)
