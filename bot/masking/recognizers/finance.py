"""Cards, IBANs, bank accounts and wallets. Checksums decide; a cue stands in where a number was mistyped."""

from typing import Final

import regex

from bot.masking.rules import ID_BEFORE, Rule, with_digits

# Length of an IBAN by country, from the public registry.
_IBAN_LENGTHS: Final = {
    "AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BR": 29, "BY": 28, "CH": 21, "CR": 22,
    "CY": 28, "CZ": 24, "DE": 22, "DK": 18, "DO": 28, "EE": 20, "EG": 29, "ES": 24, "FI": 18, "FO": 18, "FR": 27, "GB": 22, "GE": 22,
    "GI": 23, "GL": 18, "GR": 27, "GT": 28, "HR": 21, "HU": 28, "IE": 22, "IL": 23, "IS": 26, "IT": 27, "JO": 30, "KW": 30, "KZ": 20,
    "LB": 28, "LI": 21, "LT": 20, "LU": 20, "LV": 21, "MC": 27, "MD": 24, "ME": 22, "MK": 19, "MR": 27, "MT": 31, "MU": 30, "NL": 18,
    "NO": 15, "PK": 24, "PL": 28, "PS": 29, "PT": 25, "QA": 29, "RO": 24, "RS": 22, "SA": 24, "SE": 24, "SI": 19, "SK": 24, "SM": 27,
    "TN": 24, "TR": 26, "UA": 29, "VG": 24, "XK": 20,
}  # fmt: skip
_CARD_CUE: Final = regex.compile(
    r"\b(?:card|visa|master\s?card|amex|american express|discover|maestro|cc|credit|debit|kreditkarte|pan)\b", regex.IGNORECASE
)
_IBAN_CUE: Final = regex.compile(r"\biban\b", regex.IGNORECASE)


def luhn(digits: str) -> bool:
    """Whether a digit string passes the checksum of payment cards."""
    total = 0
    for index, char in enumerate(reversed(digits)):
        value = int(char) * (1 + index % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def iban_checksum(compact: str) -> bool:
    """Whether an upper-case IBAN without separators passes mod 97."""
    return int("".join(str(int(c, 36)) for c in compact[4:] + compact[:4])) % 97 == 1


def is_iban(compact: str) -> bool:
    """Whether an upper-case string without separators has the length and the checksum of its country's IBANs."""
    return len(compact) == _IBAN_LENGTHS.get(compact[:2]) and iban_checksum(compact)


def _card(value: str, before: str, _after: str) -> tuple[int, int] | None:
    positions = [i for i, c in enumerate(value) if c.isdigit()]
    digits = "".join(value[i] for i in positions)
    cued = _CARD_CUE.search(before) is not None
    if ID_BEFORE.search(before) and not cued:
        return None
    count = len(digits)
    # A card may follow a count or precede an expiry date: it starts and ends where a group of digits does.
    starts = [i for i in range(count - 11) if i == 0 or positions[i] > positions[i - 1] + 1]
    for length in (16, 15, 19, 18, 17, 14, 13, *((12,) if cued else ())):
        for start in starts:
            end = start + length
            is_group_end = end == count or (end < count and positions[end] > positions[end - 1] + 1)
            if is_group_end and digits[start] in "23456" and luhn(digits[start:end]) and len(set(digits[start:end])) > 1:
                return positions[start], positions[end - 1] + 1
    if cued and count >= 15:
        return 0, positions[min(count, 16) - 1] + 1
    return None


def _iban(value: str, before: str, _after: str) -> tuple[int, int] | None:
    positions = [i for i, c in enumerate(value) if c.isalnum()]
    compact = "".join(value[i] for i in positions).upper()
    length = _IBAN_LENGTHS.get(compact[:2], 0)
    cued = _IBAN_CUE.search(before) is not None
    if length and len(compact) >= length:
        end = positions[length - 1] + 1
        is_boundary = len(compact) == length or positions[length] > end
        if (is_boundary and iban_checksum(compact[:length])) or cued:
            return 0, end
    return (0, len(value)) if len(compact) >= 15 and (cued or iban_checksum(compact)) else None


_SEPARATOR: Final = r"[\s.\-_·/]{0,2}"
_IS: Final = r"(?:[ \t]{0,2}(?:number|no|nr|num|code|is|was|are|lautet|:|=|#|\.|-)){0,3}[ \t]{0,3}[\"'(]?"

RULES: Final = (
    Rule("CREDIT_CARD", rf"(?<![A-Za-z\d.+])(?P<pii>\d(?:{_SEPARATOR}\d){{11,20}})(?![A-Za-z\d])", 0.95, refine=_card),
    Rule(
        "CVV",
        r"\b(?:cvv2?|cvc2?|cvn|cid|security code|card code)(?:[ \t]{0,2}(?:number|code|is|was|:|=|#|-|"
        r"\()){0,3}[ \t]{0,3}(?P<pii>\d{3,4})(?!\d)",
        0.9,
        ("cv", "cid", "code"),
    ),
    Rule(
        "IBAN_CODE",
        rf"(?<![^\W_])(?P<pii>[A-Z]{{2}}{_SEPARATOR}\d{_SEPARATOR}\d(?:{_SEPARATOR}[A-Z0-9]){{11,30}})(?![^\W_])",
        0.95,
        refine=_iban,
    ),
    Rule(
        "IBAN_CODE",
        rf"(?<![^\W_])(?P<pii>[A-Z]{{2}}\d\d(?:{_SEPARATOR}[A-Z0-9]){{11,27}}?)(?![^\W_])",
        0.95,
        ("iban",),
        refine=_iban,
    ),
    Rule(
        "BANK_ACCOUNT",
        r"\b(?:bank account|checking account|savings account|current account|account (?:number|no\b|nr\b|num)|"
        r"acct\.?(?: number| no)?|a/c(?: no)?|"
        rf"kontonummer|kto|routing(?: number)?|aba(?: number)?|sort code|bsb|clabe|transit number|blz|"
        rf"bankleitzahl){_IS}(?P<pii>\d[\d\- ]{{4,20}}\d)(?!\d)",
        0.8,
        ("acc", "a/c", "konto", "kto", "routing", "aba", "sort", "bsb", "clabe", "transit", "blz", "bankl"),
        with_digits(6),
    ),
    # "account 12345678" alone may be a customer number; beside a payment it is a bank's.
    Rule(
        "BANK_ACCOUNT",
        rf"\b(?:paid|pay|payment|transfer\w*|debit\w*|refund\w*|deposit\w*|withdr\w+|wired?|bank)\b[^\n.]{{0,60}}?\baccount{_IS}(?P<pii>\d{{6,17}})(?!\d)",
        0.75,
        ("account",),
    ),
    Rule("BANK_ACCOUNT", rf"\b(?:sort code){_IS}(?P<pii>\d\d[- ]\d\d[- ]\d\d)(?!\d)", 0.85, ("sort",)),
    Rule(
        "BANK_ACCOUNT",
        rf"\b(?:bic|swift)(?:/(?:bic|swift))?{_IS}(?P<pii>[A-Z]{{4}}[A-Z]{{2}}[A-Z0-9]{{2}}(?:[A-Z0-9]{{3}})?)\b",
        0.7,
        ("bic", "swift"),
        ignore_case=False,
    ),
    Rule("BANK_ACCOUNT", rf"\b(?i:ifsc){_IS}(?P<pii>[A-Z]{{4}}0[A-Z0-9]{{6}})\b", 0.8, ("ifsc",)),
    Rule("CRYPTO", r"(?<!\w)(?P<pii>0x[0-9a-f]{40})(?!\w)", 0.95, ("0x",)),
)
