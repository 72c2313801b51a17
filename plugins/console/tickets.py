"""The ticket page and its decisions, and the form for trying a ticket.

Turns clicks into feedback; what feedback means is the core's business.
"""

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from bot.plugin_api import Bot, Classification, ConflictError, Feedback, FeedbackKind, SourceRef, TicketDetail, TicketStatus
from plugins.console.forms import DecisionForm, parse_decision, parse_ticket, read_form
from plugins.console.guard import Guard
from plugins.console.pages import Pages

SHOWN_ALTERNATIVES = 4


class TicketPages:
    """Pages under /tickets."""

    def __init__(self, bot: Bot, pages: Pages, guard: Guard) -> None:
        self._bot = bot
        self._pages = pages
        self._guard = guard

    def add_to(self, router: APIRouter) -> None:
        """Add the routes; /tickets/new goes first, or it would read as an id."""
        router.add_api_route("/tickets/new", self.show_new, methods=["GET"])
        router.add_api_route("/tickets/new", self.take_in, methods=["POST"])
        router.add_api_route("/tickets/{ticket_id}", self.show_ticket, methods=["GET"])
        router.add_api_route("/tickets/{ticket_id}/decision", self.decide, methods=["POST"])
        router.add_api_route("/tickets/{ticket_id}/suggestion", self.suggest, methods=["POST"])
        router.add_api_route("/tickets/{ticket_id}/summary", self.summarize, methods=["POST"])

    async def show_new(self, request: Request) -> Response:
        """Show the form for a pasted ticket."""
        return await self._pages.render(request, "new.html", section="new")

    async def take_in(self, request: Request) -> Response:
        """Classify and summarise a pasted ticket, then show it. The form's key is its id: sent twice, it is one ticket."""
        form = parse_ticket(await read_form(request))
        source = SourceRef(plugin="console", external_id=form.key)
        card = await self._bot.classify(form.text, source=source, subject=form.subject)
        if card.label is not None:
            await self._bot.summarize("", source=source)
        return self._pages.redirect(request, f"/tickets/{card.ticket_id}")

    async def show_ticket(self, request: Request, ticket_id: int) -> Response:
        """Show one ticket with its cards."""
        detail = await self._bot.inbox.get_ticket(ticket_id)
        card = detail.classification
        is_hidden = card is not None and card.is_blind and detail.decision is None
        label_set = self._bot.inbox.get_label_set()
        return await self._pages.render(
            request,
            "ticket.html",
            section="inbox",
            detail=detail,
            card=card if card is not None and card.label is not None else None,
            is_hidden=is_hidden,
            is_unsure=card is not None and card.confidence < self._pages.settings.low_confidence,
            label=label_set.get(card.label) if card is not None and card.label is not None else None,
            labels=label_set.labels,
            alternatives=_get_alternatives(card, detail.decided_label),
            notice=_find_notice(detail),
            entity_types=self._bot.privacy.get_entity_types(),
        )

    async def decide(self, request: Request, ticket_id: int) -> Response:
        """Record an accept, override, edit or handoff."""
        form = parse_decision(await read_form(request))
        detail = await self._bot.inbox.get_ticket(ticket_id)
        is_summary = self._check_current(form, detail)
        form = _simplify(form, detail.classification)
        receipt = await self._bot.record_feedback(
            Feedback(
                inference_id=form.inference_id,
                kind=form.kind,
                actor=self._guard.get_actor(request),
                idempotency_key=form.idempotency_key,
                value=form.value,
                reason=form.reason,
                decision_ms=self._guard.read_stamp(form.stamp),
            )
        )
        flash = "accept-summary" if is_summary and form.kind is FeedbackKind.ACCEPT else form.kind.value
        return self._pages.redirect(request, f"/tickets/{ticket_id}", flash=flash if receipt.is_new else "already")

    async def suggest(self, request: Request, ticket_id: int) -> Response:
        """Ask again for a suggestion where there is none."""
        detail = await self._bot.inbox.get_ticket(ticket_id)
        await self._bot.classify("", source=detail.item.source)
        return self._pages.redirect(request, f"/tickets/{ticket_id}", flash="suggest")

    async def summarize(self, request: Request, ticket_id: int) -> Response:
        """Summarise the stored ticket."""
        detail = await self._bot.inbox.get_ticket(ticket_id)
        await self._bot.summarize("", source=detail.item.source)
        return self._pages.redirect(request, f"/tickets/{ticket_id}", flash="summary")

    @staticmethod
    def _check_current(form: DecisionForm, detail: TicketDetail) -> bool:
        """Return whether the form is about the summary. Raises ConflictError where the page has been overtaken."""
        if detail.summary is not None and form.inference_id == detail.summary.inference_id:
            return True
        if detail.classification is None or form.inference_id != detail.classification.inference_id:
            raise ConflictError("The suggestion has changed since this page was shown; go back, reload it and look again.")
        return False


def _simplify(form: DecisionForm, card: Classification | None) -> DecisionForm:
    """Choosing the very label that was shown is an accept. A blind choice stays a choice: the core compares it."""
    is_same = card is not None and not card.is_blind and form.kind is FeedbackKind.OVERRIDE and form.value == card.label
    if not is_same:
        return form
    return DecisionForm(FeedbackKind.ACCEPT, form.inference_id, None, form.reason, form.idempotency_key, form.stamp)


def _get_alternatives(card: Classification | None, decided: str | None) -> list[tuple[str, float]]:
    if card is None:
        return []
    shown = [(c.label, c.probability) for c in card.candidates if c.label not in {card.label, decided}]
    return shown[:SHOWN_ALTERNATIVES]


def _find_notice(detail: TicketDetail) -> str:
    """Return why there is no suggestion, or what to know about the one there is."""
    card = detail.classification
    if card is not None and card.notice:
        return card.notice
    if detail.item.status is TicketStatus.WITHHELD:
        return "This ticket could not be masked safely, so its text was not kept and no suggestion is made. Open it where it came from."
    return ""
