"""Every table and column there is has its line in the data map, and every table its place in export and erasure."""

from bot.privacy.datamap_entries import ENTRIES, FORMS
from bot.privacy.settings import RetentionSettings
from db import privacy_tables  # noqa: F401  its table belongs to the metadata
from db.tables import Row


def test_every_table_and_column_has_an_entry_and_no_entry_is_left_over():
    tables = {name: {column.name for column in table.columns} for name, table in Row.metadata.tables.items()}
    assert {name: set(entry.columns) for name, entry in ENTRIES.items()} == tables


def test_every_form_is_known_and_none_is_raw():
    forms = {form for entry in ENTRIES.values() for form, _ in entry.columns.values()}
    assert forms == FORMS
    assert "raw" not in forms


def test_every_ciphertext_is_said_to_be_encrypted():
    for entry in ENTRIES.values():
        for name, (form, _) in entry.columns.items():
            assert (name == "ciphertext") == (form == "encrypted")


def test_every_retention_limit_is_named_by_a_table():
    assert set(RetentionSettings.model_fields) <= {entry.retention for entry in ENTRIES.values()}


def test_every_entry_says_who_reads_where_it_leaves_and_what_erasure_does():
    for entry in ENTRIES.values():
        assert all([entry.holds, entry.retention, entry.readers, entry.leaves, entry.on_erasure])
