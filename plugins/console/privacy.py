"""The privacy pages: corrections of masking to review, what is held on a person or ticket, and the data map.

Names that are looked for travel in posted forms alone, never in an address; what is done with them is the core's business.
"""

import json
from collections.abc import Mapping
from datetime import datetime

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from bot.plugin_api import Bot, CorrectionKind, CorrectionStatus, SourceRef, Subject
from plugins.console.forms import MAX_REASON_CHARS, FormError, parse_text, read_form
from plugins.console.guard import Guard
from plugins.console.pages import Pages

_LIMIT = 200
MAX_PHRASE_CHARS, MAX_PERSON_CHARS = 200, 200


class PrivacyPages:
    """Pages under /privacy, and the form about masking on a ticket's page."""

    def __init__(self, bot: Bot, pages: Pages, guard: Guard) -> None:
        self._bot = bot
        self._pages = pages
        self._guard = guard

    def add_to(self, router: APIRouter) -> None:
        """Add the routes."""
        add = router.add_api_route
        add("/privacy", self.show_corrections, methods=["GET"])
        add("/privacy/corrections/{correction_id}", self.review, methods=["POST"])
        add("/privacy/people", self.show_people, methods=["GET"])
        add("/privacy/people", self.find, methods=["POST"])
        add("/privacy/people/export", self.export, methods=["POST"])
        add("/privacy/people/erase", self.erase, methods=["POST"])
        add("/privacy/map", self.show_map, methods=["GET"])
        add("/tickets/{ticket_id}/correction", self.report, methods=["POST"])

    async def show_corrections(self, request: Request) -> Response:
        """List open corrections, or all of them."""
        is_all = request.query_params.get("show") == "all"
        items = await self._bot.privacy.list_corrections(status=None if is_all else CorrectionStatus.OPEN, limit=_LIMIT)
        return await self._pages.render(request, "privacy.html", section="privacy", items=items, is_all=is_all)

    async def review(self, request: Request, correction_id: int) -> Response:
        """Approve or reject a correction, or take an approved one back."""
        form = await read_form(request)
        answer = form.get("answer", "")
        if answer not in {"approve", "reject"}:
            raise FormError("Choose to approve or to reject.")
        reason = parse_text(form, "reason", name="reason", limit=MAX_REASON_CHARS, is_optional=True)
        await self._bot.privacy.review_correction(
            correction_id, is_approved=answer == "approve", actor=self._guard.get_actor(request), reason=reason
        )
        flash = "correction-approved" if answer == "approve" else "correction-rejected"
        return self._pages.redirect(request, "/privacy", flash=flash)

    async def report(self, request: Request, ticket_id: int) -> Response:
        """Take in what somebody says about masking on a ticket's page."""
        form = await read_form(request)
        try:
            kind = CorrectionKind(form.get("kind", ""))
        except ValueError:
            raise FormError("Say whether it should have been masked or is not personal.") from None
        text = parse_text(form, "phrase", name="text in question", limit=MAX_PHRASE_CHARS)
        await self._bot.privacy.report_correction(
            kind=kind,
            entity=form.get("entity", ""),
            text=text,
            actor=self._guard.get_actor(request),
            ticket_id=ticket_id,
        )
        return self._pages.redirect(request, f"/tickets/{ticket_id}", flash="correction")

    async def show_people(self, request: Request) -> Response:
        """Show the form that asks whose data."""
        return await self._pages.render(request, "privacy_people.html", section="privacy", findings=None, asked={})

    async def find(self, request: Request) -> Response:
        """Show what is held, with the buttons to export and to erase it."""
        form = await read_form(request)
        findings = await self._bot.privacy.find(parse_subject(form))
        asked = {name: form.get(name, "").strip() for name in ("person", "ticket", "plugin", "external_id")}
        return await self._pages.render(
            request,
            "privacy_people.html",
            section="privacy",
            findings=findings,
            asked=asked,
            is_named=self._guard.is_named(request),
        )

    async def export(self, request: Request) -> Response:
        """Send everything held as a file, once the box is ticked and the person is named."""
        form = await read_form(request)
        if form.get("sure") != "yes":
            raise FormError("Tick the box first: the file holds personal data in clear.")
        found = await self._bot.privacy.export(parse_subject(form), actor=self._get_name(request))
        body = json.dumps(found, ensure_ascii=False, indent=2, default=_encode)
        headers = {"Content-Disposition": 'attachment; filename="understudy-export.json"', "Cache-Control": "no-store"}
        return Response(body, media_type="application/json", headers=headers)

    async def erase(self, request: Request) -> Response:
        """Erase everything held, once the box is ticked and the person is named."""
        form = await read_form(request)
        if form.get("sure") != "yes":
            raise FormError("Tick the box first: erasing cannot be undone.")
        reason = parse_text(form, "reason", name="reason", limit=MAX_REASON_CHARS)
        await self._bot.privacy.erase(parse_subject(form), actor=self._get_name(request), reason=reason)
        return self._pages.redirect(request, "/privacy/people", flash="erased")

    def _get_name(self, request: Request) -> str:
        """Return who exports or erases. Raises FormError for nobody in particular: the audit log has to name somebody."""
        if not self._guard.is_named(request):
            raise FormError(
                f"Say who you are first, under 'You are {self._guard.get_actor(request)}': this is recorded under your name."
            )
        return self._guard.get_actor(request)

    async def show_map(self, request: Request) -> Response:
        """Show every table and column: what it holds, how long, who reads it, where it leaves."""
        tables = await self._bot.privacy.get_map()
        return await self._pages.render(request, "privacy_map.html", section="privacy", tables=tables)


def parse_subject(form: Mapping[str, str]) -> Subject:
    """Return whose data a form asks about: a person, a ticket by number, or a ticket by plugin and id; one of the three."""
    person = parse_text(form, "person", name="name", limit=MAX_PERSON_CHARS, is_optional=True)
    ticket = form.get("ticket", "").strip().removeprefix("#")
    plugin, external_id = form.get("plugin", "").strip(), form.get("external_id", "").strip()
    if bool(person) + bool(ticket) + bool(plugin or external_id) != 1:
        raise FormError("Fill in one of the three: a person, a ticket's number, or plugin and id.")
    if person:
        return Subject(person=person)
    if not ticket:
        if not (plugin and external_id):
            raise FormError("A ticket of another system needs both, the plugin and its id there.")
        return Subject(source=SourceRef(plugin, external_id))
    if not ticket.isdecimal() or len(ticket) > 18:
        raise FormError("The number of a ticket is a number, such as 12.")
    return Subject(ticket_ids=(int(ticket),))


def _encode(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    message = f"{type(value).__name__} has no JSON form"
    raise TypeError(message)
