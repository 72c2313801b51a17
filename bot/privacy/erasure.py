"""Erasing everything on a subject, one transaction per ticket, then what plugins keep and where the name stands unmasked elsewhere."""

from dataclasses import dataclass, field
from functools import partial

from sqlalchemy import delete, update
from sqlmodel import Session, col

from bot.privacy.people import Held, build_person_rules
from bot.privacy.scrub import Scrubber
from bot.privacy_api import ErasureReport
from db.queries.audit import record_audit
from db.queries.privacy_erase import erase_ticket
from db.session import retry_transaction
from db.tables import PluginEvent, PluginValue, now
from db.types import EventStatus

ACTION_ERASED = "person.erase"


@dataclass
class _Totals:
    tickets: int = 0
    rows: dict[str, int] = field(default_factory=dict)
    adapters: set[str] = field(default_factory=set)
    retrains: set[str] = field(default_factory=set)

    def add(self, counts: dict[str, int]) -> None:
        for name, count in counts.items():
            self.rows[name] = self.rows.get(name, 0) + count


def erase(scrubber: Scrubber, held: Held, *, person: str, actor: str, reason: str) -> ErasureReport:
    """Erase what was found. What is gone already is passed over, so that an interrupted erasure can simply be run again."""
    totals = _Totals()
    for ticket_id in sorted(held.tickets):
        step = partial(erase_ticket, ticket_id=ticket_id, actor=actor, reason=reason)
        done = retry_transaction(scrubber.db_engine, step)
        if done is None:
            continue
        totals.tickets += 1
        totals.add(done.counts)
        if done.examples is not None:
            totals.adapters |= set(done.examples.marked)
            totals.retrains |= {task.value for task in done.examples.retrains}
    retry_transaction(scrubber.db_engine, lambda session: _erase_plugin_rows(session, held, totals))
    if person:
        scrubbed = scrubber.scrub(build_person_rules(person), actor=actor, reason=reason)
        totals.add({"other texts": scrubbed.n_other_rows + scrubbed.n_examples + scrubbed.n_tickets})
        totals.adapters |= scrubbed.adapters
        totals.retrains |= scrubbed.retrains
    rows = {name: count for name, count in totals.rows.items() if count}
    detail = {"reason": reason, "n_tickets": totals.tickets, "rows": rows, "retrains": sorted(totals.retrains)}
    retry_transaction(
        scrubber.db_engine,
        lambda session: record_audit(
            session,
            actor=actor,
            action=ACTION_ERASED,
            subject_type="person" if person else "tickets",
            subject_id="one" if person else str(totals.tickets),
            detail=detail,
        ),
    )
    return ErasureReport(
        n_tickets=totals.tickets,
        rows=rows,
        adapters=tuple(sorted(totals.adapters)),
        retrains=tuple(sorted(totals.retrains)),
        notes=tuple(held.notes),
    )


def _erase_plugin_rows(session: Session, held: Held, totals: _Totals) -> None:
    """Empty events, so that none is handled any more, and delete values."""
    gone = {"ciphertext": b"", "status": EventStatus.DONE, "finished_at": now(), "claimed_by": None, "claimed_until": None}
    for event_id in held.event_ids:
        query = update(PluginEvent).where(col(PluginEvent.id) == event_id)
        session.connection().execute(query.values(**gone, key=f"erased:{event_id}", group_key=""))
    for plugin, key in held.value_keys:
        is_it = (col(PluginValue.plugin) == plugin) & (col(PluginValue.key) == key)
        session.connection().execute(delete(PluginValue).where(is_it))
    totals.add({"plugin_event": len(held.event_ids), "plugin_value": len(held.value_keys)})
