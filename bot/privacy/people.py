"""Finds what is held on somebody: by the placeholder maps in the vault, by texts that hold the name unmasked, by references.

Reads only. Says what it could not search, and why; never writes or logs who was looked for.
"""

import hmac
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Engine as DbEngine
from sqlalchemy import func
from sqlmodel import Session, col, select

from bot.masking import PlaceholderMap, Vault, VaultError
from bot.masking.corrections import MAX_WORDS, PhraseRule, Rules, hash_words, split_words
from bot.plugin_api import BotError
from bot.privacy.scrub import Scrubber, iterate_strings
from bot.privacy_api import Findings, FoundTicket, Subject
from bot.sealing import Sealer, SealError
from db.privacy_tables import CorrectionKind
from db.queries.common import bound, row_id
from db.queries.privacy_erase import collect_ticket, count_rows
from db.queries.state import get_state
from db.queries.tickets import get_ticket_by_source
from db.session import transaction
from db.tables import Audit, FeedbackRow, PluginEvent, PluginValue, Ticket, VaultEntry

_PAGE = 500
_SECRET = b"one look-up"
IMPORT_SALT = "import.salt"
"""Where `bot.importing` keeps the secret of its group keys."""
EMPTY = "say whose data: a person (name, e-mail address, phone number), or tickets by number or by plugin and id"


@dataclass
class Held:
    """What is held on a subject: tickets with how each was found, rows of plugins, and what could not be searched."""

    tickets: dict[int, str] = field(default_factory=dict)
    event_ids: list[int] = field(default_factory=list)
    value_keys: list[tuple[str, str]] = field(default_factory=list)
    n_other_rows: int = 0
    n_actor_rows: int = 0
    notes: list[str] = field(default_factory=list)

    def add(self, ticket_id: int, how: str) -> None:
        """Note a ticket; the first way it was found counts."""
        self.tickets.setdefault(ticket_id, how)


def build_person_rules(person: str) -> Rules:
    """Rules that find the person's name or address where it stands unmasked. Raises BotError where there is nothing to look for."""
    words = split_words(person)
    if not 0 < len(words) <= MAX_WORDS or sum(map(len, words)) < 3:
        raise BotError(f"name the person by at least three letters or digits and at most {MAX_WORDS} words")
    rule = PhraseRule(CorrectionKind.MASK, "PERSON", hash_words(words, _SECRET), "once", len(words))
    return Rules([rule], {"once": _SECRET})


def is_same(person: list[str], surface: str) -> bool:
    """Whether a value of a placeholder map is the person looked for: all words asked for stand in it, or it is the number asked for."""
    words = split_words(surface)
    if words == person or (len(person) < len(words) and set(person) <= set(words)):
        return True
    asked, known = "".join(person), "".join(words)  # a phone number may be grouped otherwise
    return asked == known and asked.isdigit()


@dataclass(frozen=True)
class Finder:
    """Looks for a subject. `sealer` opens what plugins keep, None where nothing is kept."""

    db_engine: DbEngine
    vault: Vault | None
    sealer: Sealer | None

    def find(self, subject: Subject) -> Held:
        """Return what is held. Raises BotError for a subject that names nobody."""
        held = Held()
        if bool(subject.person.strip()) + bool(subject.ticket_ids) + (subject.source is not None) != 1:
            raise BotError(EMPTY)
        with transaction(self.db_engine, is_read_only=True) as session:
            if subject.person.strip():
                self._find_person(session, subject.person.strip(), held)
            elif subject.source is not None:
                row = get_ticket_by_source(session, plugin=subject.source.plugin, external_id=subject.source.external_id)
                held.tickets = {} if row is None else {row_id(row): "asked"}
            else:
                wanted = [bound(key) for key in subject.ticket_ids]
                known = session.exec(select(Ticket.id).where(col(Ticket.id).in_(wanted))).all()
                held.tickets = {key: "asked" for key in known if key is not None}
        if subject.person.strip():
            places = Scrubber(self.db_engine, self.vault).find(build_person_rules(subject.person))
            for ticket_id in places.ticket_ids:
                held.add(ticket_id, "text")
            held.n_other_rows = places.n_other_rows + len(places.example_ids)
        with transaction(self.db_engine, is_read_only=True) as session:  # last: plugins keep rows on every ticket found so far
            self._find_plugin_rows(session, subject.person.strip(), held)
        return held

    def describe(self, held: Held) -> Findings:
        """Return the findings for people to look at."""
        with transaction(self.db_engine, is_read_only=True) as session:
            found = []
            for ticket_id, how in sorted(held.tickets.items()):
                rows = collect_ticket(session, ticket_id)
                if rows is not None:
                    found.append(FoundTicket(ticket_id, rows.ticket.plugin, how, count_rows(rows), rows.ticket.created_at))
        return Findings(
            tickets=tuple(found),
            n_plugin_rows=len(held.event_ids) + len(held.value_keys),
            n_other_rows=held.n_other_rows,
            n_actor_rows=held.n_actor_rows,
            notes=tuple(held.notes),
        )

    def open_map(self, entry: VaultEntry | None) -> PlaceholderMap | None:
        """Return the placeholder map of a vault entry, or None where no key opens it."""
        if self.vault is None or entry is None:
            return None
        try:
            return self.vault.decrypt(entry.ciphertext)
        except VaultError:
            return None

    def _find_person(self, session: Session, person: str, held: Held) -> None:
        build_person_rules(person)  # refuses what is too short to mean anybody
        words = split_words(person)
        n_closed = 0
        for entry in _iterate_vault(session):
            mapping = self.open_map(entry)
            if mapping is None:
                n_closed += 1
            elif any(is_same(words, surface) for _, surface in mapping.entries.values()):
                held.add(entry.ticket_id, "vault")
        _note_closed(session, held, n_closed=n_closed, has_vault=self.vault is not None)
        salt = get_state(session, IMPORT_SALT)
        keys = (
            [] if salt is None else [_build_group_key(bytes.fromhex(salt["hex"]), name) for name in {person, person.casefold()}]
        )
        is_theirs = col(Ticket.group_key).in_(keys) | (col(Ticket.external_id) == person)
        for ticket in session.exec(select(Ticket).where(is_theirs)).all():
            held.add(row_id(ticket), "reference" if ticket.external_id == person else "customer")
        for query in (
            select(func.count()).select_from(Audit).where(col(Audit.actor) == person),
            select(func.count()).select_from(FeedbackRow).where(col(FeedbackRow.actor) == person),
        ):
            held.n_actor_rows += session.exec(query).one()

    def _find_plugin_rows(self, session: Session, person: str, held: Held) -> None:
        """Look into what plugins keep: rows that hold the person, or name one of the tickets."""
        rules = build_person_rules(person) if person else Rules()
        references = _read_references(session, held.tickets)
        n_closed = 0
        for event in session.exec(select(PluginEvent)).all():
            payload = self.unseal(event.ciphertext) if event.ciphertext else {}
            n_closed += payload is None
            if _mentions(
                payload or {}, f"{event.key}:{event.group_key}", plugin=event.plugin, references=references, rules=rules
            ):
                held.event_ids.append(row_id(event))
        for value in session.exec(select(PluginValue)).all():
            payload = self.unseal(value.ciphertext)
            n_closed += payload is None
            if _mentions(payload or {}, value.key, plugin=value.plugin, references=references, rules=rules):
                held.value_keys.append((value.plugin, value.key))
        if n_closed:
            held.notes.append(f"{n_closed} rows that plugins keep could not be opened with the keys that are set.")

    def unseal(self, ciphertext: bytes) -> Mapping[str, Any] | None:
        """Return what a plugin keeps, or None where no key opens it; an event that was handled holds nothing."""
        if not ciphertext:
            return {}
        try:
            return None if self.sealer is None else self.sealer.unseal(ciphertext)
        except SealError:
            return None


def _build_group_key(salt: bytes, name: str) -> str:
    # As bot.importing builds it: an import with the requester's address as its group is found without the vault.
    return hmac.new(salt, name.encode(), "sha256").hexdigest()[:24]


def _iterate_vault(session: Session) -> Iterator[VaultEntry]:
    last_id = 0
    while True:
        query = select(VaultEntry).where(col(VaultEntry.ticket_id) > last_id).order_by(col(VaultEntry.ticket_id))
        page = session.exec(query.limit(_PAGE)).all()
        session.expunge_all()
        yield from page
        if len(page) < _PAGE:
            return
        last_id = page[-1].ticket_id


def _note_closed(session: Session, held: Held, *, n_closed: int, has_vault: bool) -> None:
    n_tickets = session.exec(select(func.count()).select_from(Ticket)).one()
    n_maps = session.exec(select(func.count()).select_from(VaultEntry)).one()
    if n_tickets > n_maps:
        why = "they expired or were never kept" if has_vault else "there is no vault key"
        held.notes.append(
            f"{n_tickets - n_maps} of {n_tickets} tickets have no placeholder map ({why}): whom they name cannot be known; name such "
            "tickets by number or by plugin and id."
        )
    if n_closed:
        held.notes.append(
            f"{n_closed} placeholder maps could not be opened: UNDERSTUDY_VAULT_KEY lacks the key they were made with."
        )


def _read_references(session: Session, ticket_ids: Mapping[int, str]) -> dict[str, set[str]]:
    """Return the ids by which plugins name the tickets, per plugin."""
    found: dict[str, set[str]] = {}
    for ticket_id in ticket_ids:
        ticket = session.get(Ticket, ticket_id)
        if ticket is not None:
            found.setdefault(ticket.plugin, set()).add(ticket.external_id)
    return found


def _mentions(payload: Mapping[str, Any], key: str, *, plugin: str, references: Mapping[str, set[str]], rules: Rules) -> bool:
    """Whether a row of a plugin is about one of the tickets, or holds the person. A queue "zendesk.outbox" is the plugin's own."""
    ids = references.get(plugin.partition(".")[0], set())
    if any(reference and _stands_in(reference, key) for reference in ids):
        return True
    strings = [key, *iterate_strings(payload), *_iterate_numbers(payload)]
    return any(text in ids for text in strings) or (bool(rules) and any(rules.find(text)[0] for text in strings))


def _stands_in(reference: str, key: str) -> bool:
    """Whether a key names a ticket, as "ticket/4711" and "card:T1/C1/1.2" do: the whole reference between colons, slashes or the ends."""
    return f"/{reference}/".replace(":", "/") in f"/{key}/".replace(":", "/")


def _iterate_numbers(value: Any, name: str = "") -> Iterator[str]:
    """Yield the whole numbers inside a JSON value that are ids by their names, as text: helpdesks number their tickets."""
    if isinstance(value, int) and not isinstance(value, bool):
        if name.casefold().endswith("id") or "ticket" in name.casefold():
            yield str(value)
    elif isinstance(value, Mapping):
        for key, part in value.items():
            yield from _iterate_numbers(part, str(key))
    elif isinstance(value, list):
        for part in value:
            yield from _iterate_numbers(part, name)
