"""The inbox page: tickets newest first, filters, paging, figures.

Reads only; decisions are `plugins.console.tickets`' business.
"""

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from bot.plugin_api import Bot, TicketStatus
from plugins.console.guard import Guard
from plugins.console.pages import Pages

# what the filter is called in the address -> (state, words)
FILTERS: dict[str, tuple[TicketStatus | None, str]] = {
    "open": (TicketStatus.OPEN, "Open"),
    "decided": (TicketStatus.DECIDED, "Decided"),
    "handed-off": (TicketStatus.HANDED_OFF, "Handed off"),
    "all": (None, "All"),
}


class InboxPages:
    """The start page."""

    def __init__(self, bot: Bot, pages: Pages, guard: Guard) -> None:  # noqa: ARG002  all page groups are built alike
        self._bot = bot
        self._pages = pages

    def add_to(self, router: APIRouter) -> None:
        """Add the routes."""
        router.add_api_route("/", self.show_inbox, methods=["GET"])

    async def show_inbox(self, request: Request) -> Response:
        """Show one page of tickets."""
        shown = request.query_params.get("show", "open")
        shown = shown if shown in FILTERS else "open"
        before = request.query_params.get("before", "")
        before_id = int(before) if before.isdecimal() and len(before) <= 18 else None
        size = self._pages.settings.page_size
        tickets = await self._bot.inbox.list_tickets(status=FILTERS[shown][0], limit=size + 1, before_id=before_id)
        return await self._pages.render(
            request,
            "inbox.html",
            section="inbox",
            tickets=tickets[:size],
            next_id=tickets[size - 1].ticket_id if len(tickets) > size else None,
            before_id=before_id,
            shown=shown,
            filters={name: text for name, (_, text) in FILTERS.items()},
        )
