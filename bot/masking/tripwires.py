"""A last look at masked text, with patterns of its own: what these find must never be stored.

Deliberately simple and separate from the rules: it catches a rule that failed, not what no rule looks for.
"""

from collections.abc import Callable
from typing import Final

import regex

from bot.masking.recognizers.finance import is_iban, luhn
from bot.masking.rules import ID_BEFORE

_EMAIL: Final = regex.compile(
    r"[\w.+-]@[\w-]{1,63}(?:\.[\w-]{1,63}){0,6}\.(?:com|org|net|edu|gov|io|co|eu|uk|de|fr|es|it|nl|us|ca|in|au)\b",
    regex.IGNORECASE,
)
_KEY: Final = regex.compile(
    r"(?<![A-Za-z0-9])(?:(?:AKIA|ASIA)[A-Z0-9]{16}|gh[pousr]_[A-Za-z0-9]{30,}|xox[abprs]-\d{8,}-[\w-]{10,}|"
    r"sk_live_[A-Za-z0-9]{16,}|AIza[\w-]{35})(?![A-Za-z0-9])"
    r"|-----BEGIN[A-Z ]{0,30} PRIVATE KEY"
)
_IBAN: Final = regex.compile(r"(?<![A-Z0-9])[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){3,7}(?: ?[A-Z0-9]{1,3})?(?![A-Z0-9])")
_CARD: Final = regex.compile(r"(?<![\w.\-])(?<!\d )(?:4\d{3}|5[1-5]\d\d|2[2-7]\d\d)[ -]?\d{4}[ -]?\d{4}[ -]?\d{4}(?![\w.\-]| \d)")


def residual(masked: str, is_masked: Callable[[str], bool]) -> str:
    """What kind of data is left in `masked` (placeholders removed), or an empty string. Types the settings keep are not looked for."""
    if is_masked("EMAIL_ADDRESS") and _EMAIL.search(masked):
        return "an email address"
    if is_masked("SECRET") and _KEY.search(masked):
        return "a key"
    if is_masked("CREDIT_CARD"):
        for match in _CARD.finditer(masked):
            digits = "".join(c for c in match.group() if c.isdigit())
            if luhn(digits) and not ID_BEFORE.search(masked[max(0, match.start() - 60) : match.start()]):
                return "a card number"
    if is_masked("IBAN_CODE") and any(is_iban(m.group().replace(" ", "")) for m in _IBAN.finditer(masked)):
        return "an IBAN"
    return ""
