"""The review pages: open questions about examples, both sides of each, and the answer.

Texts are shown masked, as they are stored. What an answer does is the core's business.
"""

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from bot.plugin_api import Bot, ReviewStatus, TaskKind
from plugins.console.forms import MAX_REASON_CHARS, FormError, parse_text, read_form
from plugins.console.guard import Guard
from plugins.console.pages import Pages

_LIMIT = 100


class ReviewPages:
    """Pages under /review."""

    def __init__(self, bot: Bot, pages: Pages, guard: Guard) -> None:
        self._bot = bot
        self._pages = pages
        self._guard = guard

    def add_to(self, router: APIRouter) -> None:
        """Add the routes."""
        router.add_api_route("/review", self.show_questions, methods=["GET"])
        router.add_api_route("/review/{item_id}", self.show_question, methods=["GET"])
        router.add_api_route("/review/{item_id}", self.answer, methods=["POST"])

    async def show_questions(self, request: Request) -> Response:
        """List open questions, or all of them."""
        is_all = request.query_params.get("show") == "all"
        items = await self._bot.manager.list_review(status=None if is_all else ReviewStatus.OPEN, limit=_LIMIT)
        return await self._pages.render(
            request, "review.html", section="review", items=items, is_all=is_all, is_full=len(items) == _LIMIT
        )

    async def show_question(self, request: Request, item_id: int) -> Response:
        """Show both sides of a question and the form to answer it."""
        item = await self._bot.manager.get_review(item_id)
        labels = self._bot.inbox.get_label_set().names if item.task is TaskKind.CLASSIFICATION else ()
        named = [label for label in dict.fromkeys(side.label for side in item.sides) if label in labels]
        others = [label for label in labels if label not in named]
        return await self._pages.render(
            request,
            "review_item.html",
            section="review",
            item=item,
            named=named,
            others=others,
            is_open=item.status is ReviewStatus.OPEN,
        )

    async def answer(self, request: Request, item_id: int) -> Response:
        """Settle or dismiss a question."""
        form = await read_form(request)
        reason = parse_text(form, "reason", name="reason", limit=MAX_REASON_CHARS, is_optional=True)
        actor, answer = self._guard.get_actor(request), form.get("answer", "")
        if answer == "dismiss":
            await self._bot.manager.dismiss_review(item_id, actor=actor, reason=reason)
            return self._pages.redirect(request, "/review", flash="dismissed")
        label = form.get("label", "").strip() if answer == "label" else None
        if answer not in {"label", "withdraw"} or label == "":
            raise FormError("Choose the right label first, then save.")
        is_golden = label is not None and form.get("golden") == "yes"
        await self._bot.manager.resolve_review(item_id, label=label, actor=actor, is_golden=is_golden, reason=reason)
        return self._pages.redirect(request, "/review", flash="settled")
