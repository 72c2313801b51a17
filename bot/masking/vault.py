"""Encrypts placeholder maps, and phrases of corrections, at rest. Knows nothing of where the bytes are kept or for how long."""

import hashlib
import hmac
from typing import TYPE_CHECKING

from bot.masking.placeholders import PlaceholderMap

if TYPE_CHECKING:
    from cryptography.fernet import Fernet


class VaultError(Exception):
    """A vault key is malformed, or does not open what it was given."""


class Vault:
    """Fernet encryption with key rotation: the first key encrypts, every key decrypts."""

    def __init__(self, fernets: "list[Fernet]", keys: list[str]) -> None:
        from cryptography.fernet import MultiFernet

        self._fernets = fernets
        self._fernet = MultiFernet(fernets)
        self._keys = [key.encode() for key in keys]

    def __repr__(self) -> str:
        return f"Vault({len(self._keys)} keys)"  # never a key: this may end up in a log

    @classmethod
    def from_keys(cls, keys: list[str]) -> "Vault":
        """A vault over Fernet keys (44 URL-safe base64 characters), newest first. Raises VaultError on none or a malformed one."""
        from cryptography.fernet import Fernet

        if not keys:
            raise VaultError("the vault needs at least one key; make one with `understudy vault new-key`")
        fernets = []
        for position, key in enumerate(keys, start=1):
            try:
                fernets.append(Fernet(key.strip().encode()))
            except ValueError:
                message = f"vault key {position} is not a Fernet key (32 bytes as 44 URL-safe base64 characters)"
                raise VaultError(message) from None
        return cls(fernets, [key.strip() for key in keys])

    @staticmethod
    def new_key() -> str:
        """A fresh random key."""
        from cryptography.fernet import Fernet

        return Fernet.generate_key().decode()

    @property
    def fingerprints(self) -> tuple[str, ...]:
        """A short name of each key, newest first, by which people tell keys apart; it says nothing of the key."""
        return tuple(hashlib.sha256(b"understudy vault key\0" + key).hexdigest()[:8] for key in self._keys)

    def derive(self, purpose: bytes) -> dict[str, bytes]:
        """A secret of 32 bytes per key, by fingerprint, newest first: for hashes that only holders of the key can make."""
        secrets = (hmac.new(key, purpose, hashlib.sha256).digest() for key in self._keys)
        return dict(zip(self.fingerprints, secrets, strict=True))

    def find_key(self, data: bytes) -> int | None:
        """The position of the key that opens `data`, 0 being the newest; None where none does."""
        from cryptography.fernet import InvalidToken

        for position, fernet in enumerate(self._fernets):
            try:
                fernet.decrypt(data)
            except InvalidToken:
                continue
            return position
        return None

    def encrypt(self, mapping: PlaceholderMap) -> bytes:
        """The map as an authenticated, encrypted token that carries its time of making."""
        return self.encrypt_text(mapping.to_json())

    def encrypt_text(self, text: str) -> bytes:
        """A text likewise."""
        return self._fernet.encrypt(text.encode())

    def decrypt(self, data: bytes, *, max_age_s: int | None = None) -> PlaceholderMap:
        """The map inside `data`. Raises VaultError if no key fits, the data is damaged or older than `max_age_s`."""
        return PlaceholderMap.from_json(self.decrypt_text(data, max_age_s=max_age_s))

    def decrypt_text(self, data: bytes, *, max_age_s: int | None = None) -> str:
        """The text inside `data`. Raises VaultError like `decrypt`."""
        from cryptography.fernet import InvalidToken

        try:
            plain = self._fernet.decrypt(data, ttl=max_age_s)
        except InvalidToken:
            plain = None
        if plain is None:
            raise VaultError(
                "the vault entry cannot be opened: it is damaged, too old, or none of the keys is the one it was made with"
            )
        return plain.decode()

    def rotate(self, data: bytes) -> bytes:
        """The same entry encrypted with the newest key, its time of making kept. Raises VaultError like `decrypt`."""
        from cryptography.fernet import InvalidToken

        try:
            return self._fernet.rotate(data)
        except InvalidToken:
            raise VaultError(
                "the vault entry cannot be rotated: it is damaged or none of the keys is the one it was made with"
            ) from None
