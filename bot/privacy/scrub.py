"""Replaces phrases in texts that are stored already, ticket by ticket, and tells lineage which examples had been learned from with them.

Works on rules over hashes (`bot.masking.corrections`); which phrases these are, and why, is the caller's business.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from sqlalchemy import Engine as DbEngine
from sqlalchemy import update
from sqlmodel import Session, SQLModel, col, select

from bot.decisions import reserve_numbers
from bot.masking import PLACEHOLDER, PlaceholderMap, Vault, VaultError
from bot.masking.corrections import Rules, remask
from db.privacy_tables import Correction
from db.queries import tickets
from db.queries.audit import record_audit
from db.queries.common import row_id
from db.queries.lineage import erase_examples
from db.queries.privacy_erase import ACTION_SCRUBBED
from db.session import retry_transaction, transaction
from db.tables import (
    Activation,
    Adapter,
    Audit,
    Example,
    FeedbackRow,
    GateReport,
    Inference,
    ReviewItem,
    ReviewSide,
    Ticket,
    TrainingRun,
    VaultEntry,
)
from db.types import TaskKind

_PAGE = 500
Rewrite = Callable[[str], str]

OTHER_TEXTS: tuple[tuple[type[SQLModel], tuple[str, ...]], ...] = (
    (ReviewItem, ("reason",)),
    (Correction, ("context", "reason")),
    (Audit, ("detail",)),
    (Activation, ("reason",)),
    (Adapter, ("reason",)),
    (GateReport, ("reasons",)),
    (TrainingRun, ("message", "error")),
)
"""Tables beside those of tickets in which words of people may stand."""


@dataclass(frozen=True)
class Places:
    """Where phrases stand: tickets by id, examples of no ticket, and how many rows elsewhere."""

    ticket_ids: tuple[int, ...]
    example_ids: tuple[int, ...]
    n_other_rows: int


@dataclass
class Scrubbed:
    """What was rewritten, and the adapters that had learned from it."""

    n_tickets: int = 0
    n_examples: int = 0
    n_other_rows: int = 0
    adapters: set[str] = field(default_factory=set)
    retrains: set[str] = field(default_factory=set)

    @property
    def count(self) -> int:
        """Tickets, and examples of no ticket, that held a phrase."""
        return self.n_tickets + self.n_examples


@dataclass(frozen=True)
class Scrubber:
    """Looks for phrases in all stored texts, and replaces them by placeholders of the ticket."""

    db_engine: DbEngine
    vault: Vault | None

    def find(self, rules: Rules) -> Places:
        """Return where the phrases stand. Reads every text, in pages, and keeps no writer waiting."""
        found: set[int] = set()
        alone: set[int] = set()
        with transaction(self.db_engine, is_read_only=True) as session:
            for ticket in _iterate(session, Ticket):
                if _holds([ticket.subject, ticket.text, ticket.turns], rules):
                    found.add(row_id(ticket))
            for inference in _iterate(session, Inference):
                if inference.ticket_id not in found and _holds(inference.output, rules):
                    found.add(inference.ticket_id)
            for feedback in _iterate(session, FeedbackRow):
                if feedback.ticket_id not in found and _holds(_get_feedback_texts(feedback), rules):
                    found.add(feedback.ticket_id)
            for example in _iterate(session, Example):
                if example.ticket_id not in found and _holds(_get_example_texts(example), rules):
                    (alone if example.ticket_id is None else found).add(example.ticket_id or row_id(example))
            n_other = sum(
                _holds([getattr(row, name) for name in names], rules)
                for kind, names in OTHER_TEXTS
                for row in _iterate(session, kind)
            )
        return Places(tuple(sorted(found)), tuple(sorted(alone)), n_other)

    def scrub(self, rules: Rules, *, actor: str, reason: str) -> Scrubbed:
        """Replace the phrases everywhere, one ticket per transaction. A second time there is nothing to replace."""
        places, done = self.find(rules), Scrubbed()
        for ticket_id in places.ticket_ids:
            step = partial(self._scrub_ticket, ticket_id=ticket_id, rules=rules, actor=actor, reason=reason)
            retry_transaction(self.db_engine, step).add_to(done)
        for example_id in places.example_ids:
            step = partial(self._scrub_example, example_id=example_id, rules=rules, actor=actor, reason=reason)
            retry_transaction(self.db_engine, step).add_to(done)
        if places.n_other_rows:
            others = partial(_scrub_others, rules=rules, actor=actor, reason=reason)
            done.n_other_rows = retry_transaction(self.db_engine, others)
        return done

    def _scrub_ticket(self, session: Session, *, ticket_id: int, rules: Rules, actor: str, reason: str) -> "_Step":
        ticket = session.get(Ticket, ticket_id, with_for_update=True)
        if ticket is None:
            return _Step()
        inferences = session.exec(select(Inference).where(col(Inference.ticket_id) == ticket_id)).all()
        feedback = session.exec(select(FeedbackRow).where(col(FeedbackRow.ticket_id) == ticket_id)).all()
        examples = session.exec(select(Example).where(col(Example.ticket_id) == ticket_id).order_by(col(Example.id))).all()
        texts = [ticket.subject, ticket.text, ticket.turns, *(row.output for row in inferences)]
        texts += [_get_feedback_texts(row) for row in feedback] + [_get_example_texts(row) for row in examples]
        mapping, is_known = self._open_map(session, ticket_id, "\n".join(iterate_strings(texts)))

        def rewrite(text: str) -> str:
            return remask(text, rules, mapping)

        ticket.subject, ticket.text = rewrite(ticket.subject), rewrite(ticket.text)
        ticket.turns = rewrite_strings(ticket.turns, rewrite)
        for inference in inferences:
            inference.output = _rewrite_output(inference.output, rewrite)
        for given in feedback:
            given.reason = None if given.reason is None else rewrite(given.reason)
            if given.task is TaskKind.SUMMARY:
                given.value = None if given.value is None else rewrite(given.value)
        step = _replace_examples(session, examples, rules, rewrite, actor=actor, reason=reason)
        if is_known and self.vault is not None:
            expires_at = session.get_one(VaultEntry, ticket_id).expires_at
            tickets.put_vault(session, ticket_id=ticket_id, ciphertext=self.vault.encrypt(mapping), expires_at=expires_at)
        session.flush()
        detail = {"reason": reason}
        record_audit(session, actor=actor, action=ACTION_SCRUBBED, subject_type="ticket", subject_id=ticket_id, detail=detail)
        return _Step(n_tickets=1, adapters=step.adapters, retrains=step.retrains)

    def _scrub_example(self, session: Session, *, example_id: int, rules: Rules, actor: str, reason: str) -> "_Step":
        example = session.get(Example, example_id, with_for_update=True)
        if example is None:
            return _Step()
        mapping = reserve_numbers("\n".join(iterate_strings(_get_example_texts(example))))
        step = _replace_examples(session, [example], rules, lambda text: remask(text, rules, mapping), actor=actor, reason=reason)
        return _Step(n_examples=1, adapters=step.adapters, retrains=step.retrains)

    def _open_map(self, session: Session, ticket_id: int, known_text: str) -> tuple[PlaceholderMap, bool]:
        """The ticket's map and whether it is the vault's; else one in which the numbers of its texts are taken."""
        ciphertext = tickets.get_vault(session, ticket_id)
        if self.vault is not None and ciphertext is not None:
            try:
                return self.vault.decrypt(ciphertext), True
            except VaultError:
                pass  # made with a key that is gone: as without one
        return reserve_numbers(known_text), False


@dataclass(frozen=True)
class _Step:
    n_tickets: int = 0
    n_examples: int = 0
    adapters: frozenset[str] = frozenset()
    retrains: frozenset[str] = frozenset()

    def add_to(self, done: Scrubbed) -> None:
        done.n_tickets += self.n_tickets
        done.n_examples += self.n_examples
        done.adapters |= self.adapters
        done.retrains |= self.retrains


def _rewrite_output(output: Mapping[str, Any], rewrite: Rewrite) -> dict[str, Any]:
    """An inference's output with its texts rewritten; labels stay what they are."""
    texts = {key: rewrite_strings(value, rewrite) for key, value in output.items() if key in {"text", "units", "reason"}}
    if "similar" in output:
        texts["similar"] = [[*entry[:3], rewrite(entry[3])] for entry in output["similar"]]
    return {**output, **texts}


def _replace_examples(
    session: Session, examples: Sequence[Example], rules: Rules, rewrite: Rewrite, *, actor: str, reason: str
) -> _Step:
    """Put a clean copy in place of each example that holds a phrase: the old number stays what adapters had learned from."""
    dirty = [row for row in examples if _holds(_get_example_texts(row), rules)]
    if not dirty:
        return _Step()
    for row in dirty:
        values = row.model_dump(exclude={"id"})
        values |= {"text": rewrite(row.text), "turns": rewrite_strings(row.turns, rewrite)}
        if row.task is TaskKind.SUMMARY:
            values |= {"target": rewrite(row.target), "draft": None if row.draft is None else rewrite(row.draft)}
        copy = Example(**values)
        session.add(copy)
        session.flush()
        sides = update(ReviewSide).where(col(ReviewSide.example_id) == row_id(row))
        session.connection().execute(sides.values(example_id=row_id(copy)))
    erasure = erase_examples(session, example_ids=[row_id(row) for row in dirty], actor=actor, reason=reason)
    return _Step(adapters=frozenset(erasure.marked), retrains=frozenset(task.value for task in erasure.retrains))


def _scrub_others(session: Session, *, rules: Rules, actor: str, reason: str) -> int:
    """Rewrite what people wrote elsewhere. The audit trail is changed here and nowhere else, and says so."""
    count = 0
    for kind, names in OTHER_TEXTS:
        for row in _iterate(session, kind, is_writing=True):
            values = {name: getattr(row, name) for name in names}
            if not _holds(list(values.values()), rules):
                continue
            mapping = reserve_numbers("\n".join(iterate_strings(list(values.values()))))
            for name, value in values.items():
                setattr(row, name, rewrite_strings(value, partial(remask, rules=rules, mapping=mapping)))
            count += 1
    session.flush()
    detail = {"reason": reason, "n_rows": count}
    record_audit(session, actor=actor, action=ACTION_SCRUBBED, subject_type="texts", subject_id="other", detail=detail)
    return count


def _iterate(session: Session, kind: Any, *, is_writing: bool = False) -> Iterator[Any]:
    """Yield the rows of a table by rising id, a page at a time; without `is_writing` memory stays flat."""
    last_id = 0
    while True:
        page = session.exec(select(kind).where(kind.id > last_id).order_by(kind.id).limit(_PAGE)).all()
        if not is_writing:
            session.expunge_all()
        yield from page
        if len(page) < _PAGE:
            return
        last_id = row_id(page[-1])


def _get_feedback_texts(row: FeedbackRow) -> list[Any]:
    return [row.reason, row.value if row.task is TaskKind.SUMMARY else None]


def _get_example_texts(row: Example) -> list[Any]:
    summary = [row.target, row.draft] if row.task is TaskKind.SUMMARY else []
    return [row.text, row.turns, *summary]


def _holds(value: Any, rules: Rules) -> bool:
    """Whether any string inside a value holds a phrase, placeholders left aside."""
    return any(rules.find(PLACEHOLDER.sub("\n\n\n\n", text))[0] for text in iterate_strings(value))


def iterate_strings(value: Any) -> Iterator[str]:
    """Yield every string inside a JSON value, keys left aside."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from iterate_strings(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from iterate_strings(part)


def rewrite_strings(value: Any, rewrite: Rewrite) -> Any:
    """Return a JSON value with every string rewritten, keys left aside."""
    if isinstance(value, str):
        return rewrite(value)
    if isinstance(value, Mapping):
        return {key: rewrite_strings(part, rewrite) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [rewrite_strings(part, rewrite) for part in value]
    return value
