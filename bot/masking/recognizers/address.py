"""Street addresses in the styles of several countries, post boxes, post codes, and places in key=value form.

Cities and countries in running text are the name model's job.
"""

from typing import Final

import regex

from bot.masking.recognizers.address_words import CAP_SUFFIX, GERMANIC, ROMANCE, SLAVIC, SUFFIX
from bot.masking.rules import Rule

_WORD: Final = r"[^\W\d_][\w'.\-]{0,24}"
_CAP: Final = r"(?:[A-ZÀ-ÞŁŚŻŠČŽ][\w'.\-]{0,24}|\d{1,3}(?:st|nd|rd|th))"
_SIDE: Final = r"(?:Dto|Dir|Esq|Dcha|Izq|Izda|Frt)"  # which flat of a floor, in Portugal and Spain
_UNIT: Final = (
    r"(?:,?[ \n]{1,2}(?:apt|apartment|suite|ste|unit|flat|floor|fl|room|rm|building|bldg|no|#)\b?\.?[ ]?\#?[\w\-]{1,6})"
)
_PRE_UNIT: Final = r"(?:(?:flat|apt\.?|apartment|unit|suite|studio)[ ]\#?\d{1,4}[a-z]?,?[ \n])?"
_CITY: Final = (
    r"[A-ZÀ-ÞŁŚŻŠČŽ][\w'.\-]{1,24}(?:[ \-][A-ZÀ-Þ][\w'.\-]{1,24}){0,2}"
    r"(?:[ ](?:im Breisgau|a(?:m|\.)[ ]?(?:Main|Rhein|Neckar|See|Inn|Lech|M\.)|an der [A-Z]\w{2,12}|ob der [A-Z]\w{2,12}|vor der Höhe|"
    r"de (?:la )?[A-Z]\w{2,20}|del [A-Z]\w{2,20}))?"
)
_US_TAIL: Final = rf"(?:,?[ \n]{{1,2}}{_CITY})?,?[ \n]{{1,2}}[A-Z]{{2}},?[ \n]{{1,2}}\d{{5}}(?:-\d{{4}})?"
_UK_CODE: Final = r"(?:GIR ?0AA|[A-PR-UWYZ][A-HK-Y]?\d[A-Z\d]? ?\d[ABD-HJLNP-UW-Z]{2})"
_MEASURES: Final = regex.compile(
    r"^\d+[a-z]?\s(?:minutes?|mins?|hours?|hrs?|days?|weeks?|months?|years?|times|miles?|km|people|users?|items?|orders?|"
    r"more|other|of|on|in|at|the|and|or|"
    r"to|for|from|new|a|an|is|was|days?|gb|mb|am|pm|percent|x|open|failed|pending|business|working|calendar|different|small|"
    r"large|big)\b",
    regex.IGNORECASE,
)


def _not_a_measure(value: str, _before: str, _after: str) -> tuple[int, int] | None:
    return None if _MEASURES.match(value) else (0, len(value))


def _place_value(value: str, before: str, _after: str) -> tuple[int, int] | None:
    """The value of an address field; "ip address:", "email address:" and machine states are others' business."""
    if regex.search(
        r"\b(?:ip|mac|e?-?mail|web|url|wallet|server|host|bitcoin|network|return|error|order|ticket|device|system|app|"
        r"session)[ _-]?\w{0,12}$",
        before,
        regex.IGNORECASE,
    ):
        return None
    word = value.strip().casefold()
    states = {
        "active",
        "open",
        "closed",
        "pending",
        "failed",
        "new",
        "error",
        "ok",
        "running",
        "stopped",
        "enabled",
        "disabled",
        "true",
        "false",
        "null",
        "none",
    }
    if word in states or "@" in value or regex.match(r"\d{1,3}\.\d", value):
        return None
    return 0, len(value.rstrip())


def _spaced_or_announced(value: str, before: str, _after: str) -> tuple[int, int] | None:
    """A British post code has a blank inside; without it, it looks like any product code."""
    is_announced = regex.search(r"post|addr|code", before[-30:], regex.IGNORECASE) is not None
    return (0, len(value)) if " " in value or is_announced else None


def _no_app(value: str, _before: str, _after: str) -> tuple[int, int] | None:
    """People also move to Teams."""
    return None if value.casefold() in {"the", "teams", "slack", "zoom", "jira", "zendesk"} else (0, len(value))


def _military(value: str, _before: str, _after: str) -> tuple[int, int] | None:
    """A unit or a ship alone is no address; with a box or an APO code it is."""
    return (0, len(value)) if regex.search(r"\b(?:Box|[AFD]PO)\b", value, regex.IGNORECASE) else None


_PERIODS: Final = regex.compile(
    r"januar|februar|märz|april|mai|juni|juli|august|september|oktober|november|dezember|january|february|march|may|june|july|october|december|"
    r"anhang|kapitel|abschnitt|schritt|bereich|version|windows|office|raum|punkt|seite|zeile|tabelle|ticket|fall|jahr|quartal|monat|durchschnitt",
    regex.IGNORECASE,
)


def _not_a_date_or_count(value: str, _before: str, _after: str) -> tuple[int, int] | None:
    """ "Im Mai 2" and "Im Anhang 3" are no streets."""
    return None if _PERIODS.search(value) else (0, len(value))


RULES: Final = (
    # 12 Main Street, Apt 4, Springfield, IL 62704
    Rule(
        "LOCATION",
        rf"(?<![\w#.])"
        rf"(?P<pii>(?i:{_PRE_UNIT})\d{{1,6}}[A-Za-z]?(?:[-/]\d{{1,4}})?,?[ \n](?:{_CAP}[ ]){{1,4}}(?:(?i:{SUFFIX})|"
        rf"{CAP_SUFFIX})\b\.?(?:[ ][NSEW]{{1,2}}\b)?(?i:{_UNIT}){{0,2}}(?:{_US_TAIL})?)",
        0.85,
        refine=_not_a_measure,
        ignore_case=False,
    ),
    Rule(
        "LOCATION",
        rf"(?<![\w#.])"
        rf"(?P<pii>{_PRE_UNIT}\d{{1,6}}[a-z]?,?[ ](?:{_WORD}[ ]){{1,3}}?{SUFFIX}\b\.?{_UNIT}{{0,2}}(?:{_US_TAIL})?)(?!\w)",
        0.7,
        refine=_not_a_measure,
        gate=rf"[ ]{SUFFIX}\b",
    ),
    Rule(
        "LOCATION",
        rf"(?<!\w)(?P<pii>(?i:flat|apt\.?|apartment|unit|suite|"
        rf"studio)[ ]\#?\d{{1,4}}[A-Za-z]?,?[ \n](?:\d{{1,5}}[A-Za-z]?[ ])?(?:{_CAP}[ ]){{1,3}}(?:(?i:{SUFFIX})|"
        rf"{CAP_SUFFIX})\b\.?)",
        0.85,
        ignore_case=False,
    ),
    # Lange Straße 12, 10115 Berlin; Kerkstraat 5; Storgatan 7
    Rule(
        "LOCATION",
        rf"(?<!\w)(?P<pii>(?:{_CAP}[ ]){{0,2}}[A-ZÄÖÜÅØÆ][\w.\-]{{0,30}}?(?i:{GERMANIC})"
        rf"[ ]{{1,2}}\d{{1,4}}[ ]?(?:[a-zA-Z]\b)?(?:[-/]\d{{1,4}})?(?:,?[ \n]{{1,2}}(?:[A-Z]{{1,2}}-)?\d{{4,5}}(?: [A-Z]{{2}}\b)?[ ]{_CITY})?)(?!\w)",
        0.85,
        ignore_case=False,
        gate=rf"{GERMANIC}[ ]{{1,2}}\d",
    ),
    Rule(
        "LOCATION",
        rf"(?<!\w)(?P<pii>{_CAP}(?:[ -]{_CAP}){{0,2}}[ -](?i:{GERMANIC})"
        rf"[ ]\d{{1,4}}[ ]?(?:[a-zA-Z]\b)?(?:,?[ \n]{{1,2}}\d{{4,5}}(?: [A-Z]{{2}}\b)?[ ]{_CITY})?)(?!\w)",
        0.85,
        ignore_case=False,
        gate=rf"{GERMANIC}[ ]{{1,2}}\d",
    ),
    # Am Stadtpark 7a; An der Alten Mühle 3; Auf dem Berg 12
    Rule(
        "LOCATION",
        rf"(?<!\w)(?P<pii>(?:Am|An der|An den|Auf der|Auf dem|Auf den|Im|In der|In den|Zum|Zur|Unter den|Unter der|Hinter der|"
        rf"Bei der|Beim|Vor dem)[ ]"
        rf"(?:{_CAP}[ -]){{0,2}}{_CAP}[ ]\d{{1,3}}[ ]?(?:[a-z]\b)?(?:,?[ \n]{{1,2}}(?:[A-Z]{{1,2}}-)?\d{{4,5}}[ ]{_CITY})?)(?![\w.:%])",
        0.8,
        ignore_case=False,
        refine=_not_a_date_or_count,
    ),
    # PSC 3294, Box 9168, APO AA 61487; USS Nimitz, FPO AP 96620; Unit 4818 Box 0262
    Rule(
        "LOCATION",
        r"(?<!\w)(?P<pii>(?:PSC|CMR|Unit|USS|USNS|USCGC|USNV|HHC)[ ](?:\d{1,5}|[A-Z][\w'\-]{1,24}(?:[ ][A-Z][\w'\-]{1,24})?)(?:,?[ ]Box[ ]\d{1,5})?"
        r"(?:[,\s>]{1,8}[AFD]PO,?[ ]A[AEP],?[ ]\d{5}(?:-\d{4})?)?)(?!\w)",
        0.85,
        ("apo", "fpo", "dpo", " box"),
        _military,
    ),
    # "Suite 256" alone on a line of an address
    Rule(
        "LOCATION",
        r"^[> \t]{0,12}(?P<pii>(?:apt|apartment|suite|ste|unit|flat)\.?[ ]\#?\d{1,5}[a-z]?)[ \t]{0,3}$",
        0.7,
        ("apt", "apartment", "suite", "ste", "unit", "flat"),
    ),
    # 12 bis, rue de la Paix, 75002 Paris
    Rule(
        "LOCATION",
        rf"(?<!\w)(?P<pii>\d{{1,4}}(?:[ ]?(?:bis|ter))?,?[ ](?:rue|avenue|av\.|boulevard|bd|place|chemin|allée|impasse|quai|"
        rf"cours|route|square|passage|ruelle)[ ](?:(?:de|du|des|la|le|les|d'|l')[ ]?){{0,3}}{_WORD}(?:[ ](?-i:{_CAP})"
        rf"){{0,3}}(?:,?[ \n]{{1,2}}\d{{4,5}}[ ](?-i:{_CITY}))?)(?!\w)",
        0.85,
    ),
    Rule(
        "LOCATION",
        rf"(?<!\w)(?P<pii>(?:rue|boulevard|impasse|quai|chemin|allée)[ ](?:(?:de|du|des|la|le|les|d'|"
        rf"l')[ ]?){{0,3}}(?-i:{_CAP})(?:[ ](?-i:{_CAP})){{0,3}})(?!\w)",
        0.8,
        ("rue ", "boulevard ", "impasse ", "quai ", "chemin ", "allée "),
    ),
    # Calle Mayor 5, 28013 Madrid; Via Roma, 12; Rua Augusta 1200
    Rule(
        "LOCATION",
        rf"(?<!\w)(?P<pii>{ROMANCE}[ ]?(?:{_WORD}[ ]){{0,4}}{_WORD},?[ ](?:(?i:n[ºo°.]{{0,2}}|no\.|nº|num\.?|"
        rf"#)[ ]?)?\d{{1,5}}(?:[ ]?[A-Za-z]\b)?(?:,?[ ]\d{{1,2}}[ºª°oa][ ]?(?:(?:[A-Za-z]|{_SIDE})\b\.?)?)?"
        rf"(?:,?[ ](?i:piso|puerta|planta|piano|appartamento|"
        rf"interno|scala|apto\.?|apartamento|bloco|casa|"
        rf"andar)[ ]\w{{1,4}}){{0,2}}[ ]?(?:,?[ \n]{{1,2}}\d{{4,5}}(?:-\d{{3}})?,?[ ]{_CITY})?)(?!\w)",
        0.8,
        ignore_case=False,
    ),
    # ul. Długa 5/7; Petőfi utca 12; Atatürk Caddesi No: 5
    Rule(
        "LOCATION",
        rf"(?<!\w)"
        rf"(?P<pii>{SLAVIC}[ ]{_CAP}(?:[ ]{_CAP}){{0,3}}[ ]\d{{1,4}}[a-zA-Z]?(?:[/m. ]{{1,4}}\d{{1,4}})?"
        rf"(?:,?[ \n]{{1,2}}\d\d-?\d{{3}}[ ]{_CITY})?)(?!\w)",
        0.85,
        ignore_case=False,
    ),
    Rule(
        "LOCATION",
        rf"(?<!\w)(?P<pii>{_CAP}(?:[ ]{_CAP}){{0,2}}[ ](?:utca|útja|út|u\.|tér|köz|sétány|körút|Sokağı|Sokak|Sk\.|Caddesi|"
        rf"Cad\.|Bulvarı|Mahallesi|Mah\.)[ ](?:No[:. ]{{1,2}})?\d{{1,4}}[./]?\w?)(?!\w)",
        0.85,
        ignore_case=False,
    ),
    # post boxes
    Rule(
        "LOCATION",
        r"(?<!\w)(?P<pii>(?:p\.? ?o\.? ?box|post office box|postfach|boîte postale|apartado(?: de correos)?|casella postale|"
        r"postbus|skrytka pocztowa)[ ]?(?:no\.? |#)?\d{1,6}(?:[ ]\d{2,3}){0,2})(?!\w)",
        0.85,
        ("box", "postfach", "postale", "apartado", "postbus", "skrytka"),
    ),
    # Springfield, IL 62704; SW1A 1AA; K1A 0B1; 1234 AB Amsterdam
    Rule(
        "LOCATION",
        rf"(?<!\w)(?P<pii>{_CITY},?[ ](?:A[KLRZ]|C[AOT]|D[CE]|FL|GA|HI|I[ADLN]|K[SY]|LA|M[ADEINOST]|N[CDEHJMVY]|O[HKR]|PA|RI|"
        rf"S[CD]|T[NX]|UT|V[AT]|W[AIVY]|NSW|QLD|VIC|TAS|ACT|ON|QC|BC|AB|MB|NS)[ ]{{1,2}}(?:\d{{4,5}}(?:-\d{{4}})?|"
        rf"[A-Z]\d[A-Z] ?\d[A-Z]\d))(?!\w)",
        0.85,
        ignore_case=False,
    ),
    Rule(
        "LOCATION",
        rf"(?<![\w\-])(?P<pii>{_UK_CODE})(?![\w\-])",
        0.75,
        ignore_case=False,
        refine=_spaced_or_announced,
    ),
    Rule(
        "LOCATION",
        r"(?<![\w\-])(?P<pii>[ABCEGHJ-NPRSTVXY]\d[ABCEGHJ-NPRSTV-Z] \d[ABCEGHJ-NPRSTV-Z]\d)(?![\w\-])",
        0.8,
        ignore_case=False,
    ),
    Rule("LOCATION", rf"(?<![\w\-])(?P<pii>\d{{4}} [A-Z]{{2}}[ ]{_CITY})(?!\w)", 0.7, ignore_case=False),
    Rule(
        "LOCATION",
        r"\b(?:zip(?: ?code)?|post ?code|postal code|plz|postleitzahl|code postal|código postal|cap)\b[\"']?(?:[ ]?(?:is|:|=|"
        r"-)){0,2}[ \"']{0,2}(?P<pii>(?=[A-Z \-]*\d)[A-Z0-9]{2,5}(?:[ \-][A-Z0-9]{2,4})?)(?!\w)",
        0.8,
        ("zip", "post", "plz", "código", "cap"),
    ),
    Rule(
        "LOCATION",
        r"\b(?:city|town|stadt|wohnort|ville|ciudad|città|cidade|street(?:_?address)?|address(?:_?line_?\d?)?|straße|state|"
        r"province|county)[\"']?[ ]?(?:=|:)[ ]?[\"']?(?P<pii>[^\W_][^\n\"',;&|<>=]{1,60}?)(?=[\"',;&|<>\n]|[ ]\w+=|\.?$)",
        0.8,
        (
            "city",
            "town",
            "stadt",
            "ort",
            "ville",
            "ciudad",
            "citt",
            "cidade",
            "street",
            "address",
            "stra",
            "state",
            "province",
            "county",
        ),
        _place_value,
    ),
    Rule(
        "LOCATION",
        r"\b(?:live|living|reside|residing|located|moved|relocated|moving|relocating) (?:in|to|at|"
        r"near) (?P<pii>(?-i:[A-ZÀ-Þ])[\w'\-]{2,24}(?:[ -](?-i:[A-ZÀ-Þ])[\w'\-]{2,24}){0,2})",
        0.7,
        ("live", "living", "resid", "locat", "mov"),
        _no_app,
    ),
)
