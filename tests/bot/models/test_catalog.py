"""The catalog is complete and honest about what it does not know; licences decide who serves."""

from dataclasses import asdict
from datetime import date
from types import SimpleNamespace

import pytest

from bot.engine.protocol import ModelFileError
from bot.models.catalog import find_entry, load_catalog
from bot.models.default import DEFAULT_DIGEST, DEFAULT_NAME, WEIGHTS_DIGEST
from bot.models.licence import DEFAULT_FACTS, LicenceError, build_facts, require_licence, resolve_licence
from db.types import ModelKind

OTHER = "ab" * 32


def test_names_and_files_are_unique_and_both_kinds_are_there():
    entries = load_catalog()
    assert len({entry.name.lower() for entry in entries}) == len(entries)
    assert len({(entry.repo, entry.file) for entry in entries}) == len(entries)
    assert {entry.kind for entry in entries} == set(ModelKind)


def test_every_note_is_filled_in():
    for entry in load_catalog():
        assert entry.licence
        assert entry.restrictions
        assert date.fromisoformat(entry.noted_on)
        assert entry.url == f"https://huggingface.co/{entry.base_model}"
        assert "00001-of" not in entry.file


@pytest.mark.parametrize(
    ("name", "licence", "commercial"),
    [
        ("bge-small-en-v1.5", "mit", "yes"),
        ("Qwen2.5-1.5B-Instruct", "apache-2.0", "yes"),
        ("Qwen2.5-3B-Instruct", "Qwen Research License", "no"),
        ("Llama-3.2-1B-Instruct", "Llama 3.2 Community License", "conditions"),
        ("gemma-3-1b-it", "Gemma Terms of Use", "conditions"),
        ("Mistral-7B-Instruct-v0.3", "apache-2.0", "yes"),
    ],
)
def test_licence_of_well_known_models(name, licence, commercial):
    entry = find_entry(name)
    assert (entry.licence, entry.commercial_use) == (licence, commercial)


def test_only_the_bundled_model_is_bundled_and_pinned_to_the_checked_weights():
    (bundled,) = [entry for entry in load_catalog() if entry.is_bundled]
    assert (bundled.name, bundled.sha256) == (DEFAULT_NAME, WEIGHTS_DIGEST)


def test_unknown_name_gets_the_nearest():
    with pytest.raises(ModelFileError, match=r"did you mean Qwen2\.5-1\.5B-Instruct\?"):
        find_entry("qwen2.5-1.5b-instuct")
    with pytest.raises(ModelFileError, match="`understudy models list` shows all"):
        find_entry("#")


def test_default_serves_without_a_note():
    decision = resolve_licence(DEFAULT_DIGEST, None, model_name=DEFAULT_NAME, allow_unapproved=False)
    assert decision.may_serve


@pytest.mark.parametrize(
    ("note", "is_allowed", "may_serve", "words"),
    [
        (None, False, False, "has no licence note"),
        (None, True, True, "the operator allowed it"),
        (SimpleNamespace(licence="mit", approved_by=None), False, False, "that nobody approved"),
        (SimpleNamespace(licence="mit", approved_by=""), False, False, "that nobody approved"),
        (SimpleNamespace(licence="mit", approved_by=None), True, True, "the operator allowed it"),
        (SimpleNamespace(licence="mit", approved_by="lead"), False, True, "approved by lead"),
    ],
)
def test_other_models_serve_by_approval_or_the_operators_word(note, is_allowed, may_serve, words):
    decision = resolve_licence(OTHER, note, model_name="tiny", allow_unapproved=is_allowed)
    assert decision.may_serve is may_serve
    assert words in decision.reason


def test_unapproved_model_is_an_error_that_says_how_to_approve():
    with pytest.raises(LicenceError, match="understudy models approve tiny"):
        require_licence(OTHER, None, model_name="tiny", allow_unapproved=False)
    assert require_licence(OTHER, None, model_name="tiny", allow_unapproved=True).may_serve


def test_facts_fit_the_notes_columns():
    from db.tables import LicenceNote

    columns = set(LicenceNote.model_fields)
    for facts in (DEFAULT_FACTS, build_facts(find_entry("Qwen3-0.6B"), revision="abc")):
        assert set(asdict(facts)) <= columns
    assert build_facts(find_entry("Qwen3-0.6B"), revision="abc").revision == "abc"
