"""Zendesk's Ticketing API as a `HelpdeskClient`: tickets, comments, audits, macros, fields, incremental export.

Knows no policy; what is written is decided elsewhere.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import httpx

from bot.plugin_api import RetryLaterError
from plugins.helpdesk.client import Clock, GoneError, HelpdeskError
from plugins.helpdesk.http import OUTAGE_PAUSE_S, JsonApi
from plugins.helpdesk.memory import Cached
from plugins.helpdesk.values import Change, HelpdeskTicket, Macro, Page, Update
from plugins.zendesk.reading import METADATA_KEY, read_audit, read_macro, read_ref, read_text, read_ticket
from plugins.zendesk.settings import ZendeskSettings

API = "/api/v2"
LABEL_FIELD_TITLE = "Understudy label"
CONFIDENCE_FIELD_TITLE = "Understudy confidence"
PAGE_SIZE = 100
MAX_PAGES = 20
MAX_TICKET_PAGES = 60
"""Zendesk ends a ticket at 5,000 updates: all of them are read, for what was written or decided last stands at the end."""
EXPORT_LAG_S = 120  # the export refuses a start within the last minute
KEEP_S = 600.0
_START = "start:"
_TAG_TYPES = frozenset({"tagger", "multiselect"})
_NUMBERS = frozenset({"group_id", "assignee_id"})


def build_api(settings: ZendeskSettings, clock: Clock, transport: httpx.AsyncBaseTransport | None = None) -> JsonApi:
    """Return the API with the credentials that are set; OAuth goes before the API token."""
    headers, auth = {"Accept": "application/json"}, None
    if settings.oauth_token is not None:
        headers["Authorization"] = f"Bearer {settings.oauth_token.get_secret_value()}"
    elif settings.api_token is not None:
        auth = httpx.BasicAuth(f"{settings.email}/token", settings.api_token.get_secret_value())
    return JsonApi(
        settings.get_base_url(),
        clock=clock,
        per_minute=settings.requests_per_minute,
        headers=headers,
        auth=auth,
        transport=transport,
    )


async def list_all(api: JsonApi, path: str, key: str, *, max_pages: int = MAX_PAGES) -> list[Mapping[str, Any]]:
    """Return the items under `key` of all pages, up to `max_pages`."""
    items: list[Mapping[str, Any]] = []
    params = {"page[size]": str(PAGE_SIZE)}
    for _ in range(max_pages):
        answer = await api.get(path, params=params)
        items += answer.get(key) or []
        meta = answer.get("meta") or {}
        if not meta.get("has_more") or not meta.get("after_cursor"):
            break
        params["page[after]"] = str(meta["after_cursor"])
    return items


class ZendeskClient:
    """Implements `plugins.helpdesk.client.HelpdeskClient`."""

    def __init__(self, api: JsonApi, settings: ZendeskSettings, clock: Clock) -> None:
        self._api, self._settings, self._clock = api, settings, clock
        self._own_id = Cached(self._fetch_own_id, clock, keep_s=86400.0)
        self._fields = Cached(self._fetch_fields, clock, keep_s=KEEP_S)
        self._requesters: dict[str, str] = {}
        self.known_own_id = ""
        """Our own user, once it was asked for; webhooks of our own changes are recognised by it."""

    async def fetch_ticket(self, ticket_id: str) -> HelpdeskTicket:
        """See `HelpdeskClient.fetch_ticket`."""
        ticket = await self._fetch(ticket_id)
        try:
            comments = await self._list_of_ticket(ticket_id, "comments")
        except GoneError:
            comments = []  # the description stands in for them
        found = read_ticket(ticket, comments, ticket_id=ticket_id)
        self._requesters[ticket_id] = found.customer
        while len(self._requesters) > 2048:
            self._requesters.pop(next(iter(self._requesters)))
        return found

    async def fetch_bare_ticket(self, ticket_id: str) -> HelpdeskTicket:
        """See `HelpdeskClient.fetch_bare_ticket`."""
        return read_ticket(await self._fetch(ticket_id), [], ticket_id=ticket_id)

    async def _fetch(self, ticket_id: str) -> Mapping[str, Any]:
        ticket = (await self._api.get(f"{API}/tickets/{ticket_id}.json")).get("ticket")
        if not isinstance(ticket, dict):
            raise RetryLaterError("the helpdesk answered without the ticket that was asked for", after_s=OUTAGE_PAUSE_S)
        return ticket

    async def _list_of_ticket(self, ticket_id: str, key: str) -> list[Mapping[str, Any]]:
        return await list_all(self._api, f"{API}/tickets/{ticket_id}/{key}.json", key, max_pages=MAX_TICKET_PAGES)

    async def fetch_history(self, ticket_id: str) -> Sequence[Change]:
        """See `HelpdeskClient.fetch_history`."""
        try:
            audits = await self._list_of_ticket(ticket_id, "audits")
        except GoneError:
            return []  # the ticket itself is there: it was just fetched
        own_id, requester = await self._own_id.get(), self._requesters.get(ticket_id, "")
        changes = [
            change
            for audit in audits
            for change in read_audit(audit, own_id=own_id, requester=requester, api_is_person=self._settings.api_is_person)
        ]
        return sorted(changes, key=lambda change: change.at)

    async def write(self, update: Update, ticket: HelpdeskTicket) -> None:
        """See `HelpdeskClient.write`. One request writes all, and is refused where the ticket is newer than `seen_at`."""
        body: dict[str, Any] = {"metadata": {METADATA_KEY: update.marker}}
        custom: list[dict[str, Any]] = []
        for name, value in update.fields.items():
            if name.isdecimal():
                custom.append({"id": int(name), "value": value})
            else:
                body[name] = int(value) if name in _NUMBERS and value.isdecimal() else value
        if custom:
            body["custom_fields"] = custom
        if update.tags:
            body["tags"] = await self._build_tags(update, ticket)
        if update.note:
            body["comment"] = {"body": update.note, "public": False}
        if update.seen_at is not None:
            body |= {"safe_update": True, "updated_stamp": update.seen_at.strftime("%Y-%m-%dT%H:%M:%SZ")}
        await self._api.send("PUT", f"{API}/tickets/{update.ticket_id}.json", body={"ticket": body})

    async def _build_tags(self, update: Update, ticket: HelpdeskTicket) -> list[str]:
        """Return all tags the ticket is to have. An option of a drop-down field is a tag: left out here, it would be unset again."""
        fields = await self._fields.get()
        tags = list(ticket.tags)
        for name, value in update.fields.items():
            if fields.get(name, ("", ""))[1] in _TAG_TYPES:
                tags = [tag for tag in tags if tag != ticket.fields.get(name)]
                tags.append(value)
        return list(dict.fromkeys([*tags, *update.tags]))

    async def list_changed(self, cursor: str) -> Page:
        """See `HelpdeskClient.list_changed`."""
        return await self._export(cursor or f"{_START}{int(self._clock.now().timestamp()) - EXPORT_LAG_S}")

    async def list_solved(self, cursor: str, *, since: datetime) -> Page:
        """See `HelpdeskClient.list_solved`."""
        return await self._export(cursor or f"{_START}{int(since.timestamp())}", states={"solved", "closed"})

    async def _export(self, cursor: str, *, states: set[str] | None = None) -> Page:
        params = {"per_page": str(PAGE_SIZE)}
        if cursor.startswith(_START):
            params["start_time"] = cursor.removeprefix(_START)
        else:
            params["cursor"] = cursor
        answer = await self._api.get(f"{API}/incremental/tickets/cursor.json", params=params)
        tickets = answer.get("tickets") or []
        refs = tuple(read_ref(ticket) for ticket in tickets if states is None or ticket.get("status") in states)
        return Page(refs, read_text(answer.get("after_cursor")) or cursor, is_last=answer.get("end_of_stream") is not False)

    async def list_macros(self) -> Sequence[Macro]:
        """See `HelpdeskClient.list_macros`."""
        return [read_macro(macro) for macro in await list_all(self._api, f"{API}/macros/active.json", "macros")]

    async def find_label_field(self) -> str:
        """See `HelpdeskClient.find_label_field`: the field that set-up made is known by its title."""
        fields = await self._fields.get()
        return next((field_id for field_id, (title, _) in fields.items() if title == LABEL_FIELD_TITLE), "")

    async def close(self) -> None:
        """See `HelpdeskClient.close`."""
        await self._api.close()

    async def _fetch_own_id(self) -> str:
        try:
            answer = await self._api.get(f"{API}/users/me.json")
        except HelpdeskError:
            return ""  # our own changes are known by their marker all the same
        self.known_own_id = read_text((answer.get("user") or {}).get("id"))
        return self.known_own_id

    async def _fetch_fields(self) -> dict[str, tuple[str, str]]:
        """Return title and type of the active ticket fields by id."""
        try:
            fields = await list_all(self._api, f"{API}/ticket_fields.json", "ticket_fields")
        except HelpdeskError:
            return {}
        return {
            read_text(field.get("id")): (read_text(field.get("title")), read_text(field.get("type")))
            for field in fields
            if field.get("active", True)
        }
