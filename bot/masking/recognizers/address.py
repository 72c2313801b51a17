"""Street addresses in the styles of several countries, post boxes, post codes, and places in key=value form.

Cities and countries in running text are the name model's job.
"""

from typing import Final

import regex

from bot.masking.rules import Rule

_WORD: Final = r"[^\W\d_][\w'.\-]{0,24}"
_CAP: Final = r"(?:[A-ZÀ-ÞŁŚŻŠČŽ][\w'.\-]{0,24}|\d{1,3}(?:st|nd|rd|th))"
_SUFFIX: Final = (
    r"(?:street|st|avenue|ave|av|road|rd|boulevard|blvd|lane|ln|drive|dr|terrace|ter|square|sq|highway|hwy|parkway|pkwy|"
    r"circle|cir|crescent|cres|"
    r"gardens|gdns|grove|mews|alley|trail|trl|turnpike|expressway|esplanade|promenade|quay|wharf)"
)
_CAP_SUFFIX: Final = (
    r"(?:Court|Ct|Way|Place|Pl|Close|Row|Walk|Loop|Plaza|Hill|Rise|View|Green|Park|Bridge|Crossing|Crossroad|Point|Ridge|Run|"
    r"Path|Pike|Station|Track|"
    r"Mall|Manor|Meadows?|Mill|Mount|Pass|Passage|Port|Shore|Spring|Springs|Spur|Summit|Valley|Vista|Village|Estates?|"
    r"Extension|Ext|Fields?|Ford|Forest|"
    r"Forge|Fork|Glen|Harbor|Heights|Hollow|Island|Isle|Junction|Key|Knoll|Lake|Landing|Burgs?|Bypass|Camp|Canyon|Cape|"
    r"Causeway|Center|Centers|Cliffs?|"
    r"Club|Common|Corner|Corners|Course|Courts|Cove|Creek|Crest|Curve|Dale|Dam|Divide|Drives|Falls|Ferry|Flats?|Freeway|"
    r"Gateway|Groves|Haven|Inlet|"
    r"Keys|Land|Light|Lights|Locks|Lodge|Motorway|Neck|Orchard|Oval|Overpass|Parks|Parkways|Pine|Pines|Plain|Plains|Prairie|"
    r"Radial|Ramp|Ranch|Rapid|"
    r"Rest|River|Roads|Route|Rue|Shoal|Shores|Skyway|Stravenue|Stream|Streets|Throughway|Trace|Trafficway|Tunnel|Underpass|"
    r"Union|Viaduct|Ville|Walks|"
    r"Wall|Ways|Well|Wells|Woods?|Junctions|Mountains?|Harbors|Knolls|Forges|Forks|Fords|Forests|Glens|Greens|Hills|Islands|"
    r"Lakes|Loaf|Manors|Mills|Mission|Ports|Ridges|"
    r"Rivers|Shoals|Spurs|Squares|Streams|Trails|Unions|Valleys|Views|Villages|Reach|Retreat|Edge|Nagar|Marg|Chowk|Colony|"
    r"Layout|Sector)"
)
_UNIT: Final = (
    r"(?:,?[ \n]{1,2}(?:apt|apartment|suite|ste|unit|flat|floor|fl|room|rm|building|bldg|no|#)\b?\.?[ ]?\#?[\w\-]{1,6})"
)
_PRE_UNIT: Final = r"(?:(?:flat|apt\.?|apartment|unit|suite|studio)[ ]\#?\d{1,4}[a-z]?,?[ \n])?"
_CITY: Final = r"[A-ZÀ-ÞŁŚŻŠČŽ][\w'.\-]{1,24}(?:[ \-][A-ZÀ-Þ][\w'.\-]{1,24}){0,2}"
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


_GERMANIC: Final = (
    r"(?:stra(?:ß|ss)e|str\.|weg|platz|allee|gasse|ring|damm|ufer|chaussee|"
    r"straat|laan|plein|gracht|kade|dijk|singel|steeg|baan|dreef|pad|hof|"
    r"allé|stræde|torget|stigen|gatan|vägen|veien|vegen|gade|vej|gata|katu|tie|kuja|gränd)"
)
_ROMANCE: Final = (
    r"(?:Calle|C/|C\.|Cl\.|Avenida|Av\.|Avda\.?|Paseo|P[ºo]\.|Plaza|Pza\.|Pl\.|Ronda|Camino|Carretera|Cuesta|Glorieta|Pasaje|"
    r"Vial|Urbanización|Callejón|Rambla|"
    r"Privada|Prolongación|Circuito|Boulevard|Calzada|Carrera|Via|Viale|Piazza|Piazzetta|Corso|Largo|Vicolo|Strada|Stretto|"
    r"Borgo|Contrada|Rotonda|Incrocio|Canale|"
    r"Rua|R\.|Travessa|Trav\.|Praça|Estrada|Alameda|Jalan|Jl\.|Jln|Gang|Gg\.|Strada|Str\.|Aleea|Bulevardul|Intrarea|Calea)"
)
_SLAVIC: Final = r"(?:ul\.|ulica|al\.|aleja|pl\.|plac|os\.|ulice|nám\.|náměstí|námestie|trg|cesta|Ulica|Trg)"

RULES: Final = (
    # 12 Main Street, Apt 4, Springfield, IL 62704
    Rule(
        "LOCATION",
        rf"(?<![\w#.])"
        rf"(?P<pii>(?i:{_PRE_UNIT})\d{{1,6}}[A-Za-z]?(?:[-/]\d{{1,4}})?,?[ \n](?:{_CAP}[ ]){{1,4}}(?:(?i:{_SUFFIX})|"
        rf"{_CAP_SUFFIX})\b\.?(?:[ ][NSEW]{{1,2}}\b)?(?i:{_UNIT}){{0,2}}(?:{_US_TAIL})?)",
        0.85,
        refine=_not_a_measure,
        ignore_case=False,
    ),
    Rule(
        "LOCATION",
        rf"(?<![\w#.])"
        rf"(?P<pii>{_PRE_UNIT}\d{{1,6}}[a-z]?,?[ ](?:{_WORD}[ ]){{1,3}}?{_SUFFIX}\b\.?{_UNIT}{{0,2}}(?:{_US_TAIL})?)(?!\w)",
        0.7,
        (" st", " ave", " av", " r", " b", " l", " dr", " te", " s", " h", " p", " c", " g", " m", " a", " t", " e", " q", " w"),
        _not_a_measure,
    ),
    Rule(
        "LOCATION",
        rf"(?<!\w)(?P<pii>(?i:flat|apt\.?|apartment|unit|suite|"
        rf"studio)[ ]\#?\d{{1,4}}[A-Za-z]?,?[ \n](?:\d{{1,5}}[A-Za-z]?[ ])?(?:{_CAP}[ ]){{1,3}}(?:(?i:{_SUFFIX})|"
        rf"{_CAP_SUFFIX})\b\.?)",
        0.85,
        ignore_case=False,
    ),
    # Lange Straße 12, 10115 Berlin; Kerkstraat 5; Storgatan 7
    Rule(
        "LOCATION",
        rf"(?<!\w)(?P<pii>(?:{_CAP}[ ]){{0,2}}[A-ZÄÖÜÅØÆ][\w.\-]{{0,30}}?(?i:{_GERMANIC})"
        rf"[ ]{{1,2}}\d{{1,4}}[ ]?(?:[a-zA-Z]\b)?(?:[-/]\d{{1,4}})?(?:,?[ \n]{{1,2}}(?:[A-Z]{{1,2}}-)?\d{{4,5}}(?: [A-Z]{{2}}\b)?[ ]{_CITY})?)(?!\w)",
        0.85,
        ignore_case=False,
    ),
    Rule(
        "LOCATION",
        rf"(?<!\w)(?P<pii>{_CAP}(?:[ -]{_CAP}){{0,2}}[ -](?i:{_GERMANIC})"
        rf"[ ]\d{{1,4}}[ ]?(?:[a-zA-Z]\b)?(?:,?[ \n]{{1,2}}\d{{4,5}}(?: [A-Z]{{2}}\b)?[ ]{_CITY})?)(?!\w)",
        0.85,
        ignore_case=False,
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
        rf"(?<!\w)(?P<pii>{_ROMANCE}[ ]?(?:{_WORD}[ ]){{0,4}}{_WORD},?[ ](?:(?i:n[ºo°.]{{0,2}}|no\.|nº|num\.?|"
        rf"#)[ ]?)?\d{{1,5}}(?:[ ]?[A-Za-z]\b)?(?:,?[ ]\d{{1,2}}[ºª°]\w?)?(?:,?[ ](?i:piso|puerta|planta|piano|appartamento|"
        rf"interno|scala|apto\.?|apartamento|bloco|casa|"
        rf"andar)[ ]\w{{1,4}}){{0,2}}[ ]?(?:,?[ \n]{{1,2}}\d{{4,5}}(?:-\d{{3}})?,?[ ]{_CITY})?)(?!\w)",
        0.8,
        ignore_case=False,
    ),
    # ul. Długa 5/7; Petőfi utca 12; Atatürk Caddesi No: 5
    Rule(
        "LOCATION",
        rf"(?<!\w)"
        rf"(?P<pii>{_SLAVIC}[ ]{_CAP}(?:[ ]{_CAP}){{0,3}}[ ]\d{{1,4}}[a-zA-Z]?(?:[/m. ]{{1,3}}\d{{1,4}})?"
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
        r"postbus|skrytka pocztowa)[ ]?(?:no\.? |#)?\d{1,6})(?!\w)",
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
        r"\b(?:zip(?: ?code)?|post ?code|postal code|plz|postleitzahl|code postal|código postal|cap)\b(?:[ ]?(?:is|:|=|"
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
