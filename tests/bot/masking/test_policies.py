"""What settings do with found types: mask, keep, drop; allow lists; and which name model reads a text."""

import sys
import types

import pytest
import spacy

from bot.masking import Masker, MaskingError, MaskingSettings, PlaceholderMap
from bot.masking.models import NameModels


def build(**settings):
    return Masker(MaskingSettings(chunk_timeout_ms=60_000, **settings))


NUMBERS = [
    ("Order #W-2041-88713 is late", "W-2041-88713", "ORDER_NUMBER"),
    ("Bestellnummer DE-5512-09 fehlt", "DE-5512-09", "ORDER_NUMBER"),
    ("see PO-77120 for it", "PO-77120", "ORDER_NUMBER"),
    ("invoice number 908812-B is wrong", "908812-B", "INVOICE_NUMBER"),
    ("INV-2024-00871 was paid", "INV-2024-00871", "INVOICE_NUMBER"),
    ("Customer ID: C-8847120", "C-8847120", "CUSTOMER_NUMBER"),
    ("Kundennummer 40088123", "40088123", "CUSTOMER_NUMBER"),
    ("Re: [Ticket #583920] still open", "583920", "TICKET_NUMBER"),
    ("duplicate of INC0098123", "INC0098123", "TICKET_NUMBER"),
]
HEALTH = [
    ("I take metformin 500 mg daily", "metformin"),
    ("since the epilepsy diagnosis", "epilepsy"),
    ("she was diagnosed with sarcoidosis last year", "sarcoidosis"),
    ("blood type is AB+", "AB+"),
]


@pytest.fixture(scope="module")
def strict():
    return build(actions=dict.fromkeys(("ORDER_NUMBER", "INVOICE_NUMBER", "CUSTOMER_NUMBER", "TICKET_NUMBER", "HEALTH"), "mask"))


@pytest.mark.parametrize(("text", "number", "entity"), NUMBERS)
def test_number_of_the_team_is_kept_by_default_and_masked_on_request(masker, strict, text, number, entity):
    assert masker.mask(text).text == text
    masked = strict.mask(text)
    assert number not in masked.text
    assert {span.type for span in masked.spans} == {entity}


@pytest.mark.parametrize(
    "text", ["In order to win 3 of 5, order now", "case in point 2", "invoice of 2024", "ticket prices from 12.50"]
)
def test_ordinary_use_of_the_cues_is_left_alone(strict, text):
    assert strict.mask(text).text == text


@pytest.mark.parametrize(("text", "detail"), HEALTH)
def test_medical_detail_is_masked_only_on_request(masker, strict, text, detail):
    assert detail in masker.mask(text).text
    assert detail not in strict.mask(text).text


def test_dropped_type_withholds_the_ticket_and_names_the_type_but_not_the_value():
    masker = build(actions={"US_SSN": "drop"})
    mapping = PlaceholderMap()
    with pytest.raises(MaskingError, match="holds US_SSN, and the settings say to drop") as caught:
        masker.mask("My SSN is 536-22-8726, call Ann Miller", mapping)
    assert "536" not in str(caught.value)
    assert mapping.entries == {}
    assert masker.mask("call +44 20 7946 0958").text == "call <PHONE_NUMBER_1>"


def test_dropped_type_inside_a_stronger_finding_still_drops():
    masker = build(actions={"PHONE_NUMBER": "drop"})
    with pytest.raises(MaskingError, match="PHONE_NUMBER"):
        masker.mask("password: +442079460958 or call +442079460958")


def test_allowed_name_is_kept_in_any_case():
    masker = build(allow_list=("Jasper Billing",))
    assert masker.mask("Hi Thomas, jasper billing is down").text == "Hi <PERSON_1>, jasper billing is down"


def save_model(folder, language, names):
    """A spaCy pipeline whose `ner` knows a few names; what a team with a model of its own would name in the settings."""
    nlp = spacy.blank(language)
    nlp.add_pipe("entity_ruler", name="ner").add_patterns([{"label": "PER", "pattern": name} for name in names])
    nlp.to_disk(folder)
    return str(folder)


def test_each_language_is_read_by_its_own_model(tmp_path):
    german = save_model(tmp_path / "de", "de", ["Xaverl Brunnhuber"])
    masker = build(models={"de": german})
    text = "Das ist nicht die Bestellung von Xaverl Brunnhuber und ich bin sehr enttäuscht"
    assert masker.mask(text).text.startswith("Das ist nicht die Bestellung von <PERSON_1> und")
    assert "Carmen" not in masker.mask("I have spoken with Carmen about the invoice and she was not able to help").text


def test_language_of_a_text_is_decided_by_its_common_words_and_else_by_the_default():
    models = NameModels({"en": spacy.blank("en"), "de": spacy.blank("de")}, "en")
    assert models.language_of("Ich habe das nicht bestellt und möchte mein Geld zurück") == "de"
    assert models.language_of("I have not ordered this and want my money back") == "en"
    assert models.language_of("XK-200 4711") == "en"
    assert NameModels({"de": spacy.blank("de")}, "de").language_of("the one that was not there") == "de"


def test_default_language_other_than_english_loads_no_english_model(tmp_path):
    masker = build(models={"de": save_model(tmp_path / "de", "de", ["Xaverl Brunnhuber"])}, language="de")
    assert "Xaverl" not in masker.mask("the ticket of Xaverl Brunnhuber").text


@pytest.mark.parametrize(("source", "message"), [("nowhere", "no directory"), ("transformers:nowhere", "no directory")])
def test_model_that_is_not_there_is_one_clear_error(source, message):
    with pytest.raises(MaskingError, match=rf"models\['de'\].*{message}"):
        build(models={"de": source})


def test_model_without_names_is_refused(tmp_path):
    spacy.blank("de").to_disk(tmp_path / "de")
    with pytest.raises(MaskingError, match="has no 'ner' component"):
        build(models={"de": str(tmp_path / "de")})


def test_transformers_model_without_transformers_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MaskingError, match="transformers is not installed"):
        build(models={"de": f"transformers:{tmp_path}"})


def test_transformers_model_is_asked_for_names(tmp_path, monkeypatch):
    def pipeline(task, *, model, aggregation_strategy, device):
        assert (task, model, aggregation_strategy, device) == ("token-classification", str(tmp_path), "simple", -1)

        def tag(text):
            start = text.find("Xaverl Brunnhuber")
            return [{"start": start, "end": start + 17, "entity_group": "PER"}] if start >= 0 else []

        tag.model = types.SimpleNamespace(config=types.SimpleNamespace(id2label={0: "O", 1: "B-PER", 2: "I-PER"}))
        return tag

    monkeypatch.setitem(sys.modules, "transformers", types.SimpleNamespace(pipeline=pipeline))
    masker = build(models={"de": f"transformers:{tmp_path}"}, language="de")
    assert masker.mask("das Ticket von Xaverl Brunnhuber").text == "das Ticket von <PERSON_1>"
