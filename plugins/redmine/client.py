"""Redmine's REST as a `HelpdeskClient`: issues, journals, custom fields, private notes.

Redmine has no tags, macros or webhooks.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from bot.plugin_api import Turn
from plugins.helpdesk.client import Clock
from plugins.helpdesk.http import JsonApi
from plugins.helpdesk.memory import Cached
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
from plugins.redmine.settings import RedmineSettings

PAGE_SIZE = 100
MAX_PAGES = 20
KEEP_S = 3600.0
_START_LAG = timedelta(seconds=60)
_PLAIN = ("category", "priority", "assigned_to", "tracker", "status")


def build_api(settings: RedmineSettings, clock: Clock, transport: httpx.AsyncBaseTransport | None = None) -> JsonApi:
    """Return the API with the key."""
    headers = {"X-Redmine-API-Key": settings.api_key.get_secret_value(), "Accept": "application/json"}
    url = settings.url.rstrip("/")
    return JsonApi(url, clock=clock, per_minute=settings.requests_per_minute, headers=headers, transport=transport)


def _read_time(text: object) -> datetime:
    at = datetime.fromisoformat(str(text))
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _write_time(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _get_id(item: object) -> str:
    return str(item.get("id", "")) if isinstance(item, Mapping) else ""


class RedmineClient:
    """Implements `plugins.helpdesk.client.HelpdeskClient`. Fields go by the numbers of custom fields, or by category_id and the like."""

    def __init__(self, api: JsonApi, settings: RedmineSettings, clock: Clock) -> None:
        self._api, self._settings, self._clock = api, settings, clock
        self._own_id = Cached(self._fetch_own_id, clock, keep_s=KEEP_S)
        self._states = Cached(self._fetch_states, clock, keep_s=KEEP_S)

    async def fetch_ticket(self, ticket_id: str) -> HelpdeskTicket:
        """See `HelpdeskClient.fetch_ticket`."""
        issue = await self._fetch(ticket_id)
        author, project = _get_id(issue.get("author")), _get_id(issue.get("project"))
        said = [("customer", str(issue.get("description") or ""))]
        for entry in issue.get("journals") or ():
            if not entry.get("private_notes"):
                speaker = "customer" if _get_id(entry.get("user")) == author else "agent"
                said.append((speaker, str(entry.get("notes") or "")))
        states = await self._states.get()
        return HelpdeskTicket(
            ticket_id=ticket_id,
            state=states.get(_get_id(issue.get("status")), TicketState.OPEN),
            subject=str(issue.get("subject") or ""),
            turns=tuple(Turn(speaker, text) for speaker, text in said if text.strip()),
            fields=_read_fields(issue),
            scopes={"project": project, "tracker": _get_id(issue.get("tracker"))},
            customer=author,
            updated_at=_read_time(issue["updated_on"]),
            created_at=_read_time(issue["created_on"]),
        )

    async def fetch_bare_ticket(self, ticket_id: str) -> HelpdeskTicket:
        """The same: an issue comes with its journal in one request."""
        return await self.fetch_ticket(ticket_id)

    async def fetch_history(self, ticket_id: str) -> Sequence[Change]:
        """See `HelpdeskClient.fetch_history`."""
        issue = await self._fetch(ticket_id)
        own_id, states = await self._own_id.get(), await self._states.get()
        author = _get_id(issue.get("author"))
        return [self._read_change(entry, author, own_id=own_id, states=states) for entry in issue.get("journals") or ()]

    async def write(self, update: Update, ticket: HelpdeskTicket) -> None:
        """See `HelpdeskClient.write`. One request writes all; a refused value refuses it."""
        numbers = {name: value for name, value in update.fields.items() if name.isdecimal()}
        body: dict[str, Any] = {name: value for name, value in update.fields.items() if name not in numbers}
        if numbers:
            body["custom_fields"] = [{"id": int(name), "value": value} for name, value in numbers.items()]
        if update.note:
            body |= {"notes": update.note, "private_notes": True}
        if body:
            await self._api.send("PUT", f"/issues/{ticket.ticket_id}.json", body={"issue": body})

    async def list_changed(self, cursor: str) -> Page:
        """See `HelpdeskClient.list_changed`. The cursor is the time of the last change seen, which is asked for once more."""
        now = self._clock.now()
        since = _read_time(cursor) if cursor else now - _START_LAG
        issues = await self._search({"updated_on": f">={_write_time(since)}", "status_id": "*"})
        refs = [TicketRef(str(issue["id"]), build_version(_read_time(issue["updated_on"]), now)) for issue in issues]
        last = max((_read_time(issue["updated_on"]) for issue in issues), default=since)
        return Page(tuple(refs), last.isoformat(), is_last=True)

    async def list_solved(self, cursor: str, *, since: datetime) -> Page:
        """See `HelpdeskClient.list_solved`. The cursor is the number of issues seen."""
        offset = int(cursor or 0)
        params = {"updated_on": f">={_write_time(since)}", "status_id": "*"}
        issues = await self._ask(params, offset)
        refs = tuple(TicketRef(str(issue["id"]), str(issue["updated_on"])) for issue in issues)
        return Page(refs, str(offset + len(issues)), is_last=len(issues) < PAGE_SIZE)

    async def list_macros(self) -> Sequence[Macro]:
        """Redmine has none."""
        return []

    async def find_label_field(self) -> str:
        """There is no set-up: the field stands in the settings."""
        return ""

    async def close(self) -> None:
        """See `HelpdeskClient.close`."""
        await self._api.close()

    async def _fetch(self, ticket_id: str) -> Mapping[str, Any]:
        answer = await self._api.get(f"/issues/{ticket_id}.json", params={"include": "journals"})
        issue: Mapping[str, Any] = answer["issue"]
        return issue

    async def _search(self, params: Mapping[str, str]) -> list[Mapping[str, Any]]:
        issues: list[Mapping[str, Any]] = []
        for _ in range(MAX_PAGES):
            page = await self._ask(params, len(issues))
            issues += page
            if len(page) < PAGE_SIZE:
                break
        return issues

    async def _ask(self, params: Mapping[str, str], offset: int) -> list[Mapping[str, Any]]:
        paging = {"sort": "updated_on", "limit": str(PAGE_SIZE), "offset": str(offset)}
        if self._settings.project:
            paging["project_id"] = self._settings.project
        answer = await self._api.get("/issues.json", params={**params, **paging})
        issues: list[Mapping[str, Any]] = answer.get("issues") or []
        return issues

    async def _fetch_own_id(self) -> str:
        return _get_id((await self._api.get("/users/current.json")).get("user"))

    async def _fetch_states(self) -> dict[str, TicketState]:
        answer = await self._api.get("/issue_statuses.json")
        return {_get_id(status): self._read_state(status) for status in answer.get("issue_statuses") or ()}

    def _read_state(self, status: Mapping[str, Any]) -> TicketState:
        is_solved = status.get("is_closed") or status.get("name") in self._settings.solved_statuses
        return TicketState.SOLVED if is_solved else TicketState.OPEN

    def _read_change(self, entry: Mapping[str, Any], author: str, *, own_id: str, states: Mapping[str, TicketState]) -> Change:
        fields: dict[str, str] = {}
        state = None
        for detail in entry.get("details") or ():
            if detail.get("property") in {"cf", "attr"}:
                fields[str(detail["name"])] = str(detail.get("new_value") or "")
                if detail["name"] == "status_id":
                    state = states.get(str(detail.get("new_value")), TicketState.OPEN)
        actor = _get_id(entry.get("user"))
        return Change(
            change_id=str(entry["id"]),
            at=_read_time(entry["created_on"]),
            author=self._find_author(actor, author, own_id),
            actor=actor,
            fields=fields,
            state=state,
            marker=find_marker(str(entry.get("notes") or "")) if entry.get("private_notes") else "",
        )

    def _find_author(self, actor: str, author: str, own_id: str) -> Author:
        if actor == own_id:
            return Author.OURSELVES
        if actor in self._settings.rule_users:
            return Author.RULE
        return Author.CUSTOMER if self._settings.author_is_customer and actor == author else Author.PERSON


def _read_fields(issue: Mapping[str, Any]) -> dict[str, str]:
    fields = {f"{name}_id": _get_id(issue.get(name)) for name in _PLAIN}
    for field in issue.get("custom_fields") or ():
        value = field.get("value")
        fields[str(field["id"])] = ",".join(map(str, value)) if isinstance(value, list) else str(value or "")
    return fields
