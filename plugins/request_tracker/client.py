"""Request Tracker's REST 2.0 as a `HelpdeskClient`: tickets, transactions, attachments, custom fields, comments.

A suggestion takes two requests; the comment with the marker goes last, so that its presence says that all is written.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import httpx

from bot.plugin_api import Turn
from plugins.helpdesk.client import Clock, HelpdeskError
from plugins.helpdesk.http import JsonApi
from plugins.helpdesk.notes import find_marker
from plugins.helpdesk.values import (
    Author,
    Change,
    HelpdeskTicket,
    Macro,
    Page,
    TicketRef,
    TicketState,
    Update,
    build_version,
)
from plugins.request_tracker.settings import RequestTrackerSettings

API = "/REST/2.0"
PAGE_SIZE = 100
MAX_PAGES = 20
MAX_FIELDS = 4096
_STATES = {"resolved": TicketState.SOLVED, "rejected": TicketState.CLOSED, "deleted": TicketState.DELETED}
_PLAIN = ("Queue", "Priority", "Owner", "Status")
_PUBLIC = frozenset({"Create", "Correspond"})
_START_LAG_S = 60


def build_api(settings: RequestTrackerSettings, clock: Clock, transport: httpx.AsyncBaseTransport | None = None) -> JsonApi:
    """Return the API with the token."""
    headers = {"Authorization": f"token {settings.token.get_secret_value()}", "Accept": "application/json"}
    url = settings.url.rstrip("/")
    return JsonApi(url, clock=clock, per_minute=settings.requests_per_minute, headers=headers, transport=transport)


def _get_name(item: object) -> str:
    return str(item.get("Name") or item.get("id") or "") if isinstance(item, Mapping) else str(item or "")


def _read_time(text: object) -> datetime:
    at = datetime.fromisoformat(str(text))
    return at if at.tzinfo else at.replace(tzinfo=UTC)


class RequestTrackerClient:
    """Implements `plugins.helpdesk.client.HelpdeskClient`. Fields go by the names of custom fields, or by Queue, Priority and Owner."""

    def __init__(self, api: JsonApi, settings: RequestTrackerSettings, clock: Clock) -> None:
        self._api, self._settings, self._clock = api, settings, clock
        self._field_names: dict[str, str] = {}
        self._customers: dict[str, frozenset[str]] = {}

    async def fetch_ticket(self, ticket_id: str) -> HelpdeskTicket:
        """See `HelpdeskClient.fetch_ticket`."""
        raw = await self._fetch(ticket_id)
        ticket = self._read_ticket(raw, ticket_id)
        history, texts = await self._list_transactions(ticket_id), await self._list_texts(ticket_id)
        requestors = frozenset(_get_name(person) for person in raw.get("Requestor") or ())
        self._customers[ticket_id] = requestors
        while len(self._customers) > MAX_FIELDS:
            self._customers.pop(next(iter(self._customers)))
        customers = requestors or {_get_name(raw.get("Creator"))}
        turns = [
            Turn("customer" if _get_name(item.get("Creator")) in customers else "agent", texts[str(item["id"])])
            for item in history
            if item.get("Type") in _PUBLIC and texts.get(str(item["id"]), "").strip()
        ]
        return replace(ticket, turns=tuple(turns), customer=min(requestors, default=""))

    async def fetch_bare_ticket(self, ticket_id: str) -> HelpdeskTicket:
        """See `HelpdeskClient.fetch_bare_ticket`."""
        return self._read_ticket(await self._fetch(ticket_id), ticket_id)

    async def _fetch(self, ticket_id: str) -> Mapping[str, Any]:
        ticket: Mapping[str, Any] = await self._api.get(f"{API}/ticket/{ticket_id}", params={"fields[Queue]": "Name"})
        return ticket

    def _read_ticket(self, ticket: Mapping[str, Any], ticket_id: str) -> HelpdeskTicket:
        queue = _get_name(ticket.get("Queue"))
        return HelpdeskTicket(
            ticket_id=ticket_id,
            state=self._read_state(ticket, ticket_id),
            subject=str(ticket.get("Subject") or ""),
            fields=self._read_fields(ticket),
            tags=self._read_tags(ticket),
            scopes={"queue": queue},
            updated_at=_read_time(ticket["LastUpdated"]),
            created_at=_read_time(ticket["Created"]),
            is_ignored=bool(self._settings.queues) and queue not in self._settings.queues,
        )

    async def fetch_history(self, ticket_id: str) -> Sequence[Change]:
        """See `HelpdeskClient.fetch_history`. Transactions may arrive out of order: their numbers give the order."""
        history, texts = await self._list_transactions(ticket_id), await self._list_texts(ticket_id)
        return [self._read_change(item, texts.get(str(item["id"]), ""), ticket_id) for item in history]

    async def write(self, update: Update, ticket: HelpdeskTicket) -> None:
        """See `HelpdeskClient.write`. Refused values are answered with 200: the ticket is read again to see."""
        path = f"{API}/ticket/{update.ticket_id}"
        plain = {name: value for name, value in update.fields.items() if name in _PLAIN}
        custom: dict[str, Any] = {name: value for name, value in update.fields.items() if name not in _PLAIN}
        if update.tags and self._settings.tag_field:
            custom[self._settings.tag_field] = [*ticket.tags, *update.tags]
        if plain or custom:
            await self._api.send("PUT", path, body={**plain, **({"CustomFields": custom} if custom else {})})
            now = self._read_fields(await self._api.get(path))
            for name, value in update.fields.items():
                if name not in _PLAIN and now.get(name) != value:
                    message = f"the custom field '{name}' took another value than it was given: check its list and our rights"
                    raise HelpdeskError(message)
        if update.note:
            await self._api.send("POST", f"{path}/comment", body={"Content": update.note, "ContentType": "text/plain"})

    async def list_changed(self, cursor: str) -> Page:
        """See `HelpdeskClient.list_changed`. The cursor is the time of the last change seen, which is asked for once more."""
        now = self._clock.now()
        since = _read_time(cursor) if cursor else now.replace(microsecond=0)
        start_at = since.timestamp() - (0 if cursor else _START_LAG_S)
        items = await self._search(f"LastUpdated >= '{_write_time(start_at)}'")
        refs = [TicketRef(str(item["id"]), build_version(_read_time(item["LastUpdated"]), now)) for item in items]
        last = max((_read_time(item["LastUpdated"]) for item in items), default=since)
        return Page(tuple(refs), last.isoformat(), is_last=True)

    async def list_solved(self, cursor: str, *, since: datetime) -> Page:
        """See `HelpdeskClient.list_solved`. The cursor is the number of the next page."""
        number = int(cursor or 1)
        query = f"Status = 'resolved' AND LastUpdated >= '{_write_time(since.timestamp())}'"
        answer = await self._ask(query, number)
        refs = tuple(TicketRef(str(item["id"]), str(item.get("LastUpdated"))) for item in answer.get("items") or ())
        return Page(refs, str(number + 1), is_last=len(refs) < PAGE_SIZE)

    async def list_macros(self) -> Sequence[Macro]:
        """Request Tracker's articles are not read: macros are known from the label set."""
        return []

    async def find_label_field(self) -> str:
        """There is no set-up: the field stands in the settings."""
        return ""

    async def close(self) -> None:
        """See `HelpdeskClient.close`."""
        await self._api.close()

    async def _search(self, query: str) -> list[Mapping[str, Any]]:
        items: list[Mapping[str, Any]] = []
        for number in range(1, MAX_PAGES + 1):
            page = (await self._ask(query, number)).get("items") or []
            items += page
            if len(page) < PAGE_SIZE:
                break
        return items

    async def _ask(self, query: str, number: int) -> Mapping[str, Any]:
        queues = " OR ".join(f"Queue = '{name}'" for name in self._settings.queues)
        params = {
            "query": f"{query} AND ({queues})" if queues else query,
            "fields": "LastUpdated",
            "orderby": "LastUpdated",
            "per_page": str(PAGE_SIZE),
            "page": str(number),
        }
        answer: Mapping[str, Any] = await self._api.get(f"{API}/tickets", params=params)
        return answer

    async def _list(self, path: str, fields: str) -> list[Mapping[str, Any]]:
        items: list[Mapping[str, Any]] = []
        for number in range(1, MAX_PAGES + 1):
            params = {"fields": fields, "per_page": str(PAGE_SIZE), "page": str(number)}
            page = (await self._api.get(path, params=params)).get("items") or []
            items += page
            if len(page) < PAGE_SIZE:
                break
        return sorted(items, key=lambda item: int(item["id"]))

    async def _list_transactions(self, ticket_id: str) -> list[Mapping[str, Any]]:
        return await self._list(f"{API}/ticket/{ticket_id}/history", "Type,Creator,Created,Field,NewValue")

    async def _list_texts(self, ticket_id: str) -> dict[str, str]:
        """Return the plain text of each transaction by its number: the history itself comes without."""
        items = await self._list(f"{API}/ticket/{ticket_id}/attachments", "Content,ContentType,TransactionId")
        texts: dict[str, str] = {}
        for item in items:
            if str(item.get("ContentType", "")).startswith("text/plain"):
                texts.setdefault(str(item.get("TransactionId")), str(item.get("Content") or ""))
        return texts

    @staticmethod
    def _read_state(ticket: Mapping[str, Any], ticket_id: str) -> TicketState:
        if str(ticket.get("id")) != ticket_id or _get_name(ticket.get("EffectiveId")) not in {ticket_id, ""}:
            return TicketState.MERGED
        return _STATES.get(str(ticket.get("Status")), TicketState.OPEN)

    def _read_fields(self, ticket: Mapping[str, Any]) -> dict[str, str]:
        fields = {name: _get_name(ticket.get(name)) for name in _PLAIN}
        if fields["Priority"] == "0":
            fields["Priority"] = ""
        for field in ticket.get("CustomFields") or ():
            self._field_names[str(field["id"])] = field["name"]
            fields[field["name"]] = ",".join(str(value) for value in field.get("values") or ())
        return fields

    def _read_tags(self, ticket: Mapping[str, Any]) -> tuple[str, ...]:
        found = (field for field in ticket.get("CustomFields") or () if field["name"] == self._settings.tag_field)
        return tuple(str(value) for field in found for value in field.get("values") or ())

    def _read_change(self, item: Mapping[str, Any], text: str, ticket_id: str) -> Change:
        kind, value = item.get("Type"), str(item.get("NewValue") or "")
        fields: dict[str, str] = {}
        if kind == "CustomField":
            number = str(item.get("Field"))
            fields[self._field_names.get(number, number)] = value
        actor = _get_name(item.get("Creator"))
        return Change(
            change_id=str(item["id"]),
            at=_read_time(item["Created"]),
            author=self._find_author(actor, ticket_id),
            actor=actor,
            fields=fields,
            state=_STATES.get(value, TicketState.OPEN) if kind == "Status" else None,
            marker=find_marker(text) if kind == "Comment" else "",
        )

    def _find_author(self, actor: str, ticket_id: str) -> Author:
        if actor == self._settings.user:
            return Author.OURSELVES
        if actor in self._settings.rule_users:
            return Author.RULE
        return Author.CUSTOMER if actor in self._customers.get(ticket_id, frozenset()) else Author.PERSON


def _write_time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")
