"""Masks personal data and secrets before text reaches a prompt, a table or a log, and undoes it for display.

Importing this package loads no model and no Presidio; building a `Masker` or starting a `MaskerPool` does.
"""

from bot.masking.masker import Masker, TextMasker
from bot.masking.placeholders import ENTITY_TYPES, PLACEHOLDER, Masked, MaskingError, PlaceholderMap, Span
from bot.masking.pool import MaskerPool
from bot.masking.rendering import NEVER_SHOWN, render, restore
from bot.masking.settings import EntityAction, MaskingSettings
from bot.masking.vault import Vault, VaultError
from bot.masking.waiting import MaskingBusyError

__all__ = [
    "ENTITY_TYPES",
    "NEVER_SHOWN",
    "PLACEHOLDER",
    "EntityAction",
    "Masked",
    "Masker",
    "MaskerPool",
    "MaskingBusyError",
    "MaskingError",
    "MaskingSettings",
    "PlaceholderMap",
    "Span",
    "TextMasker",
    "Vault",
    "VaultError",
    "render",
    "restore",
]
