"""The two ways back from a masked text: the exact inverse, and tolerant display of what a model wrote.

Knows nothing of detection; never shows secrets, whoever asks.
"""

import html
from collections.abc import Callable
from typing import Final

from bot.masking.placeholders import LITERAL, TOLERANT, Masked, MaskingError, PlaceholderMap, type_of

NEVER_SHOWN: Final = frozenset(
    {"SECRET", "CREDIT_CARD", "CVV", "IBAN_CODE", "BANK_ACCOUNT", "CRYPTO", "US_SSN", "NATIONAL_ID", "PASSPORT", "DRIVER_LICENSE"}
)
"""Types of which a viewer sees at most the last digits."""

_NOUNS: Final = {
    "EMAIL_ADDRESS": "email address",
    "CREDIT_CARD": "card",
    "CVV": "card code",
    "IBAN_CODE": "IBAN",
    "BANK_ACCOUNT": "bank account",
    "CRYPTO": "wallet",
    "US_SSN": "social security number",
    "NATIONAL_ID": "national id",
    "DRIVER_LICENSE": "driving licence",
    "DATE_OF_BIRTH": "date of birth",
    "IP_ADDRESS": "IP address",
    "MAC_ADDRESS": "MAC address",
    "USERNAME": "user name",
    "PHONE_NUMBER": "phone number",
    "CUSTOMER_NUMBER": "customer number",
    "INVOICE_NUMBER": "invoice number",
    "ORDER_NUMBER": "order number",
    "TICKET_NUMBER": "ticket number",
    "HEALTH": "health detail",
    LITERAL: "text",
}
_ENDING_SHOWN: Final = frozenset({"CREDIT_CARD", "IBAN_CODE", "BANK_ACCOUNT"})


def restore(masked: Masked) -> str:
    """The text that was masked, byte for byte. Raises MaskingError if the value was put together by hand and does not fit."""
    parts: list[str] = []
    position = 0
    for placeholder, surface in masked.surfaces:
        found = masked.text.find(placeholder, position)
        if found < 0:
            raise MaskingError("the placeholders of this text do not match its surfaces; restore the value mask() returned")
        parts += [masked.text[position:found], surface]
        position = found + len(placeholder)
    return "".join(parts) + masked.text[position:]


def render(
    text: str,
    mapping: PlaceholderMap,
    *,
    hidden: frozenset[str] = frozenset(),
    escape_html: bool = False,
    on_unknown: Callable[[str], None] | None = None,
) -> str:
    """`text` (a model's answer, a stored masked text) with the ticket's values put back, for display only.

    One pass: what a value contains is never expanded again. Types in `NEVER_SHOWN` or `hidden` stay a noun in brackets; so
    does a number that the ticket does not know, and `on_unknown` then gets its type, to be counted. `escape_html` escapes both
    the text and the values.
    """
    escape: Callable[[str], str] = html.escape if escape_html else str
    parts: list[str] = []
    position = 0
    for match in TOLERANT.finditer(text):
        entity, number = type_of(match["type"]), int(match["number"])
        parts.append(escape(text[position : match.start()]))
        surface = mapping.surface(entity, number)
        if surface is None and on_unknown is not None:
            on_unknown(entity)
        parts.append(escape(_shown(entity, surface, hidden)))
        position = match.end()
    return "".join(parts) + escape(text[position:])


def _shown(entity: str, surface: str | None, hidden: frozenset[str]) -> str:
    noun = _NOUNS.get(entity, entity.lower())
    if surface is None or entity in hidden:
        return f"[{noun}]"
    if entity not in NEVER_SHOWN:
        return surface
    last = "".join(c for c in surface if c.isalnum())[-4:]
    return f"[{noun} ending {last}]" if entity in _ENDING_SHOWN and len(last) == 4 else f"[{noun}]"
