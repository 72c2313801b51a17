"""The team's own numbers: orders, invoices, customers, tickets. Kept unless the settings mask them; a cue or a prefix must announce them."""

from typing import Final

from bot.masking.rules import Rule, with_digits

_LINK: Final = (
    r"(?:[ _\-]{0,2}(?:numbers?|num|nos?|nrs?|nbr|ids?|codes?|ref(?:erence)?|key)\b)?[\"']?\.?"
    r"(?:[ \t]{0,2}(?:is|was|are|ist|lautet|,|:|=|#|\(|-)){0,2}[ \t]{0,3}[\"'(]?"
)
_VALUE: Final = r"(?P<pii>\#?[A-Z]{0,6}[\-/]?[A-Z0-9]*\d[A-Z0-9]*(?:[\-/][A-Z0-9]{1,16}){0,5})(?![\w@]|[\-/]\w|\.\d)"
_MORE: Final = rf"(?:(?:[ ]?,|[ ]?&|[ ]and|[ ]or|[ ]und|[ ]et)[ ]{_VALUE}){{0,3}}"
_ENOUGH: Final = with_digits(3)


def _announced(entity: str, words: str, needs: tuple[str, ...]) -> Rule:
    return Rule(entity, rf"\b(?:{words}){_LINK}{_VALUE}{_MORE}", 0.8, needs, _ENOUGH)


def _prefixed(entity: str, prefixes: str, needs: tuple[str, ...]) -> Rule:
    return Rule(
        entity,
        rf"(?<![\w\-])(?P<pii>(?:{prefixes})[\-#/]?\d[A-Z0-9]*(?:[\-/][A-Z0-9]{{1,12}}){{0,4}})(?![\w\-])",
        0.75,
        needs,
        _ENOUGH,
    )


RULES: Final = (
    _announced(
        "ORDER_NUMBER",
        r"(?:purchase|sales|work|my|the|your|our)?[ ]?orders?|bestell(?:ung|nummer|-?nr)|auftrag(?:snummer|s-?nr)?|commande|pedido|ordine|"
        r"zamówieni[ae]|encomenda|beställning|bestelnummer|rma|parcel|package|delivery|shipment|tracking",
        (
            "order",
            "bestel",
            "auftrag",
            "command",
            "pedido",
            "ordine",
            "zam",
            "encomenda",
            "beställ",
            "rma",
            "parcel",
            "shipment",
            "tracking",
            "package",
            "delivery",
        ),
    ),
    _announced(
        "INVOICE_NUMBER",
        r"invoices?|bill|receipt|rechnung(?:snummer|s-?nr)?|facture|factura|fattura|faktura|fatura|factuur(?:nummer)?|credit note",
        ("invoice", "bill", "receipt", "rechnung", "factu", "fatt", "faktur", "fatur", "credit note"),
    ),
    _announced(
        "CUSTOMER_NUMBER",
        r"(?:customer|client|member(?:ship)?|subscriber|contract|policy|loyalty)(?=[ _\-]{0,2}(?:num|no\b|nr|nbr|id|code|ref|key|\#|:))|"
        r"kunden(?:nummer|-?nr)|vertragsnummer|klantnummer|kundnummer|numéro (?:de )?client|número de cliente|codice cliente|numer klienta",
        ("customer", "client", "member", "subscriber", "contract", "policy", "loyalty", "kund", "vertrag", "klant", "klient"),
    ),
    _announced(
        "TICKET_NUMBER",
        r"tickets?|cases?|incidents?|requests?|vorgang(?:snummer)?|(?:your|our|my) ref(?:erence)?|issue|rt",
        ("ticket", "case", "incident", "request", "vorgang", "ref", "issue", "rt"),
    ),
    _prefixed("ORDER_NUMBER", r"PO|SO|ORD|RMA|ORDER", ("po", "so", "ord", "rma")),
    _prefixed("INVOICE_NUMBER", r"INV|RE|RG|FA|INVOICE", ("inv", "re", "rg", "fa")),
    _prefixed("CUSTOMER_NUMBER", r"CUST|CUS|KD|KDNR|CRM", ("cus", "kd", "crm")),
    _prefixed(
        "TICKET_NUMBER",
        r"INC|REQ|RITM|CHG|PRB|CS|TKT|SD|CASE|TICKET|HD|SUP|HELP|ITSM",
        ("inc", "req", "ritm", "chg", "prb", "cs", "tkt", "sd", "case", "tick", "hd", "sup", "help", "itsm"),
    ),
)
