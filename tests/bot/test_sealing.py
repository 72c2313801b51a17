"""Encryption of what plugins keep: whose keys, the file of the own one, rotation."""

import stat

import pytest

from bot.masking import Vault
from bot.sealing import KEY_FILE, Sealer, SealError


def test_without_vault_keys_an_own_key_is_made_once_for_the_owner_alone(tmp_path):
    sealed = Sealer.open(tmp_path, []).seal({"token": "xoxb-1"})
    assert stat.S_IMODE((tmp_path / KEY_FILE).stat().st_mode) == 0o600
    assert b"xoxb" not in sealed
    assert Sealer.open(tmp_path, []).unseal(sealed) == {"token": "xoxb-1"}


def test_with_vault_keys_no_file_is_made(tmp_path):
    key = Vault.new_key()
    sealed = Sealer.open(tmp_path, [key]).seal({"n": 1})
    assert not (tmp_path / KEY_FILE).exists()
    assert Sealer.open(tmp_path, [key]).unseal(sealed) == {"n": 1}


def test_values_of_the_own_key_open_after_a_vault_key_was_set_and_move_to_it(tmp_path):
    sealed = Sealer.open(tmp_path, []).seal({"n": 1})
    key = Vault.new_key()
    later = Sealer.open(tmp_path, [key])
    assert later.unseal(sealed) == {"n": 1}
    assert Sealer([key]).unseal(later.reseal(sealed)) == {"n": 1}


def test_a_value_that_no_key_opens_is_an_error_without_its_content(tmp_path):
    sealed = Sealer([Vault.new_key()]).seal({"n": "secret-value"})
    with pytest.raises(SealError, match="no key of UNDERSTUDY_VAULT_KEY") as caught:
        Sealer([Vault.new_key()]).unseal(sealed)
    assert "secret-value" not in str(caught.value)


def test_an_empty_key_file_is_an_error_that_says_what_to_do(tmp_path):
    (tmp_path / KEY_FILE).touch()
    with pytest.raises(SealError, match="is empty: delete it"):
        Sealer.open(tmp_path, [])
