"""Names in the places where people put them: greetings, sign-offs, introductions, mail headers, chat transcripts, JSON.

The cue says where a name may stand; the lexicon says whether the word can be one. Free text is the name model's job.
"""

from typing import Final

import regex

from bot.masking.lexicon import FIRST_NAME, LAST_NAME, MOSTLY_LOWER, NAME_BITS, SEEN_LOWER, Lexicon
from bot.masking.rules import Refine, Rule

_CAP: Final = r"(?-i:[A-ZÀ-ÖØ-ÞĀĂĄĆČĎĐĒĖĘĚĞĢĪĮİĶĹĻŁŃŅŇŌŐŒŔŘŚŞŠŢŤŪŮŰŲŹŻŽȘȚ])[^\W\d_]*(?:['\-][^\W\d_]+){0,2}"
_ANY: Final = r"[^\W\d_]+(?:['\-][^\W\d_]+){0,2}"
_PARTICLE: Final = r"(?:van|von|der|den|de|del|della|di|da|dos|la|le|bin|al|el|ter|zu|y|ibn|ten|af|av)"
_CAPS: Final = rf"{_CAP}(?:[ \t](?:{_PARTICLE}[ \t]){{0,2}}(?:{_CAP}|(?-i:[A-Z])\.)){{0,3}}"
_ANYS: Final = rf"{_ANY}(?:[ \t](?:{_ANY}|[A-Z]\.)){{0,3}}"
_GENERIC: Final = frozenset(
    """team support all there everyone everybody sir madam customer customers service services folks guys helpdesk help desk admin administrator
    friend friends colleague colleagues both again agent bot user users it hr sales billing finance marketing engineering operations ops security
    office management manager management department dept company group gmbh ltd inc llc corp bank hello hi hey dear thanks thank you regards
    best kind sent from iphone android outlook mobile phone office director head lead senior engineer developer analyst consultant assistant
    president chief officer ceo cto cfo vp account subject date to cc re fw fwd note notes error warning info debug status priority issue
    question answer summary description steps expected actual result version environment browser device order ticket invoice update please
    not sure having unable trying still getting writing looking using happy sorry glad just so very really also currently now here interested
    the a an my our your this that is was are in on at for with and or but new old good great fine ok okay yes no web site website
    monday tuesday wednesday thursday friday saturday sunday january february march april june july august september october november december
    english french german spanish italian dutch american british indian chinese japanese valued member partner hiring sir/madam whom concern
    system server client api app unknown anonymous n/a none null test guest default main chat live virtual automated noreply gmt utc am pm
    windows chrome firefox safari google microsoft apple amazon slack zoom teams jira zendesk""".split()
)
_STOP_AFTER: Final = frozenset(
    """and from i but with of at in on the a an is was who which that my our your for to as or because so im i'm working here calling writing
    contacting customer by not we he she they it this just have had has can could would will please having unable account order via""".split()
)
_HONORIFIC: Final = (
    r"(?:mr|mrs|ms|mx|miss|dr|prof|professor|sir|herr|herrn|frau|hr|monsieur|"
    r"madame|mme|mlle|señor|señora|sr|sra|signor|signora|sig|mevrouw|meneer|dhr|mevr|pan|pani|dott|ing|dipl)"
)
_GREETING: Final = (
    r"(?:hi|hello|hey|dear|hiya|howdy|greetings|morning|good (?:morning|afternoon|evening|day)|hallo|hej|hei|liebe[rs]?|"
    r"guten (?:tag|morgen)|moin|servus|sehr geehrte[rsn]?|"
    r"bonjour|bonsoir|salut|cher|chère|hola|buenos días|buenas tardes|estimad[oa]|querid[oa]|ciao|buongiorno|gentile|caro|"
    r"cara|olá|bom dia|boa tarde|prezad[oa]|"
    r"caro|beste|geachte|dag|kære|kära|cześć|dzień dobry|szanown[ya]|witam|drogi|droga|ahoj|dobrý den|merhaba|sayın|bună|"
    r"szia|kedves|thanks|thank you|thx|ty|cheers)"
)
_CLOSING: Final = (
    r"(?:(?:kind|best|warm|warmest|many|with kind|with best|kindest)?[ ]?regards|thanks(?: again| a lot| so much| in advance|"
    r" and regards)?|thank you(?: very much| so much)?|many thanks|"
    r"cheers|best(?: wishes)?|sincerely(?: yours)?|yours(?: truly| sincerely| faithfully)?|respectfully|cordially|take care|"
    r"talk soon|br|rgds|kr|thx|ty|"
    r"mit (?:freundlichen|besten|lieben) grüßen|(?:freundliche|viele|beste|liebe|schöne) grüße|mfg|vg|lg|gruß|danke|"
    r"cordialement|bien à vous|salutations|merci|amicalement|saludos(?: cordiales)?|un saludo|atentamente|gracias|"
    r"cordiali saluti|distinti saluti|grazie|"
    r"met vriendelijke groet(?:en)?|groeten|groetjes|mvg|atenciosamente|obrigad[oa]|abraços|vänliga hälsningar|"
    r"med vänlig hälsning|hälsningar|mvh|"
    r"venlig hilsen|med venlig hilsen|hilsen|terveisin|pozdrawiam|z poważaniem|s pozdravem|saygılarımla|cu stimă|üdvözlettel|"
    r"signed)"
)
_INTRODUCTION: Final = (
    r"(?:my (?:full |first |last )?name(?:'s| is| was)|name is|i am called|ich heiße|mein name ist|je m'appelle|mon nom est|"
    r"me llamo|mi nombre es|"
    r"mi chiamo|il mio nome è|mijn naam is|ik heet|meu nome é|me chamo|nazywam się|mam na imię|jag heter|mitt namn är|"
    r"jeg hedder|mit navn er|jeg heter|nimeni on|"
    r"jmenuji se|a nevem|numele meu este|adım)"
)
_WEAK_INTRODUCTION: Final = (
    r"(?:call me|i go by|they call me|this is|i am|i'm|im|it is|it's|ich bin|hier ist|je suis|c'est|soy|sono|ik ben|sou|"
    r"jestem|jag är|jeg er|spoke (?:to|with)|speaking (?:to|with)|talked (?:to|with)|"
    r"chatted with|meet|met with|contact|contacted|ask for|asked|told|reach out to|reached out to|emailed|e-mailed|called|cc|"
    r"ccing|loop in|looping in|adding|with|by|from|"
    r"assigned to|escalated to|approved by|submitted by|reported by|signed by|created by|requested by|sent by|on behalf of|"
    r"attn:?|attention:?|c/o|thanks,?|thank you,?|hi|hey|"
    r"(?:my|his|her|our|the)[ ](?:wife|husband|son|daughter|partner|mother|father|mum|mom|dad|brother|sister|boss|manager|"
    r"colleague|coworker|co-worker|assistant|friend|"
    r"neighbou?r|secretary|supervisor|director|landlord|lawyer|doctor|nurse|teacher|teammate|flatmate|roommate|"
    r"accountant)(?:'s name is|, | is | )?)"
)
_HEADER: Final = (
    r"(?:from|to|cc|bcc|von|an|de|à|name|full[ _]?name|first[ _]?name|last[ _]?name|surname|given[ _]?name|family[ _]?name|"
    r"middle[ _]?name|display[ _]?name|maiden[ _]name|"
    r"customer(?:[ _]?name)?|client(?:[ _]?name)?|contact(?:[ _]?person|[ _]?name)?|requester|reporter|reported by|assignee|"
    r"assigned(?: to)?|agent|user|caller|"
    r"submitted by|created by|opened by|closed by|updated by|requested by|approved by|signed by|sent by|author|"
    r"account holder|cardholder(?: name)?|card holder|name on card|"
    r"passenger(?: name)?|guest|patient|employee|student|tenant|beneficiary|recipient|consignee|ship to|bill to|deliver to|"
    r"sold to|attn|attention|signed|kunde|kundin|"
    r"vorname|nachname|nom|prénom|nombre|apellidos?|cognome|naam|sender|next of kin|emergency contact|line manager|"
    r"supervisor|manager|technician|engineer|driver|owner)"
)


def _clean(value: str) -> list[str]:
    """The words up to the first that cannot belong to a name."""
    words: list[str] = []
    for word in value.split():
        if word.casefold().strip(".") in _GENERIC or (words and word.casefold() in _STOP_AFTER):
            break
        words.append(word)
    return words


def _length(value: str, words: list[str]) -> int:
    """Where the last of the leading `words` ends in `value`."""
    position = 0
    for word in words:
        position = value.index(word, position) + len(word)
    return position


def _known(lexicon: Lexicon) -> Refine:
    """Accepts values of which enough words are listed as names and are not everyday words."""

    def refine(value: str, _before: str, _after: str) -> tuple[int, int] | None:
        words = _clean(value)
        bits = [lexicon.bits(word.rstrip(".")) for word in words]
        if not words or (not bits[0] & NAME_BITS and not (len(words) > 1 and not bits[0] & SEEN_LOWER)):
            return None
        listed = sum(bool(b & (FIRST_NAME | LAST_NAME)) and not b & MOSTLY_LOWER for b in bits)
        # "Hi Mark," and "Will Page:" are names made of everyday words; "it's been free" is not.
        is_pair = len(words) > 1 and value[0].isupper() and all(b & (FIRST_NAME | LAST_NAME) for b in bits)
        if not listed and not bits[0] & FIRST_NAME and not is_pair:
            return None
        while len(words) > 1 and not words[-1][0].isupper() and not bits[len(words) - 1] & (FIRST_NAME | LAST_NAME):
            words.pop()
        return 0, _length(value, words)

    return refine


def _likely(lexicon: Lexicon) -> Refine:
    """Accepts values after strong cues: any capitalised word that is not everyday vocabulary, any listed word in lower case."""

    def is_likely(word: str) -> bool:
        bits = lexicon.bits(word.rstrip("."))
        return bool(bits & (FIRST_NAME | LAST_NAME)) or (word[0].isupper() and not bits & SEEN_LOWER)

    def refine(value: str, _before: str, _after: str) -> tuple[int, int] | None:
        words = _clean(value)
        if not words or not is_likely(words[0]):
            return None
        kept = [words[0]]
        for word in words[1:]:
            if not (is_likely(word) or word[0].isupper() or regex.fullmatch(_PARTICLE, word)):
                break
            kept.append(word)
        while len(kept) > 1 and regex.fullmatch(_PARTICLE, kept[-1]):
            kept.pop()
        return 0, _length(value, kept)

    return refine


def _announced(value: str, _before: str, _after: str) -> tuple[int, int] | None:
    """After "my name is": whatever follows, up to a word that ends the name."""
    words = _clean(value)
    ordinary = {
        "not",
        "spelled",
        "spelt",
        "wrong",
        "misspelled",
        "incorrect",
        "missing",
        "on",
        "still",
        "different",
        "already",
        "correct",
    }
    return (0, _length(value, words)) if words and words[0].casefold() not in ordinary else None


def build_rules(lexicon: Lexicon) -> tuple[Rule, ...]:
    """The name rules, bound to a lexicon."""
    known, likely = _known(lexicon), _likely(lexicon)
    title = rf"(?:{_HONORIFIC}\.?[ \t]+){{0,2}}"
    return (
        Rule(
            "PERSON",
            rf"(?:^|[>\n.!?][ \t]*|(?<=\")){_GREETING}[ \t,]{{1,2}}{title}(?P<pii>{_CAPS})(?=[ \t]*(?:[,!.:;?\n)<-]|$))",
            0.85,
            refine=likely,
        ),
        Rule(
            "PERSON",
            rf"(?:^|[>\n.!?][ \t]*){_GREETING}[ \t]{{1,2}}(?P<pii>{_ANY}(?:[ \t]{_ANY})?)(?=[ \t]*(?:[,!.:;?\n)<-]|$))",
            0.8,
            refine=known,
        ),
        Rule("PERSON", rf"(?:^|[\n.!?][ \t]*){_GREETING}[ \t]{{1,2}}(?P<pii>{_CAP})(?=[ \t])", 0.8, refine=known),
        Rule(
            "PERSON",
            rf"(?:^|[.!?,>][ \t]*){_CLOSING}[ \t]*[,!.\-]*[ \t]*(?:\r?\n[ \t>]*){{1,3}}[*_~\-]{{0,3}}[ \t]?"
            rf"{title}(?P<pii>{_ANYS})(?=[ \t]*(?:[*_,.|(!<\n-]|$))",
            0.85,
            refine=likely,
        ),
        Rule(
            "PERSON",
            rf"(?:^|[.!?][ \t]*){_CLOSING}[,!. \-]{{1,3}}[ \t]*{title}(?P<pii>{_ANY}(?:[ \t]{_ANY}){{0,2}})[ \t]*[.!]?[ \t]*$",
            0.8,
            refine=known,
        ),
        Rule(
            "PERSON",
            rf"^[ \t]*[-~*_]{{1,3}}[ \t]?(?P<pii>{_CAP}(?:[ \t](?:{_CAP}|[A-Z]\.)){{0,2}})[ \t]*$",
            0.75,
            ("-", "~", "*", "_"),
            known,
        ),
        Rule("PERSON", rf"\b{_INTRODUCTION}[ \t:]{{1,3}}{title}[\"']?(?P<pii>{_ANYS})", 0.9, refine=_announced),
        Rule("PERSON", rf"\b{_WEAK_INTRODUCTION}[ \t]{{0,2}}(?<=\W){title}(?P<pii>{_CAPS})", 0.75, refine=known),
        Rule(
            "PERSON",
            rf"\b(?:this is|i am|i'm|im|it's|its)[ \t](?P<pii>{_ANY}(?:[ \t]{_ANY})?)(?=[ \t]+(?:from|here|and|again|at|with|"
            rf"calling|writing)\b|[,.!\n]|$)",
            0.75,
            refine=known,
        ),
        Rule(
            "PERSON",
            rf"(?:^|[.!?][ \t]+)(?P<pii>{_ANY}(?:[ \t]{_ANY})?)[ \t](?:here|speaking)(?=[,.! \n]|$)",
            0.75,
            (" here", " speaking"),
            known,
        ),
        Rule(
            "PERSON",
            rf"^[ \t>*]*{_HEADER}\*{{0,2}}[ \t]?[:=][ \t*\"']{{0,4}}{title}(?P<pii>{_CAPS})(?=[ \t]*(?:[\"'<(\[,;|/*]|$|\n|"
            rf"[ \t]{{2}}))",
            0.85,
            (":", "="),
            likely,
        ),
        Rule(
            "PERSON",
            rf"[\"'\b]?(?<![A-Za-z])(?:first|last|full|given|family|middle|display|customer|contact|user|card ?holder|"
            rf"requester|reporter|agent|employee|patient|client|sender|"
            rf"recipient)[ _\-]?names?[\"']?[ ]?[:=][ ]?[\"']?{title}(?P<pii>{_ANYS})(?=[\"',;&|\n)}}]|$)",
            0.85,
            ("name",),
            likely,
        ),
        Rule(
            "PERSON",
            rf"[\"'](?:name|author|owner|assignee|reporter|requester|customer|contact|sender|agent|from|to|"
            rf"user)[\"'][ ]?:[ ]?[\"']{title}(?P<pii>{_ANYS})(?=[\"'])",
            0.8,
            (":",),
            known,
        ),
        Rule(
            "PERSON",
            rf"(?<![\w.])(?-i:Mr|Mrs|Ms|Mx|Miss|Dr|Prof|Professor|Herr|Herrn|Frau|Monsieur|Madame|Mme|Mlle|M\.|Señor|Señora|"
            rf"Sr|Sra|Signor|Signora|Sig\.ra|Dott|Mevrouw|Meneer|Dhr|Mevr|Pan|Pani|MR|MRS|MS|DR)\.?[ \t]+(?:(?-i:Dr|Prof|"
            rf"med)\.?[ \t]+){{0,2}}(?P<pii>{_CAPS})",
            0.85,
            refine=_titled,
        ),
        Rule(
            "PERSON",
            rf"^[ \t>]*(?:\[[^\]\n]{{1,30}}\][ \t]*|\(?\d{{1,2}}:\d\d(?::\d\d)?(?:[ ]?[ap]m)?\)?[ \t\-]*)?(?P<pii>{_CAPS})"
            rf"[ \t]*(?:\([^)\n]{{1,20}}\)|\[[^\]\n]{{1,20}}\])?[ \t]*:[ \t]",
            0.75,
            (":",),
            known,
        ),
        Rule(
            "PERSON",
            rf"[,>]?[ \t]{title}(?P<pii>{_CAPS})[ \t]*(?:[<(\[][^>)\]\n]{{0,80}}[>)\]])?[ \t]*(?:wrote|schrieb|a écrit|"
            rf"escribió|ha scritto|schreef|skrev|napisał)[ \t]*:",
            0.85,
            (":",),
            likely,
        ),
        Rule("PERSON", rf"(?:^|[\s\"',:;])(?P<pii>{_CAPS})[\"']?[ \t]*[<(\[](?=[\w.+\-]{{1,64}}@)", 0.85, ("@",), likely),
        Rule("PERSON", rf"\bmaiden name[ ](?:is|was)?[ :]{{0,2}}(?P<pii>{_CAPS})", 0.9, ("maiden",)),
    )


def _titled(value: str, _before: str, _after: str) -> tuple[int, int] | None:
    words = _clean(value)
    return (0, _length(value, words)) if words else None
