"""Everything held on a subject as one JSON value, unmasked as far as the vault goes. Reads only; the file is the caller's business."""

from collections.abc import Mapping
from typing import Any

from sqlmodel import Session, col, select

from bot.masking import PLACEHOLDER, PlaceholderMap
from bot.privacy.people import Finder, Held
from bot.privacy.scrub import rewrite_strings
from db.queries.lineage import trace_ticket
from db.queries.privacy_erase import TicketRows, collect_ticket
from db.session import transaction
from db.tables import PluginEvent, PluginValue, Row, now

FORMAT = 1


def build_export(finder: Finder, held: Held) -> dict[str, Any]:
    """Return what is held: tickets with all rows that hang on them, rows of plugins, and what could not be searched."""
    with transaction(finder.db_engine, is_read_only=True) as session:
        tickets = [_export_ticket(session, finder, ticket_id, how=how) for ticket_id, how in sorted(held.tickets.items())]
        events = [_export_event(session, finder, key) for key in held.event_ids]
        values = [_export_value(session, finder, *key) for key in held.value_keys]
    found = [ticket for ticket in tickets if ticket is not None]
    return {
        "format": FORMAT,
        "exported_at": now().isoformat(),
        "is_unmasked": bool(found) and all(ticket["is_unmasked"] for ticket in found),
        "explanation": (
            "Placeholders such as <PERSON_1> stand for values that are not kept, or no longer. A ticket with is_unmasked false had no "
            "placeholder map that a key opens. Other people whom a ticket names are in it too."
        ),
        "notes": list(held.notes),
        "tickets": found,
        "plugin_events": events,
        "plugin_values": values,
        "n_rows_elsewhere": held.n_other_rows,
        "n_rows_as_team_member": held.n_actor_rows,
    }


def _export_ticket(session: Session, finder: Finder, ticket_id: int, *, how: str) -> dict[str, Any] | None:
    rows = collect_ticket(session, ticket_id)
    if rows is None:
        return None
    mapping = finder.open_map(rows.vault)

    def show(row: Row) -> dict[str, Any]:
        shown: dict[str, Any] = unmask(row.model_dump(mode="json", exclude={"ciphertext"}), mapping)
        return shown

    return {
        "found_by": how,
        "is_unmasked": mapping is not None,
        "ticket": show(rows.ticket),
        "vault": None
        if rows.vault is None
        else {"expires_at": rows.vault.expires_at.isoformat(), "values": _list_values(mapping)},
        "inferences": [show(row) for row in rows.inferences],
        "feedback": [show(row) for row in rows.feedback],
        "examples": [show(row) for row in rows.examples],
        "review_sides": [show(row) for row in rows.sides],
        "corrections": [_export_correction(rows, finder, position) for position in range(len(rows.corrections))],
        "quoted_by_inferences": [row.id for row in rows.quoting],
        "audit": [row.model_dump(mode="json") for row in rows.audit],
        "adapters": sorted({trace.adapter_digest for trace in trace_ticket(session, ticket_id) if trace.adapter_digest}),
    }


def _export_correction(rows: TicketRows, finder: Finder, position: int) -> dict[str, Any]:
    row = rows.corrections[position]
    phrase = None
    if row.ciphertext is not None and finder.vault is not None and finder.vault.find_key(row.ciphertext) is not None:
        phrase = finder.vault.decrypt_text(row.ciphertext)
    return {**row.model_dump(mode="json", exclude={"ciphertext"}), "phrase": phrase}


def _export_event(session: Session, finder: Finder, event_id: int) -> dict[str, Any]:
    row = session.get_one(PluginEvent, event_id)
    return {**row.model_dump(mode="json", exclude={"ciphertext"}), "payload": finder.unseal(row.ciphertext)}


def _export_value(session: Session, finder: Finder, plugin: str, key: str) -> dict[str, Any]:
    row = session.exec(select(PluginValue).where(col(PluginValue.plugin) == plugin, col(PluginValue.key) == key)).one()
    return {**row.model_dump(mode="json", exclude={"ciphertext"}), "value": finder.unseal(row.ciphertext)}


def _list_values(mapping: PlaceholderMap | None) -> list[dict[str, str]] | None:
    if mapping is None:
        return None
    return [
        {"placeholder": f"<{entity}_{number}>", "value": surface} for (entity, _), (number, surface) in mapping.entries.items()
    ]


def unmask(value: Any, mapping: PlaceholderMap | None) -> Any:
    """A JSON value with every placeholder that the map knows replaced by what it stands for, secrets and card numbers too."""
    if mapping is None:
        return value

    def restore(text: str) -> str:
        return PLACEHOLDER.sub(lambda m: mapping.surface(m.group(1), int(m.group(2))) or m.group(), text)

    return rewrite_strings(value, restore)


def count_export(export: Mapping[str, Any]) -> dict[str, int]:
    """Return what the audit trail may say of an export."""
    return {
        "n_tickets": len(export["tickets"]),
        "n_unmasked": sum(ticket["is_unmasked"] for ticket in export["tickets"]),
        "n_plugin_rows": len(export["plugin_events"]) + len(export["plugin_values"]),
    }
