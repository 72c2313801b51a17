"""Names in the places where people put them: greetings, sign-offs, introductions, mail headers, chat transcripts, JSON.

The cue says where a name may stand; the lexicon says whether the word can be one. Free text is the name model's job.
"""

from typing import Final

import regex

from bot.masking.lexicon import FIRST_NAME, LAST_NAME, MOSTLY_LOWER, NAME_BITS, SEEN_LOWER, Lexicon
from bot.masking.recognizers.name_words import (
    CLOSING,
    GENERIC,
    GREETING,
    HEADER,
    HONORIFIC,
    INTRODUCTION,
    STOP_AFTER,
    WEAK_INTRODUCTION,
)
from bot.masking.rules import Refine, Rule

_CAP: Final = r"(?-i:[A-ZÀ-ÖØ-ÞĀĂĄĆČĎĐĒĖĘĚĞĢĪĮİĶĹĻŁŃŅŇŌŐŒŔŘŚŞŠŢŤŪŮŰŲŹŻŽȘȚ])[^\W\d_]*(?:['\-][^\W\d_]+){0,2}"
_ANY: Final = r"[^\W\d_]+(?:['\-][^\W\d_]+){0,2}"
_PARTICLE: Final = r"(?:van|von|der|den|de|del|della|di|da|dos|la|le|bin|al|el|ter|zu|y|ibn|ten|af|av)"
_CAPS: Final = rf"{_CAP}(?:[ \t](?:{_PARTICLE}[ \t]){{0,2}}(?:{_CAP}|(?-i:[A-Z])\.)){{0,3}}"
_ANYS: Final = rf"{_ANY}(?:[ \t](?:{_ANY}|[A-Z]\.)){{0,3}}"


def _clean(value: str) -> list[str]:
    """The words up to the first that cannot belong to a name."""
    words: list[str] = []
    for word in value.split():
        if word.casefold().strip(".") in GENERIC or (words and word.casefold() in STOP_AFTER):
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
    title = rf"(?:{HONORIFIC}\.?[ \t]+){{0,2}}"
    return (
        Rule(
            "PERSON",
            rf"(?:^|[>\n.!?][ \t]*|(?<=\")){GREETING}[ \t,]{{1,2}}{title}(?P<pii>{_CAPS})(?=[ \t]*(?:[,!.:;?\n)<-]|$))",
            0.85,
            refine=likely,
        ),
        Rule(
            "PERSON",
            rf"(?:^|[>\n.!?][ \t]*){GREETING}[ \t]{{1,2}}(?P<pii>{_ANY}(?:[ \t]{_ANY})?)(?=[ \t]*(?:[,!.:;?\n)<-]|$))",
            0.8,
            refine=known,
        ),
        Rule("PERSON", rf"(?:^|[\n.!?][ \t]*){GREETING}[ \t]{{1,2}}(?P<pii>{_CAP})(?=[ \t])", 0.8, refine=known),
        Rule(
            "PERSON",
            rf"(?:^|[.!?,>][ \t]*){CLOSING}[ \t]*[,!.\-]*[ \t]*(?:\r?\n[ \t>]*){{1,3}}[*_~\-]{{0,3}}[ \t]?"
            rf"{title}(?P<pii>{_ANYS})(?=[ \t]*(?:[*_,.|(!<\n-]|$))",
            0.85,
            refine=likely,
        ),
        Rule(
            "PERSON",
            rf"(?:^|[.!?][ \t]*){CLOSING}[,!. \-]{{1,3}}[ \t]*{title}(?P<pii>{_ANY}(?:[ \t]{_ANY}){{0,2}})[ \t]*[.!]?[ \t]*$",
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
        Rule("PERSON", rf"\b{INTRODUCTION}[ \t:]{{1,3}}{title}[\"']?(?P<pii>{_ANYS})", 0.9, refine=_announced),
        Rule("PERSON", rf"\b{WEAK_INTRODUCTION}[ \t]{{0,2}}(?<=\W){title}(?P<pii>{_CAPS})", 0.75, refine=known),
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
            rf"^[ \t>*]*{HEADER}\*{{0,2}}[ \t]?[:=][ \t*\"']{{0,4}}{title}(?P<pii>{_CAPS})(?=[ \t]*(?:[\"'<(\[,;|/*]|$|\n|"
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
            ("wrote", "schrieb", "écrit", "escrib", "scritto", "schreef", "skrev", "napisa"),
            likely,
        ),
        Rule("PERSON", rf"(?:^|[\s\"',:;])(?P<pii>{_CAPS})[\"']?[ \t]*[<(\[](?=[\w.+\-]{{1,64}}@)", 0.85, ("@",), likely),
        Rule("PERSON", rf"(?<![\w.@/])@(?P<pii>{_CAP}(?:[ ]{_CAP})?)(?![\w@]|[./]\w)", 0.75, ("@",), known),
        Rule(
            "PERSON",
            rf"\b(?:cc|ccing|fyi|ping)[: ]{{1,2}}@?(?P<pii>{_CAP})(?:[ ]?[/,&+][ ]?@?(?P<pii>{_CAP})){{0,4}}",
            0.8,
            ("cc", "fyi", "ping"),
            known,
        ),
        Rule(
            "PERSON",
            rf"(?<![\w.])(?:mr|mrs|mister|dr|prof|miss|herr|frau|madame|monsieur)\.?[ \t](?P<pii>{_ANY})(?!\w)",
            0.85,
            refine=known,
        ),
        Rule(
            "PERSON",
            rf"\b(?:owner|author|assignee|reporter|requester|creator|contact|sender|recipient|attendee|\w{{0,20}}name)[\"']?[ ]?[:=]>?[ ]?"
            rf"(?P<quote>[\"']){title}(?P<pii>{_CAPS})(?P=quote)",
            0.8,
            ("owner", "author", "assignee", "report", "request", "creator", "contact", "sender", "recipient", "attendee", "name"),
            likely,
        ),
        Rule(
            "PERSON",
            rf"\b(?:closed|opened|signed|approved|assigned|escalated|reported|handled|resolved|answered|requested|submitted|reassigned|"
            rf"forwarded|transferred|installed|collected|delivered)[ ](?:by|to)[ ](?P<pii>{_CAPS})(?![ ](?:GmbH|Inc|Ltd|LLC|Corp|AG|team)\b)",
            0.75,
            (" by ", " to "),
            likely,
        ),
        # Values of an SQL statement: 'Bongani Dlamini'
        Rule("PERSON", rf"(?<=[\s(,=])'(?P<pii>{_CAPS})'(?=[\s,);]|$)", 0.7, ("values", "where ", "set ", "select "), likely),
        Rule("PERSON", rf"\bmaiden name[ ](?:is|was)?[ :]{{0,2}}(?P<pii>{_CAPS})", 0.9, ("maiden",)),
    )


def _titled(value: str, _before: str, _after: str) -> tuple[int, int] | None:
    words = _clean(value)
    return (0, _length(value, words)) if words else None
