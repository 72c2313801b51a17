"""Shared prompt prefixes of the decoder: which are in the cache, who uses them, which one goes first when room is needed.

Pure accounting on the owner thread: knows sequence ids and token counts, not llama.cpp. A prefix belongs to one LoRA group, so an answer
can never be computed from another adapter's cache.
"""

from collections import OrderedDict
from dataclasses import dataclass

from bot.engine.slots import PrefixSlot

PrefixKey = tuple[str, tuple[int, ...]]
"""LoRA group and the prefix's tokens: the content itself, so equal keys are equal prompts."""


@dataclass(eq=False)
class Prefix:
    """A prefix in the cache or on its way there; `n_users` requests are admitted on it."""

    slot: PrefixSlot
    n_users: int = 0

    @property
    def is_ready(self) -> bool:
        """Whether it was read to its end."""
        return self.slot.is_done


class PrefixCache:
    """Prefixes by key, least recently used first."""

    def __init__(self) -> None:
        self._entries: OrderedDict[PrefixKey, Prefix] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: PrefixKey) -> Prefix | None:
        """Return a prefix and mark it as just used."""
        entry = self._entries.get(key)
        if entry is not None:
            self._entries.move_to_end(key)
        return entry

    def add(self, key: PrefixKey, slot: PrefixSlot) -> Prefix:
        """Enter a prefix that is to be read."""
        entry = self._entries[key] = Prefix(slot)
        return entry

    def find_idle(self) -> PrefixKey | None:
        """Return the least recently used prefix that is ready and has no user, or None."""
        return next((key for key, entry in self._entries.items() if entry.is_ready and entry.n_users == 0), None)

    def find_group(self, group: str) -> list[PrefixKey]:
        """Return the prefixes of a LoRA group."""
        return [key for key in self._entries if key[0] == group]

    def remove(self, key: PrefixKey) -> Prefix:
        """Forget a prefix and return it, so that its sequence can be freed."""
        return self._entries.pop(key)

    def clear(self) -> None:
        """Forget all."""
        self._entries.clear()
