"""Keys and JSON that any database takes: others stay as they are, and different keys stay different."""

import json

import pytest

from bot.storable import MAX_KEY_CHARS, clean_json, clean_key
from bot.types import SourceRef


@pytest.mark.parametrize("key", ["", "event:17", "ticket/Zürich", "x" * MAX_KEY_CHARS])
def test_a_key_that_can_be_stored_stays(key):
    assert clean_key(key) == key


@pytest.mark.parametrize("key", ["a\0b", "\ud800", "x" * (MAX_KEY_CHARS + 1)])
def test_a_key_that_cannot_be_stored_becomes_a_digest_of_its_own(key):
    digest = clean_key(key)
    assert len(digest) == 64
    assert digest == clean_key(key)
    assert digest != clean_key(key + "\0")


def test_json_loses_only_what_no_database_takes():
    found = clean_json({"a\0": ["\ud800x", 1, None, {"é": "ü\0"}], "t": ("b", True)})
    assert found == {"a": ["?x", 1, None, {"é": "ü"}], "t": ["b", True]}
    json.dumps(found, ensure_ascii=False).encode()


def test_a_source_has_an_id_that_can_be_stored():
    assert SourceRef("desk", "7\0\ud800").external_id == "7?"
    assert SourceRef("desk", "Ticket 7, ä") == SourceRef("desk", "Ticket 7, ä")
