"""Taking a correction in: the phrase hashed and encrypted, its surroundings masked, a placeholder turned into what it stands for.

Works on a session; who may correct, and when it takes effect, is not known here.
"""

from dataclasses import dataclass
from typing import Final

import regex
from sqlmodel import Session

from bot.masking import ENTITY_TYPES, PLACEHOLDER, PlaceholderMap, Vault, VaultError
from bot.masking.corrections import MAX_WORDS, PhraseRule, Rules, build_secrets, hash_words, split_words
from bot.masking.placeholders import LITERAL
from bot.plugin_api import BotError, NotFoundError
from bot.privacy_api import CorrectionInfo
from db.errors import RowNotFoundError
from db.privacy_tables import Correction, CorrectionKind
from db.queries import privacy_corrections, tickets
from db.queries.common import row_id
from db.queries.privacy_corrections import NewCorrection
from db.tables import Ticket

HOLE: Final = "\u25ae"
"""Stands in a context for the phrase."""
MAX_CHARS: Final = 200
CORRECTABLE: Final = tuple(entity for entity in ENTITY_TYPES if entity != LITERAL)
_AROUND_CHARS: Final = 100


@dataclass(frozen=True)
class Report:
    """What a person said: the phrase, or a placeholder of the ticket, and what is wrong with it."""

    kind: CorrectionKind
    entity: str
    text: str
    ticket_id: int | None = None

    def __repr__(self) -> str:
        return f"Report({self.kind}, {self.entity})"  # never the phrase: this may end up in a log


def add_report(session: Session, report: Report, *, vault: Vault | None, actor: str) -> Correction:
    """Store a correction, open. Raises BotError, with nothing of the phrase, where it cannot be one, and NotFoundError."""
    if report.entity not in CORRECTABLE:
        raise BotError(f"'{report.entity}' is not a type that is masked: choose one of {', '.join(CORRECTABLE)}")
    ticket, mapping = _open_ticket(session, report.ticket_id, vault)
    phrase, entity = _resolve(report, mapping)
    words = split_words(phrase)
    if not 0 < len(words) <= MAX_WORDS or sum(map(len, words)) < 2:
        raise BotError(f"name the words themselves: at least two letters or digits, at most {MAX_WORDS} words")
    secrets = build_secrets(vault, privacy_corrections.get_salt(session))
    hash_key, secret = next(iter(secrets.items()))
    phrase_hash = hash_words(words, secret)
    rule = PhraseRule(CorrectionKind.MASK, entity, phrase_hash, hash_key, len(words))
    rules = Rules([rule], {hash_key: secret})
    new = NewCorrection(
        kind=report.kind,
        entity=entity,
        phrase_hash=phrase_hash,
        hash_key=hash_key,
        n_words=len(words),
        ciphertext=None if vault is None else vault.encrypt_text(phrase),
        context="" if ticket is None else _find_context(ticket, report.kind, rules, mapping=mapping),
        ticket_id=report.ticket_id,
    )
    row, _ = privacy_corrections.add_correction(session, new, actor=actor)
    return row


def _open_ticket(session: Session, ticket_id: int | None, vault: Vault | None) -> tuple[Ticket | None, PlaceholderMap | None]:
    if ticket_id is None:
        return None, None
    try:
        ticket = tickets.get_ticket(session, ticket_id)
    except RowNotFoundError as error:
        raise NotFoundError(str(error)) from error
    ciphertext = tickets.get_vault(session, ticket_id)
    try:
        return ticket, None if vault is None or ciphertext is None else vault.decrypt(ciphertext)
    except VaultError:
        return ticket, None


def _resolve(report: Report, mapping: PlaceholderMap | None) -> tuple[str, str]:
    """Return the phrase and its type; a placeholder of the ticket is turned into the value it stands for."""
    text = report.text.strip()
    if len(text) > MAX_CHARS:
        raise BotError(f"the text is longer than {MAX_CHARS} characters: name only the words in question")
    match = PLACEHOLDER.fullmatch(text)
    if match is None:
        if PLACEHOLDER.search(text):
            raise BotError("name one placeholder alone, or the words themselves")
        return text, report.entity
    surface = None if mapping is None else mapping.surface(match.group(1), int(match.group(2)))
    if report.kind is CorrectionKind.MASK:
        raise BotError("a placeholder is masked already: name the words that are not")
    if surface is None:
        raise BotError("what this placeholder stands for is not kept: write the words themselves")
    return surface, match.group(1)


def _find_context(ticket: Ticket, kind: CorrectionKind, rules: Rules, *, mapping: PlaceholderMap | None) -> str:
    """Return the masked text around the phrase. Raises BotError where the ticket does not hold it, as far as that can be known."""
    parts = [ticket.subject, ticket.text, *(turn["text"] for turn in ticket.turns)]
    whole = "\n".join(part for part in parts if part)
    if kind is CorrectionKind.MASK:
        start = _find_gap(whole, rules)
        if start is None:
            raise BotError("these words do not stand in the ticket, or are masked already: write them as they are shown")
        return _cut(_punch(whole[max(0, start - 400) : start + 600], rules))
    if mapping is None:
        return ""
    for match in PLACEHOLDER.finditer(whole):
        surface = mapping.surface(match.group(1), int(match.group(2)))
        if surface is not None and rules.find(surface)[0]:
            placeholder = match.group()
            near = whole[max(0, match.start() - 400) : match.end() + 600].replace(HOLE, " ")
            return _cut(near.replace(placeholder, HOLE))
    raise BotError("these words are not masked in the ticket: write them as they are shown, or name their placeholder")


def _find_gap(whole: str, rules: Rules) -> int | None:
    position = 0
    for match in [*PLACEHOLDER.finditer(whole), None]:
        end = len(whole) if match is None else match.start()
        found, _ = rules.find(whole[position:end])
        if found:
            return position + found[0].start
        position = end if match is None else match.end()
    return None


def _punch(text: str, rules: Rules) -> str:
    """The text with a hole wherever the phrase stands."""
    text = text.replace(HOLE, " ")
    found, _ = rules.find(text)
    for match in sorted(found, key=lambda m: -m.start):
        text = text[: match.start] + HOLE + text[match.end :]
    return text


def _cut(text: str) -> str:
    """The words around the first hole, whole ones only, so that no placeholder is cut in two."""
    hole = text.index(HOLE)
    before, after = text[:hole], text[hole:]
    if len(before) > _AROUND_CHARS:
        before = regex.sub(r"^\S*\s?", "", before[-_AROUND_CHARS:])
    if len(after) > _AROUND_CHARS:
        after = regex.sub(r"\s?\S*$", "", after[:_AROUND_CHARS])
    return before + after


def describe(row: Correction, vault: Vault | None) -> CorrectionInfo:
    """Return a correction as people see it, the phrase in clear where a key opens it."""
    phrase = None
    if vault is not None and row.ciphertext is not None:
        try:
            phrase = vault.decrypt_text(row.ciphertext)
        except VaultError:
            phrase = None
    return CorrectionInfo(
        id=row_id(row),
        kind=row.kind,
        entity=row.entity,
        status=row.status,
        phrase=phrase,
        context=row.context,
        ticket_id=row.ticket_id,
        actor=row.actor,
        created_at=row.created_at,
        reviewed_by=row.reviewed_by,
        reviewed_at=row.reviewed_at,
        reason=row.reason,
        n_remasked=row.n_remasked,
    )
