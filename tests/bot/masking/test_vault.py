"""Encryption of placeholder maps: round trip, rotation, expiry, wrong and malformed keys."""

import pytest

from bot.masking import PlaceholderMap, Vault, VaultError


@pytest.fixture
def mapping():
    filled = PlaceholderMap()
    filled.placeholder("PERSON", "Sarah Lee")
    return filled


def test_map_comes_back_and_is_not_readable_in_between(mapping):
    vault = Vault.from_keys([Vault.new_key()])
    data = vault.encrypt(mapping)
    assert b"Sarah" not in data
    assert vault.decrypt(data) == mapping


def test_old_entries_open_and_rotate_after_a_new_key_is_put_first(mapping):
    old, new = Vault.new_key(), Vault.new_key()
    data = Vault.from_keys([old]).encrypt(mapping)
    both = Vault.from_keys([new, old])
    assert both.decrypt(data) == mapping
    assert Vault.from_keys([new]).decrypt(both.rotate(data)) == mapping


def test_wrong_key_is_one_clear_error(mapping):
    data = Vault.from_keys([Vault.new_key()]).encrypt(mapping)
    other = Vault.from_keys([Vault.new_key()])
    with pytest.raises(VaultError, match="cannot be opened"):
        other.decrypt(data)
    with pytest.raises(VaultError, match="cannot be rotated"):
        other.rotate(data)


def test_damaged_entry_is_one_clear_error(mapping):
    vault = Vault.from_keys([Vault.new_key()])
    data = vault.encrypt(mapping)
    with pytest.raises(VaultError, match="cannot be opened"):
        vault.decrypt(data[:-4] + b"AAAA")


def test_expired_entry_does_not_open(mapping):
    vault = Vault.from_keys([Vault.new_key()])
    with pytest.raises(VaultError, match="too old"):
        vault.decrypt(vault.encrypt(mapping), max_age_s=-1)


@pytest.mark.parametrize("key", ["", "short", "a" * 44, "ü" * 44])
def test_malformed_key_is_named_by_position_and_never_quoted(key):
    with pytest.raises(VaultError, match="vault key 2 is not a Fernet key") as caught:
        Vault.from_keys([Vault.new_key(), key])
    assert not key or key not in str(caught.value)


def test_no_keys_is_an_error():
    with pytest.raises(VaultError, match="at least one key"):
        Vault.from_keys([])
