"""Numbers that name a person before the state: social security, national ids, passports, licences, and dates of birth.

Formats that nothing else shares stand alone; all others need a cue.
"""

from typing import Final

from bot.masking.rules import ID_BEFORE, Rule, with_digits

_IS: Final = r"(?:[ \t]{0,2}(?:number|card|no|nr|num|id|code|is|was|:|=|#|\.|-)){0,4}[ \t]{0,3}[\"'(]?"
_MONTH: Final = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|"
    r"aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)\.?"
)
_ORDINAL: Final = (
    r"(?:(?:twenty|thirty)[- ])?"
    r"(?:first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth|eleventh|twelfth|\w{4,8}teenth|twentieth|thirtieth)"
)
_YEAR_WORDS: Final = (
    r"(?:nineteen|twenty|two thousand)"
    r"(?:[ -](?:and|hundred|oh|[a-z]{3,9}(?:ty|teen)|one|two|three|four|five|six|seven|eight|nine)){0,3}"
)
_DATE: Final = (
    r"(?:\d{1,4}[./\- ]\d{1,2}[./\- ]\d{2,4}"
    rf"|(?:the[ ])?\d{{1,2}}(?:st|nd|rd|th|\.)?[ \-](?:of[ ])?{_MONTH},?[ \-]?(?:\d{{4}}|'?\d{{2}})?"
    rf"|{_MONTH}[ ]\d{{1,2}}(?:st|nd|rd|th)?(?:,?[ ](?:\d{{4}}|'\d{{2}}))?"
    rf"|(?:the[ ])?{_ORDINAL}[ ]of[ ]{_MONTH}(?:,?[ ](?:\d{{4}}|{_YEAR_WORDS}))?"
    rf"|{_MONTH}[ ](?:the[ ])?{_ORDINAL}(?:,?[ ](?:\d{{4}}|{_YEAR_WORDS}))?"
    r"|\d{8})"
)


def _ssn(value: str, before: str, _after: str) -> tuple[int, int] | None:
    digits = "".join(c for c in value if c.isdigit())
    possible = digits[:3] not in {"000", "666"} and digits[0] != "9" and digits[3:5] != "00" and digits[5:] != "0000"
    return (0, len(value)) if possible and not ID_BEFORE.search(before) else None


def _until_last_digit(value: str, _before: str, _after: str) -> tuple[int, int] | None:
    """Cuts words that follow the number: at most four letters may close an id, and three digits must be in it."""
    tokens = value.split(" ")
    while tokens and not any(c.isdigit() for c in tokens[-1]) and (len(tokens[-1]) > 2 or not tokens[-1].isupper()):
        tokens.pop()
    kept = " ".join(tokens)
    return (0, len(kept)) if sum(c.isdigit() for c in kept) >= 3 else None


RULES: Final = (
    Rule("US_SSN", r"(?<![\d\-.])(?P<pii>\d{3}([- .])\d{2}\2\d{4})(?![\d-]|\.\d)", 0.7, refine=_ssn),
    Rule(
        "US_SSN",
        rf"\b(?:ssn|s\.s\.n\.|social security|social insurance|social){_IS}(?P<pii>\d{{3}}[- .]?\d{{2}}[- .]?\d{{4}}|"
        rf"\d{{3}}[- ]?\d{{3}}[- ]?\d{{3}})(?!\d)",
        0.9,
        ("ss", "soc", "s.s."),
    ),
    Rule(
        "US_SSN",
        rf"\b(?:ssn|social security|social){_IS}(?:ending(?: in)?|last (?:four|4)(?: digits)?)[ :]{{1,3}}(?P<pii>\d{{4}})"
        rf"(?!\d)",
        0.8,
        ("ssn", "social"),
    ),
    # Formats of their own: British NINO, Italian codice fiscale, Brazilian CPF, Mexican CURP, Spanish NIE, Indian PAN after its cue.
    Rule(
        "NATIONAL_ID",
        r"(?<!\w)(?P<pii>[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?\d\d ?\d\d ?\d\d ?[A-D])(?!\w)",
        0.8,
        ignore_case=False,
    ),
    Rule("NATIONAL_ID", r"(?<!\w)(?P<pii>[A-Z]{6}\d\d[A-EHLMPRST]\d\d[A-Z]\d{3}[A-Z])(?!\w)", 0.9),
    Rule("NATIONAL_ID", r"(?<![\d.])(?P<pii>\d{3}\.\d{3}\.\d{3}-\d\d)(?!\d)", 0.9),
    Rule("NATIONAL_ID", r"(?<!\w)(?P<pii>[A-Z]{4}\d{6}[HM][A-Z]{5}[A-Z0-9]\d)(?!\w)", 0.9, ignore_case=False),
    Rule("NATIONAL_ID", r"(?<![\w-])(?P<pii>[XYZ]-?\d{7}-?[A-Z])(?![\w-])", 0.7, ignore_case=False),
    Rule(
        "NATIONAL_ID",
        r"\b(?:ni(?:no)? (?:number|no)|nino|national insurance(?: number)?|nhs(?: number| no)?|pesel|codice fiscale|"
        r"steuer(?:-?id|-?identifikationsnummer|nummer)|"
        r"tax (?:id|identification|payer id|file|number|no)|tax-?id|tin|itin|tfn|utr|ein|aadhaa?r|pan card|pan|dni|nie|nif|"
        r"sin|bsn|cpf|curp|"
        r"personnummer|cpr|sozialversicherungsnummer|sv-?nummer|avs|medicare|insee|numéro de sécurité sociale|"
        r"national id(?:entity|entification)?|identity (?:card|number|no)|id card|personal id|personalausweis\w*|ausweis\w*|"
        r"government id|resident id|citizen id|(?:health |social )?insurance (?:id|no|number|card)|versicherten-?(?:nummer|nr)|"
        r"krankenversicherten-?nummer|health card|rg|rut|ssn|sofi)"
        rf"{_IS}(?P<pii>[A-Z0-9](?:[ \-./]?[A-Z0-9]){{5,17}})(?![A-Z0-9])",
        0.85,
        refine=_until_last_digit,
    ),
    Rule(
        "PASSPORT",
        rf"\b(?:passport|reisepass\w*|passeport|pasaporte){_IS}(?P<pii>[A-Z]{{0,3}}[ -]?\d(?:[ -]?[A-Z0-9]){{4,11}})"
        rf"(?![A-Z0-9])",
        0.85,
        ("passport", "reisepass", "passeport", "pasaporte"),
        with_digits(4),
    ),
    Rule(
        "PASSPORT",
        rf"\b(?:passport|reisepass\w*){_IS}(?P<pii>(?=[A-Z]*\d)[A-Z0-9]{{6,12}})(?![A-Z0-9])",
        0.85,
        ("passport", "reisepass"),
        with_digits(3),
    ),
    # British licences have a format of their own.
    Rule("DRIVER_LICENSE", r"(?<!\w)(?P<pii>[A-Z9]{5}\d{6}[A-Z9]{2}\d[A-Z]{2})(?!\w)", 0.85, ignore_case=False),
    Rule(
        "DRIVER_LICENSE",
        r"\b(?:driver'?s?'?[ -]licen[cs]e|driving[ -]licen[cs]e|dl[ ]?(?=#|no|number|:)|führerschein\w*|permis de conduire)"
        rf"{_IS}(?P<pii>[A-Z0-9](?:[ \-]?[A-Z0-9]){{4,19}})(?![A-Z0-9])",
        0.85,
        ("licen", "dl", "führerschein", "permis"),
        refine=_until_last_digit,
    ),
    Rule(
        "DATE_OF_BIRTH",
        r"\b(?:dob|d\.o\.b\.?|date of birth|birth ?date|birth ?day|born(?: on)?|geburtsdatum|geboren am|geb\.|"
        r"date de naissance|né(?:e)? le|"
        rf"fecha de nacimiento|data di nascita)(?:[ \t]{{0,2}}(?:is|was|on|:|=|-|\(|\"|')){{0,3}}[ \t]{{0,3}}(?P<pii>{_DATE})"
        rf"(?!\d)",
        0.9,
        ("dob", "birth", "born", "d.o.b", "geb", "naiss", "né", "nacim", "nascita"),
    ),
    Rule(
        "DATE_OF_BIRTH",
        rf"(?P<pii>{_DATE})[ ,(]{{1,3}}(?:is|was|as)?[ ]?(?:my|his|her|their)?[ ]?(?:date of birth|dob|birthday)\b",
        0.8,
        ("birth", "dob"),
    ),
)
