"""Tickets from elsewhere become masked examples: a label, a summary, or both. Idempotent by the row's id or its text.

Knows nothing of files; `bot.import_map` says what a row means.
"""

import hashlib
import hmac
import secrets
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlmodel import Session

from bot.intake import PLAIN_SPEAKERS
from bot.jsonl import replace_surrogates
from bot.masking import MaskingError, PlaceholderMap, TextMasker
from bot.tasks.ticket import render_ticket
from bot.types import LabelSet, PastTicket, Turn
from db.queries.audit import record_audit
from db.queries.common import clean_text, clean_turns, row_id, take_lock
from db.queries.state import get_state, set_state
from db.queries.tickets import get_ticket_by_source, set_ticket_status, upsert_ticket
from db.tables import Example, now
from db.types import MaskedText, Split, TaskKind, TicketStatus

PLUGIN = "import"
ACTION_IMPORTED = "examples.imported"
_SALT = "import.salt"
_EMPTY = MaskedText("")


@dataclass(frozen=True)
class MaskedTicket:
    """A ticket without personal data. `is_withheld` means that it could not be masked: nothing of it is here but its id."""

    external_id: str
    subject: MaskedText = _EMPTY
    text: MaskedText = _EMPTY
    turns: tuple[Turn, ...] = ()
    label: str | None = None
    summary: MaskedText | None = None
    created_at: datetime | None = None
    group_key: str = ""
    is_withheld: bool = False


def build_plain_ticket(row: Mapping[str, Any]) -> PastTicket:
    """Return the ticket of a row with `text` and `label`; one without an id is known by a digest of its text."""
    external_id = row.get("id") or hashlib.sha256(str(row["text"]).encode(errors="replace")).hexdigest()[:16]
    return PastTicket(
        external_id=replace_surrogates(str(external_id)), subject="", text=str(row["text"]), label=str(row["label"])
    )


def get_salt(session: Session) -> bytes:
    """Return this installation's secret for group keys, made at the first call: without it an address could be found by trying."""
    take_lock(session, _SALT)
    known = get_state(session, _SALT)
    if known is None:
        known = {"hex": secrets.token_hex(16)}
        set_state(session, _SALT, value=known)
    return bytes.fromhex(known["hex"])


def find_new(session: Session, rows: Iterable[PastTicket], *, plugin: str = PLUGIN) -> list[PastTicket]:
    """Return the tickets that are not there yet, each id once, so that only these are masked."""
    new = {row.external_id: row for row in rows}
    return [row for row in new.values() if get_ticket_by_source(session, plugin=plugin, external_id=row.external_id) is None]


def mask_tickets(masker: TextMasker, rows: Sequence[PastTicket], *, salt: bytes, at_once: int = 1) -> list[MaskedTicket]:
    """Mask tickets, `at_once` of them side by side where the masker has processes. Takes milliseconds each: do it in no transaction."""
    if at_once == 1:
        return [_mask_ticket(masker, row, salt) for row in rows]
    with ThreadPoolExecutor(at_once) as threads:
        return list(threads.map(lambda row: _mask_ticket(masker, row, salt), rows))


def _mask_ticket(masker: TextMasker, row: PastTicket, salt: bytes) -> MaskedTicket:
    mapping = PlaceholderMap()

    def mask(text: str) -> MaskedText:
        return masker.mask(text, mapping).text if text else _EMPTY

    try:
        return MaskedTicket(
            external_id=row.external_id,
            subject=mask(row.subject),
            text=mask(row.text),
            turns=tuple(
                Turn(
                    speaker=turn.speaker if turn.speaker.strip().casefold() in PLAIN_SPEAKERS else mask(turn.speaker),
                    text=mask(turn.text),
                )
                for turn in row.turns
            ),
            label=row.label,
            summary=mask(row.summary) if row.summary else None,
            created_at=row.created_at,
            group_key=hmac.new(salt, row.group.encode(), "sha256").hexdigest()[:24] if row.group else "",
        )
    except MaskingError:
        return MaskedTicket(external_id=row.external_id, is_withheld=True)


def import_batch(
    session: Session,
    rows: Sequence[MaskedTicket],
    *,
    label_set: LabelSet,
    actor: str,
    is_golden: bool = False,
    plugin: str = PLUGIN,
) -> dict[str, int]:
    """Import masked tickets in one transaction; return counts of imported, known and withheld ones."""
    counts = {"imported": 0, "known": 0, "withheld": 0}
    for row in rows:
        if get_ticket_by_source(session, plugin=plugin, external_id=row.external_id) is not None:
            counts["known"] += 1
        elif row.is_withheld:
            counts["withheld"] += 1
        else:
            _store(session, row, label_set=label_set, split=Split.GOLDEN if is_golden else None, plugin=plugin)
            counts["imported"] += 1
    record_audit(
        session,
        actor=actor,
        action=ACTION_IMPORTED,
        subject_type="label_set",
        subject_id=label_set.version,
        detail=dict(counts),
    )
    return counts


def _store(session: Session, row: MaskedTicket, *, label_set: LabelSet, split: Split | None, plugin: str) -> None:
    turns = clean_turns([{"speaker": turn.speaker, "text": turn.text} for turn in row.turns])
    ticket = upsert_ticket(
        session,
        plugin=plugin,
        external_id=row.external_id,
        subject=row.subject,
        text=row.text,
        turns=turns,
        group_key=row.group_key,
    )
    set_ticket_status(session, row_id(ticket), status=TicketStatus.DECIDED)
    # A label is asked for when a ticket comes in: it is learned from the first message, not from what came of it.
    first = render_ticket(row.subject, row.text) if row.text else render_ticket(row.subject, "", row.turns[:1])
    whole = render_ticket(row.subject, row.text, row.turns)
    lessons = ((TaskKind.CLASSIFICATION, first, row.label), (TaskKind.SUMMARY, whole, row.summary))
    session.add_all(
        Example(
            ticket_id=row_id(ticket),
            task=task,
            text=clean_text(text),
            turns=turns,
            target=clean_text(target),
            split=split,
            group_key=row.group_key,
            label_set_version=label_set.version if task is TaskKind.CLASSIFICATION else "",
            created_at=row.created_at or now(),
        )
        for task, text, target in lessons
        if target
    )
    session.flush()
