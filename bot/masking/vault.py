"""Encrypts placeholder maps at rest. Knows nothing of where the bytes are kept or for how long."""

from typing import TYPE_CHECKING

from bot.masking.placeholders import PlaceholderMap

if TYPE_CHECKING:
    from cryptography.fernet import MultiFernet


class VaultError(Exception):
    """A vault key is malformed, or does not open what it was given."""


class Vault:
    """Fernet encryption with key rotation: the first key encrypts, every key decrypts."""

    def __init__(self, fernet: "MultiFernet") -> None:
        self._fernet = fernet

    @classmethod
    def from_keys(cls, keys: list[str]) -> "Vault":
        """A vault over Fernet keys (44 URL-safe base64 characters), newest first. Raises VaultError on none or a malformed one."""
        from cryptography.fernet import Fernet, MultiFernet

        if not keys:
            raise VaultError("the vault needs at least one key; make one with `Vault.new_key()`")
        fernets = []
        for position, key in enumerate(keys, start=1):
            try:
                fernets.append(Fernet(key.strip().encode()))
            except ValueError:
                message = f"vault key {position} is not a Fernet key (32 bytes as 44 URL-safe base64 characters)"
                raise VaultError(message) from None
        return cls(MultiFernet(fernets))

    @staticmethod
    def new_key() -> str:
        """A fresh random key."""
        from cryptography.fernet import Fernet

        return Fernet.generate_key().decode()

    def encrypt(self, mapping: PlaceholderMap) -> bytes:
        """The map as an authenticated, encrypted token that carries its time of making."""
        return self._fernet.encrypt(mapping.to_json().encode())

    def decrypt(self, data: bytes, *, max_age_s: int | None = None) -> PlaceholderMap:
        """The map inside `data`. Raises VaultError if no key fits, the data is damaged or older than `max_age_s`."""
        from cryptography.fernet import InvalidToken

        try:
            plain = self._fernet.decrypt(data, ttl=max_age_s)
        except InvalidToken:
            plain = None
        if plain is None:
            raise VaultError(
                "the vault entry cannot be opened: it is damaged, too old, or none of the keys is the one it was made with"
            )
        return PlaceholderMap.from_json(plain.decode())

    def rotate(self, data: bytes) -> bytes:
        """The same entry encrypted with the newest key, its time of making kept. Raises VaultError like `decrypt`."""
        from cryptography.fernet import InvalidToken

        try:
            return self._fernet.rotate(data)
        except InvalidToken:
            raise VaultError(
                "the vault entry cannot be rotated: it is damaged or none of the keys is the one it was made with"
            ) from None
