"""Encrypts what plugins keep in the database: with the vault's keys, or with a key of this installation's own where none is set.

Knows nothing of what is encrypted. The own key guards copies of the database, not a machine whose home folder is read by others.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

KEY_FILE = "plugins.key"


class SealError(Exception):
    """A stored value that no key opens, or a key file that is not one. The message names no content."""


class Sealer:
    """Turns JSON objects into ciphertexts and back; the first key encrypts, every key decrypts."""

    def __init__(self, keys: list[str]) -> None:
        try:
            self._fernet = MultiFernet([Fernet(key.encode()) for key in keys])
        except ValueError:
            raise SealError("a key for the plugins' data is not a Fernet key (44 URL-safe base64 characters)") from None

    @classmethod
    def open(cls, home: Path, vault_keys: list[str]) -> "Sealer":
        """Return a sealer over the vault's keys, or over this installation's own, which is made at the first call. Raises SealError."""
        path = home / KEY_FILE
        if vault_keys and not path.exists():
            return cls(vault_keys)
        return cls([*vault_keys, _read_key(path)])

    def seal(self, value: Mapping[str, Any]) -> bytes:
        """Encrypt a JSON object. Raises TypeError or ValueError for what JSON cannot say."""
        return self._fernet.encrypt(json.dumps(value, allow_nan=False).encode())

    def unseal(self, ciphertext: bytes) -> Mapping[str, Any]:
        """Decrypt a JSON object. Raises SealError."""
        try:
            plain = self._fernet.decrypt(ciphertext)
        except InvalidToken:
            raise SealError(
                "a plugin's stored value cannot be opened: no key of UNDERSTUDY_VAULT_KEY is the one it was made with"
            ) from None
        return cast("Mapping[str, Any]", json.loads(plain))

    def reseal(self, ciphertext: bytes) -> bytes:
        """Encrypt again with the first key. Raises SealError."""
        try:
            return self._fernet.rotate(ciphertext)
        except InvalidToken:
            raise SealError("a plugin's stored value cannot be opened with any of the keys") from None


def _read_key(path: Path) -> str:
    """Return the key in the file, which is made for its owner alone where there is none."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        key = path.read_text(encoding="ascii").strip()
        if not key:
            raise SealError(f"{path} is empty: delete it, which loses what plugins keep, or restore it") from None
        return key
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        key = Fernet.generate_key().decode()
        file.write(key)
    return key
