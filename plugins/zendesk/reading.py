"""Reads Zendesk's JSON into the helpdesk's values: tickets, audits, macros.

Tolerant: the live API leaves out and nulls more than its document says. Knows no HTTP.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from bot.plugin_api import Turn
from plugins.helpdesk.notes import find_marker
from plugins.helpdesk.values import Author, Change, HelpdeskTicket, Macro, TicketRef, TicketState

Json = Mapping[str, Any]
METADATA_KEY = "understudy"
_STATES = {"solved": TicketState.SOLVED, "closed": TicketState.CLOSED, "deleted": TicketState.DELETED}
_PLAIN_FIELDS = ("priority", "type", "status", "group_id", "assignee_id")
_MERGE_TAG = "closed_by_merge"
_SIDE_TAGS = frozenset({"created_for_side_conversation"})
_SIDE_CHANNEL = "side_conversation"
# Via types of changes that nobody makes ticket by ticket; both spellings of an API call are among the vendor's names.
_BULK_CHANNELS = frozenset(
    {
        "batch",
        "merge",
        "linked_problem",
        "group_deletion",
        "group_change",
        "user_change",
        "user_deletion",
        "import",
        "resource_push",
    }
)
_RULE_CHANNELS = frozenset({"rule", "system", "automatic_solution_suggestions", "satisfaction_prediction", "monitor_event"})
_API_CHANNELS = frozenset({"api", "web_service"})
_SYSTEM_AUTHOR = "-1"


def read_text(value: object) -> str:
    """Return a field's value as text; nothing is empty, a list is joined with commas."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return ",".join(read_text(item) for item in value)
    return str(value)


def read_time(value: object) -> datetime | None:
    """Return a time in UTC, or None."""
    if not isinstance(value, str) or not value:
        return None
    try:
        at = datetime.fromisoformat(value)
    except ValueError:
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def read_ticket(ticket: Json, comments: Iterable[Json], *, ticket_id: str) -> HelpdeskTicket:
    """Return a ticket with its public messages; without any, its description is the customer's first."""
    requester = read_text(ticket.get("requester_id"))
    tags = tuple(read_text(tag) for tag in ticket.get("tags") or ())
    turns = tuple(turn for turn in (_read_turn(comment, requester) for comment in comments) if turn is not None)
    description = read_text(ticket.get("description")).strip()
    if not turns and description:
        turns = (Turn("customer", description),)
    channel = (ticket.get("via") or {}).get("channel")
    return HelpdeskTicket(
        ticket_id=ticket_id,
        state=TicketState.MERGED
        if _MERGE_TAG in tags
        else _STATES.get(read_text(ticket.get("status")).lower(), TicketState.OPEN),
        subject=read_text(ticket.get("subject")),
        turns=turns,
        fields=_read_fields(ticket),
        tags=tags,
        scopes={"brand": read_text(ticket.get("brand_id")), "form": read_text(ticket.get("ticket_form_id"))},
        customer=requester,
        updated_at=read_time(ticket.get("updated_at")),
        created_at=read_time(ticket.get("created_at")),
        is_ignored=channel == _SIDE_CHANNEL or bool(_SIDE_TAGS & set(tags)),
    )


def _read_fields(ticket: Json) -> dict[str, str]:
    fields = {name: read_text(ticket.get(name)) for name in _PLAIN_FIELDS}
    for field in ticket.get("custom_fields") or ticket.get("fields") or ():
        if isinstance(field, Mapping) and "id" in field:
            fields[read_text(field["id"])] = read_text(field.get("value"))
    return fields


def _read_turn(comment: Json, requester: str) -> Turn | None:
    text = read_text(comment.get("plain_body") or comment.get("body")).strip()
    if not text or comment.get("public") is not True:
        return None
    return Turn("customer" if read_text(comment.get("author_id")) == requester else "agent", text)


def read_audit(audit: Json, *, own_id: str, requester: str, api_is_person: bool) -> tuple[Change, ...]:
    """Return an audit as one change of its author, and another one where rules joined in."""
    marker = read_text(((audit.get("metadata") or {}).get("custom") or {}).get(METADATA_KEY))
    at = read_time(audit.get("created_at")) or datetime.fromtimestamp(0, UTC)
    actor, channel = read_text(audit.get("author_id")), _get_channel(audit)
    by_author: dict[Author, list[Json]] = {}
    for event in audit.get("events") or ():
        if event.get("type") == "Comment":
            marker = marker or find_marker(read_text(event.get("plain_body") or event.get("body")))
        own_channel = _get_channel(event) or channel
        author = _find_author(own_channel, actor, own_id=own_id, requester=requester, api_is_person=api_is_person)
        by_author.setdefault(author, []).append(event)
    if marker:  # written by us, though perhaps with a person's token
        ours = [event for author, events in by_author.items() if author is not Author.RULE for event in events]
        rules = by_author.get(Author.RULE, [])
        by_author = {Author.OURSELVES: ours, **({Author.RULE: rules} if rules else {})}
    return tuple(
        _read_events(events, f"{audit.get('id')}" if n == 0 else f"{audit.get('id')}/{n}", at, author, actor=actor, marker=marker)
        for n, (author, events) in enumerate(sorted(by_author.items(), key=lambda item: item[0] is Author.RULE))
    )


def _get_channel(item: Json) -> str:
    return read_text((item.get("via") or {}).get("channel")).lower()


def _find_author(channel: str, actor: str, *, own_id: str, requester: str, api_is_person: bool) -> Author:
    if channel in _RULE_CHANNELS or actor == _SYSTEM_AUTHOR:
        return Author.RULE
    if channel in _BULK_CHANNELS:
        return Author.BULK
    if actor and actor == own_id:
        return Author.OURSELVES
    if actor and actor == requester:
        return Author.CUSTOMER
    return Author.RULE if channel in _API_CHANNELS and not api_is_person else Author.PERSON


def _read_events(events: Iterable[Json], change_id: str, at: datetime, author: Author, *, actor: str, marker: str) -> Change:
    fields: dict[str, str] = {}
    macro, state = "", None
    for event in events:
        kind, name = event.get("type"), read_text(event.get("field_name"))
        if kind in {"Change", "Create"} and name:
            fields[name] = read_text(event.get("value"))
            if name == "status":
                state = _STATES.get(fields[name].lower(), TicketState.OPEN)
        elif kind == "AgentMacroReference":
            macro = read_text(event.get("macro_title")) or read_text(event.get("macro_id"))
    return Change(change_id, at, author, actor, fields, macro, state, marker)


def read_macro(macro: Json) -> Macro:
    """Return a macro with the words it writes."""
    said = [
        read_text(action.get("value"))
        for action in macro.get("actions") or ()
        if str(action.get("field", "")).startswith(("comment_value", "subject"))
    ]
    return Macro(
        read_text(macro.get("id")), read_text(macro.get("title")), " ".join([read_text(macro.get("description")), *said])
    )


def read_ref(ticket: Json) -> TicketRef:
    """Return which ticket changed. Some changes, such as a deletion, show in the time of the export alone."""
    version = f"{read_text(ticket.get('updated_at'))}/{read_text(ticket.get('generated_timestamp'))}"
    return TicketRef(read_text(ticket.get("id")), version)
