"""What a viewer gets to see of masked text and of model output."""

import pytest

from bot.masking import Masked, MaskingError, PlaceholderMap, render, restore
from db.types import MaskedText


@pytest.fixture
def mapping():
    filled = PlaceholderMap()
    for entity, surface in [
        ("PERSON", "Sarah Lee"),
        ("EMAIL_ADDRESS", "sarah@example.com"),
        ("CREDIT_CARD", "4111 1111 1111 1111"),
        ("SECRET", "hunter2"),
        ("US_SSN", "536-22-8726"),
        ("LITERAL", "<SECRET_1>"),
        ("PERSON", "Bobby <EMAIL_ADDRESS_1>"),
    ]:
        filled.placeholder(entity, surface)
    return filled


@pytest.mark.parametrize(
    "written", ["<PERSON_1>", "<person_1>", "&lt;PERSON_1&gt;", r"\<PERSON\_1\>", "< PERSON_1 >", "<PERSON 1>"]
)
def test_placeholder_is_read_in_the_ways_models_write_it(mapping, written):
    assert render(f"Ask {written}.", mapping) == "Ask Sarah Lee."


def test_unknown_number_becomes_a_noun_and_is_reported(mapping):
    unknown = []
    assert render("Ask <PERSON_9> at <IP_ADDRESS_1>", mapping, on_unknown=unknown.append) == "Ask [person] at [IP address]"
    assert unknown == ["PERSON", "IP_ADDRESS"]


def test_secrets_and_numbers_are_never_shown(mapping):
    shown = render("<CREDIT_CARD_1> <SECRET_1> <US_SSN_1>", mapping)
    assert shown == "[card ending 1111] [secret] [social security number]"


def test_literal_is_shown_as_typed_and_not_expanded(mapping):
    assert render("You wrote <LITERAL_1>", mapping) == "You wrote <SECRET_1>"


def test_value_that_contains_a_placeholder_is_not_expanded_again(mapping):
    assert render("<PERSON_2>", mapping) == "Bobby <EMAIL_ADDRESS_1>"


def test_hidden_types_stay_nouns(mapping):
    assert render("<PERSON_1>: <EMAIL_ADDRESS_1>", mapping, hidden=frozenset({"EMAIL_ADDRESS"})) == "Sarah Lee: [email address]"


def test_html_is_escaped_in_text_and_in_values(mapping):
    assert render("<i><PERSON_2></i>", mapping, escape_html=True) == "&lt;i&gt;Bobby &lt;EMAIL_ADDRESS_1&gt;&lt;/i&gt;"


def test_restore_refuses_surfaces_of_another_text():
    with pytest.raises(MaskingError, match="do not match"):
        restore(Masked(MaskedText("hello"), (), (("<PERSON_1>", "Ann"),)))


def test_map_survives_json_and_goes_on_counting(mapping):
    again = PlaceholderMap.from_json(mapping.to_json())
    assert again == mapping
    assert again.placeholder("PERSON", "sarah  lee") == "<PERSON_1>"
    assert again.placeholder("PERSON", "Someone Else") == "<PERSON_3>"


@pytest.mark.parametrize("text", ["", "{}x", "[[1]]", '{"a": 1}', "null"])
def test_map_refuses_foreign_json_without_quoting_it(text):
    with pytest.raises(ValueError, match="not a placeholder map"):
        PlaceholderMap.from_json(text)


def test_expect_refuses_an_unknown_type():
    with pytest.raises(ValueError, match="unknown entity type 'NAME'"):
        PlaceholderMap().expect("NAME", "Ann")
