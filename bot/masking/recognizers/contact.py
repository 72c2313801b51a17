"""Email addresses, plain and disguised, and phone numbers announced by a word or spelled out.

Unannounced phone numbers are libphonenumber's job, through Presidio; `is_phone` here decides which of its findings to believe.
"""

from typing import Final

import regex

from bot.masking.rules import ID_BEFORE, Rule

_LOCAL: Final = r"\w[\w.+'!#$^%~-]{0,63}"
_LABEL: Final = r"[^\W_](?:[\w-]{0,61}[^\W_])?"
_TLD: Final = (
    r"(?:com|org|net|edu|gov|info|biz|io|co|ai|app|dev|eu|uk|de|fr|es|it|nl|be|ch|at|pl|se|no|dk|fi|ie|pt|cz|ru|br|in|au|nz|"
    r"ca|us|jp|cn|"
    r"mx|za|local|internal|lan|corp|test|example|invalid|intern|home)"
)
_AT_SIGN: Final = r"(?:\s{0,2}[\[({<]\s?(?:@|at|ät|a|arroba)\s?[\])}>]\s{0,2})"
_DOT_SIGN: Final = r"(?:\s{0,2}[\[({<]\s?(?:\.|dot|punkt|point|punto)\s?[\])}>]\s{0,2})"
_WORD_AT: Final = r"(?:[ \t]{1,2}at[ \t]{1,2})"
_WORD_DOT: Final = r"(?:[ \t]{1,2}(?:dot|punkt|punto)[ \t]{1,2})"
_WORDY_LOCAL: Final = (
    rf"[\w.+-]{{1,40}}(?:(?:{_DOT_SIGN}|[ \t]{{1,2}}(?:dot|underscore|dash|hyphen|minus|plus)[ \t]{{1,2}})[\w+-]{{1,30}}){{0,4}}"
)
_FREEMAIL: Final = (
    r"(?:gmail|googlemail|yahoo|ymail|hotmail|outlook|live|msn|icloud|me|aol|gmx|web|protonmail|proton|mail|fastmail|zoho|"
    r"yandex|t-online|"
    r"btinternet|comcast|verizon|orange|free|libero|qq|163)"
)

_AT_DOMAIN: Final = rf"[ \t]at[ \t]{{1,2}}[\w-]{{1,40}}(?:\.[\w-]{{1,40}}){{0,3}}\.{_TLD}\b"

_EMAILS: Final = (
    Rule(
        "EMAIL_ADDRESS",
        rf"(?P<pii>(?:\"[^\"\n]{{1,60}}\"|(?<![\w+]){_LOCAL})@(?:{_LABEL}\.){{1,8}}(?:xn--)?[^\W\d_][\w-]{{1,22}}(?!\w))",
        1.0,
        ("@",),
    ),
    Rule("EMAIL_ADDRESS", rf"(?<![\w+])(?P<pii>{_LOCAL}@\[?(?:\d{{1,3}}\.){{3}}\d{{1,3}}\]?)", 0.9, ("@",)),
    # One label only: user@host. The host must look like a name, so that "react@18" and "5@noon" stay.
    Rule("EMAIL_ADDRESS", rf"(?<![\w+/@])(?P<pii>[a-z]{_LOCAL}@[a-z][a-z0-9-]{{2,40}})(?![\w@]|\.\w|/\w)", 0.7, ("@",)),
    # Blanks or a line break around @ or the dots, a comma for a dot.
    Rule(
        "EMAIL_ADDRESS",
        rf"(?<![\w+])"
        rf"(?P<pii>{_LOCAL}\s{{0,3}}@\s{{0,3}}{_LABEL}(?:\s{{0,2}}[.,]\s{{0,2}}{_LABEL}){{0,4}}\s{{0,2}}[.,]\s{{0,2}}{_TLD})"
        rf"(?!\w)",
        0.9,
        ("@",),
    ),
    Rule(
        "EMAIL_ADDRESS",
        rf"(?<![\w+])(?P<pii>{_WORDY_LOCAL}{_AT_SIGN}{_LABEL}(?:(?:{_DOT_SIGN}|{_WORD_DOT}|\.){_LABEL}){{1,5}})(?!\w)",
        0.9,
        ("[", "(", "{", "<"),
        gate=r"[\[({<]\s?(?:@|at|ät|a|arroba)\s?[\])}>]",
    ),
    Rule(
        "EMAIL_ADDRESS",
        rf"(?<![\w+])(?P<pii>{_LOCAL}(?:{_WORD_AT}|"
        rf"\s{{0,2}}@\s{{0,2}}){_LABEL}(?:\.{_LABEL}){{0,3}}(?:{_DOT_SIGN}{_LABEL}){{1,4}})(?!\w)",
        0.9,
        ("[", "(", "{", "<"),
        gate=r"[\[({<]\s?(?:\.|dot|punkt|point|punto)\s?[\])}>]",
    ),
    Rule(
        "EMAIL_ADDRESS",
        rf"(?<![\w+])(?P<pii>{_WORDY_LOCAL}(?:{_WORD_AT}|@){_LABEL}(?:{_WORD_DOT}{_LABEL}){{1,4}})(?!\w)",
        0.9,
        (" dot ", " punkt ", " punto "),
    ),
    Rule(
        "EMAIL_ADDRESS",
        rf"(?<![\w+])(?P<pii>{_WORDY_LOCAL}{_WORD_AT}{_FREEMAIL}\.{_TLD}(?:\.{_TLD})?)(?!\w)",
        0.8,
        (" at ",),
        gate=_AT_DOMAIN,
    ),
    # "ines_ferro at sapo.pt", and any local part after a word for mail
    Rule(
        "EMAIL_ADDRESS",
        rf"(?<![\w+])(?P<pii>[a-z]{{2,30}}[._][a-z][\w.]{{1,30}}{_WORD_AT}(?:{_LABEL}\.){{1,3}}{_TLD})(?!\w)",
        0.8,
        (" at ",),
        gate=_AT_DOMAIN,
    ),
    Rule(
        "EMAIL_ADDRESS",
        rf"\b(?:e-?mail(?: address)?|mail|write(?: to)?|address)(?: me| us)?(?: is| was|:)?[ ]"
        rf"(?P<pii>[\w.+-]{{2,40}}{_WORD_AT}(?:{_LABEL}\.){{1,3}}{_TLD})(?!\w)",
        0.8,
        (" at ",),
        gate=_AT_DOMAIN,
    ),
    Rule(
        "EMAIL_ADDRESS",
        rf"(?<![\w+])(?P<pii>[\w.+-]{{1,40}}(?:_at_|-at-|\.at\.){_LABEL}(?:(?:\.|_dot_|-dot-){_LABEL}){{0,3}}(?:\.|_dot_|"
        rf"-dot-){_TLD})(?!\w)",
        0.8,
        ("_at_", "-at-", ".at."),
    ),
    Rule(
        "EMAIL_ADDRESS",
        rf"(?<![\w+])(?P<pii>[a-z][a-z0-9.+-]{{1,40}}AT[a-z0-9-]{{2,40}}(?:\.|DOT){_TLD})(?!\w)",
        0.8,
        ("at",),
        ignore_case=False,
    ),
)

_PHONE_CUE: Final = regex.compile(
    r"\b(?:phone|telephone|tele?|tel|mobile|mob|cell(?:phone)?|call|calling|ring|dial|text|sms|whats\s?app|signal|fax|"
    r"hotline|landline|handy|"
    r"telefon|rufnummer|téléphone|portable|teléfono|móvil|cellulare|contact(?: me)?(?: on| at)|reach(?: me)?(?: on| at)|"
    r"extension|ph|t|m)\b",
    regex.IGNORECASE,
)
_EXTENSION: Final = r"(?:[ ,;]{0,2}(?:x|ext\.?|extension|durchwahl)[ .:]{0,2}\d{1,6})?"
_NUMBER: Final = r"(?:\+|00)?[\d(][\d \t().\-/·]{4,22}\d" + _EXTENSION
_DIGIT_WORD: Final = r"(?:zero|oh|one|two|three|four|five|six|seven|eight|nine|double|triple)"


_DATE: Final = regex.compile(
    r"(?:(?:19|20)\d\d([-./ ])(?:0?[1-9]|1[0-2])\1(?:[12]\d|3[01]|0?[1-9])"
    r"|(?:[12]\d|3[01]|0?[1-9])([-./ ])(?:[12]\d|3[01]|0?[1-9])\2(?:(?:19|20)\d\d|\d\d))(?:[ ,T].*)?"
)


def is_phone(value: str, before: str, after: str, *, is_announced: bool = False) -> bool:
    """Whether a stretch that libphonenumber takes for a phone number, or that a word announces as one, is one here."""
    if ID_BEFORE.search(before):
        return False
    return not _DATE.fullmatch(value) if is_announced else _looks_like_phone(value, before, after)


def _looks_like_phone(value: str, before: str, after: str) -> bool:
    if regex.search(r"[\d.,/-]\Z|\d:\Z|[#$€£_]\s?\Z|\w-\Z", before) or regex.match(r"[\d_%]|[-.:/,]\d", after):
        return False
    digits = sum(c.isdigit() for c in value)
    if value.startswith("+") or (
        regex.fullmatch(r"\(?\d{3}\)?[ -]\d{3}[ -]\d{4}", value) and not regex.search(r"\b(?:ref|case|id)\W*$", before)
    ):
        return True
    # Dates, versions and amounts come in groups too.
    if regex.fullmatch(r"\d{1,4}[-./ ]\d{1,2}[-./ ]\d{1,4}(?:[ T]\d.*)?|\d+\.\d+\.\d+(?:\.\d+)?", value) and digits <= 9:
        return False
    # A leading zero is a trunk prefix; order numbers hardly ever have one.
    if value[0] == "0" and (10 <= digits <= 11 or (digits >= 8 and sum(not c.isdigit() for c in value) >= 2)):
        return True
    if value.isdigit() or digits < 9 or regex.fullmatch(r"\d{1,5}(?:[- ]\d{4,}){1,2}", value):
        return (_PHONE_CUE.search(before[-45:]) or _PHONE_CUE.search(after[:30])) is not None
    return True


def _phone_after_cue(value: str, _before: str, _after: str) -> tuple[int, int] | None:
    digits = sum(c.isdigit() for c in value)
    return (0, len(value)) if 6 <= digits <= 16 and not _DATE.fullmatch(value) else None


_PHONES: Final = (
    Rule(
        "PHONE_NUMBER",
        rf"(?<![\w.])(?P<pii>{_NUMBER})[ \t]?[-(]?[ ]?(?:office|fax|mobile|cell|home|work|desk|direct|landline|switchboard)\b",
        0.75,
        ("office", "fax", "mobile", "cell", "home", "work", "desk", "direct", "landline", "switchboard"),
        _phone_after_cue,
    ),
    Rule(
        "PHONE_NUMBER",
        r"\b(?:phone|telephone|tel|mobile|mob|cell|cellphone|call(?:ing|ed)?(?: me| us| him| her| back| them| this)?|answering|reached|"
        r"ring (?:me|us)|dial(?:led|ing)?|text (?:me|us)|sms(?: to)?|whats\s?app|viber|telegram|signal|fax|hotline|landline|handy|"
        r"telefon|telefono|telefone|telefoon|rufnummer|handynummer|téléphone|teléfono|móvil|celular|cellulare|mobil|mobiel|portable|"
        r"puhelin|komórka|numer telefonu|gsm|cep|電話|携帯|电话|手机|전화|"
        r"desk|direct(?: line)?|my number|contact (?:number|no)|(?:reach|contact|get) (?:me|us|him|her|them)|"
        r"appelez[- ](?:moi|nous)|rappelez[- ](?:moi|nous)|ll[aá]m[ea]me|chiama(?:mi|temi)|ruf(?:en sie)? mich|bel me)"
        rf"(?:[ \t]{{0,2}}(?:number|no|nr|num|back|is|was|at|on|under|au|al|en|unter|op|via|:|=|#|\.|-|"
        rf"\()){{0,4}}[ \t]{{0,3}}(?P<pii>(?<![\d]){_NUMBER})(?![\d])",
        0.75,
        refine=_phone_after_cue,
    ),
    Rule(
        "PHONE_NUMBER",
        rf"(?<![\w+])"
        rf"(?P<pii>\+[1-9]\d{{0,2}}[ \t().\-/·]{{0,3}}(?:\(0\)[ \t]?)?(?:\d[ \t().\-/·]{{0,2}}){{6,13}}\d{_EXTENSION})(?![\d])",
        0.8,
        ("+",),
    ),
    Rule(
        "PHONE_NUMBER",
        rf"(?<![\w.+\-])(?P<pii>00[1-9]\d{{0,2}}[ ()./-](?:\d[ ()./-]{{0,2}}){{6,12}}\d{_EXTENSION})(?![\d])",
        0.8,
        ("00",),
    ),
    Rule(
        "PHONE_NUMBER",
        rf"(?<!\w)(?P<pii>{_DIGIT_WORD}(?:[\s,.-]{{1,3}}{_DIGIT_WORD}){{6,14}})(?!\w)",
        0.8,
        ("zero", "oh", "one", "two", "three", "five"),
    ),
)

RULES: Final = (*_EMAILS, *_PHONES)
