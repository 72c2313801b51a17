"""Links that carry a person: mailto:, tel: and the like. The tags around them are `bot.masking.markup`'s job."""

from typing import Final

from bot.masking.rules import Rule, with_digits

RULES: Final = (
    Rule(
        "PHONE_NUMBER",
        r"\b(?:tel|sms|callto|whatsapp|facetime):(?://)?(?P<pii>\+?\d[\d().\-]{5,20}\d)",
        0.9,
        (":",),
        with_digits(6),
    ),
    Rule("PHONE_NUMBER", r"\bwa\.me/(?P<pii>\d{7,15})(?!\d)", 0.9, ("wa.me/",)),
    Rule("USERNAME", r"\b(?:sip|skype|xmpp|im):(?P<pii>[\w.\-]{2,40})(?=[?@\s\"'<>]|$)", 0.8, ("sip:", "skype:", "xmpp:", "im:")),
)
