"""The routes of the sidebar app: a ticket's card, decisions on it, its summary and its macro. Every request is signed, checked first.

Agent and ticket come from the signed claims, never from the body. Nothing of a body is logged.
"""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import APIRouter
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse

from bot.plugin_api import (
    Bot,
    BotError,
    BusyError,
    ConflictError,
    Feedback,
    FeedbackKind,
    NotFoundError,
    RetryLaterError,
    TicketDetail,
)
from plugins.helpdesk.client import Clock, HelpdeskError
from plugins.helpdesk.desk import Desk
from plugins.helpdesk.macros import MacroIndex
from plugins.helpdesk.memory import Cached, TicketMemory
from plugins.helpdesk.signing import BodyTooLargeError, SignatureError, read_body
from plugins.zendesk.settings import ZendeskSettings
from plugins.zendesk.sidebar_forms import Body, Click, DecisionClick, Nothing, SummaryClick
from plugins.zendesk.sidebar_token import Caller, TokenChecker, find_issuer
from plugins.zendesk.sidebar_views import View, build_summary, build_view, build_waiting, build_writes

logger = logging.getLogger(__name__)
PLUGIN = "zendesk"
MAX_BODY_BYTES = 32_000
MAX_DECISION_MS = 8 * 3600 * 1000
NOTICE_EVERY_S = 30
HELPDESK_LIMIT_S = 5.0
KEEP_MACROS_S = 600.0
KEEP_UNDO_S = 30 * 86400.0


Handler = Callable[[Caller, Any], Awaitable[View]]


class Sidebar:
    """Answers the sidebar app."""

    def __init__(self, bot: Bot, desk: Desk, settings: ZendeskSettings, *, clock: Clock) -> None:
        self._bot, self._desk, self._settings, self._clock = bot, desk, settings, clock
        self._store = bot.open_store(f"{PLUGIN}.app")
        self._memory = TicketMemory(desk.store)
        issuer = find_issuer(settings.subdomain, settings.base_url)
        self._tokens = TokenChecker(settings, self._store, clock, issuer=issuer)
        self._macros = Cached(self._fetch_macros, clock, keep_s=KEEP_MACROS_S)
        self.router = APIRouter(prefix="/app", include_in_schema=False)
        for path, handler, body in (
            ("/card", self._show, Nothing),
            ("/decide", self._decide, DecisionClick),
            ("/undo", self._undo, Nothing),
            ("/summary", self._summarize, Nothing),
            ("/summary/decide", self._decide_summary, SummaryClick),
            ("/macro", self._apply_macro, Click),
        ):
            self.router.add_api_route(path, self._build_route(handler, body), methods=["POST"])

    def _build_route(self, handler: Handler, body_type: type[Body]) -> Callable[[Request], Awaitable[JSONResponse]]:
        async def answer(request: Request) -> JSONResponse:
            try:
                caller = await self._tokens.check(request.headers.get("authorization", ""))
                content = json.loads(await read_body(request, limit=MAX_BODY_BYTES) or b"{}")
                return _say(200, await handler(caller, body_type.model_validate(content)))
            except BodyTooLargeError as error:
                return _refuse(413, "refused", str(error))
            except SignatureError as error:
                logger.warning("a request of the sidebar app was refused: %s", error)
                return _refuse(401, "signature", str(error))
            except ValidationError as error:
                first = error.errors(include_input=False, include_url=False)[0]
                return _refuse(422, "refused", f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}")
            except (ValueError, RecursionError):
                return _refuse(400, "refused", "the body is not JSON")
            except BotError as error:
                return _explain(error)

        return answer

    async def _show(self, caller: Caller, _: Nothing) -> View:
        try:
            detail = await self._bot.inbox.find_ticket(self._desk.get_source(caller.ticket_id))
        except NotFoundError:
            return await self._wait(caller)
        return await self._build_view(caller, detail) or await self._wait(caller)

    async def _decide(self, caller: Caller, click: DecisionClick) -> View:
        detail = await self._open(caller, click)
        card = detail.classification
        kind = FeedbackKind(click.kind)
        if card is not None and card.is_blind and detail.decision is None and kind is FeedbackKind.ACCEPT:
            raise BotError("this ticket is shown blind: choose a label first")
        # Choosing the very label that was shown is an accept. A blind choice stays a choice: the core compares it.
        is_same = card is not None and not card.is_blind and click.value == card.label
        if kind is FeedbackKind.OVERRIDE and is_same:
            kind = FeedbackKind.ACCEPT
        await self._record(
            caller,
            click,
            kind,
            value=click.value if kind is FeedbackKind.OVERRIDE else None,
            reason=click.reason or None,
            decision_ms=None if click.decision_ms is None else min(click.decision_ms, MAX_DECISION_MS),
        )
        view = await self._show(caller, Nothing())
        label = (view.get("decision") or {}).get("label")
        return view | {"writes": await self._build_writes(label) if label else []}

    async def _undo(self, caller: Caller, _: Nothing) -> View:
        key = f"decision/{caller.ticket_id}"
        known = await self._store.get(key)
        if known is None:
            raise ConflictError("this decision was not taken here: choose another label instead")
        await self._bot.withdraw_feedback(int(known["feedback_id"]), actor=_get_actor(caller))
        await self._store.delete(key)
        return await self._show(caller, Nothing())

    async def _summarize(self, caller: Caller, _: Nothing) -> View:
        summary = await self._bot.summarize("", source=self._desk.get_source(caller.ticket_id))
        return {"summary": build_summary(summary, None)}

    async def _decide_summary(self, caller: Caller, click: SummaryClick) -> View:
        detail = await self._bot.inbox.find_ticket(self._desk.get_source(caller.ticket_id))
        if detail.summary is None or detail.summary.inference_id != click.inference_id:
            raise ConflictError("the summary has changed since it was shown: look at it again")
        value = click.value if click.kind == "edit" else None
        await self._bot.record_feedback(_build_feedback(caller, click, FeedbackKind(click.kind), value=value))
        return await self._show(caller, Nothing())

    async def _apply_macro(self, caller: Caller, click: Click) -> View:
        """Name the macro to apply. Applying the suggested label's macro says, weakly, that the label is right."""
        detail = await self._open(caller, click)
        card = detail.classification
        if card is None or (card.is_blind and detail.decision is None):
            raise ConflictError("there is no macro to apply before a label is chosen")
        name = await self._find_macro(caller, detail)
        if not name:
            raise NotFoundError("there is no macro for this label")
        macro = (await self._get_macros()).find(name)
        if detail.decision is None:
            await self._record(caller, click, FeedbackKind.ACCEPT, is_passive=True)
        applied = {"macro_id": macro.macro_id if macro is not None else "", "text": "" if macro is not None else name}
        view = await self._show(caller, Nothing())
        label = (view.get("decision") or {}).get("label")
        return view | {"apply": applied, "writes": await self._build_writes(label) if label else []}

    async def _record(self, caller: Caller, click: Click, kind: FeedbackKind, **more: Any) -> None:
        """Record a decision on the label and remember it, so that it can be taken back."""
        receipt = await self._bot.record_feedback(_build_feedback(caller, click, kind, **more))
        undo = {"feedback_id": receipt.feedback_id, "actor": _get_actor(caller)}
        await self._store.put(f"decision/{caller.ticket_id}", undo, expires_in_s=KEEP_UNDO_S)

    async def _open(self, caller: Caller, click: Click) -> TicketDetail:
        """Return the ticket of a click. Raises ConflictError where another suggestion stands there now."""
        detail = await self._bot.inbox.find_ticket(self._desk.get_source(caller.ticket_id))
        if detail.classification is None or detail.classification.inference_id != click.inference_id:
            raise ConflictError("the suggestion has changed since it was shown: look at it again")
        return detail

    async def _build_view(self, caller: Caller, detail: TicketDetail) -> View | None:
        card = detail.classification
        has_card = detail.decision is not None or (card is not None and card.label is not None)
        is_paused = not has_card and (await self._bot.inbox.get_overview()).is_paused
        known = await self._store.get(f"decision/{caller.ticket_id}") if detail.decision is not None else None
        return build_view(
            detail,
            self._bot.inbox.get_label_set(),
            is_paused=is_paused,
            agent_id=caller.agent_id,
            macro=await self._find_macro(caller, detail),
            undo_actor=str(known["actor"]) if known is not None else "",
        )

    async def _wait(self, caller: Caller) -> View:
        """Have the desk look at the ticket, as if a webhook had told of it."""
        moment = int(self._clock.now().timestamp()) // NOTICE_EVERY_S
        await self._desk.notice(caller.ticket_id, key=f"app:{caller.ticket_id}:{moment}")
        return build_waiting(self._bot.inbox.get_label_set())

    async def _find_macro(self, caller: Caller, detail: TicketDetail) -> str:
        """Return title or text of the macro that goes with the label, chosen or suggested."""
        card = detail.classification
        name = detail.decided_label or (card.label if card is not None else None) or ""
        known = await self._memory.get_known(caller.ticket_id)
        if known is not None and known.label == name and known.macro:
            return known.macro
        label = self._bot.inbox.get_label_set().get(name)
        return label.macro or "" if label is not None else ""

    async def _build_writes(self, label: str) -> list[View]:
        settings = self._settings
        try:
            async with asyncio.timeout(HELPDESK_LIMIT_S):
                label_field = await self._desk.get_label_field()
        except (RetryLaterError, TimeoutError):
            logger.warning("the label field is not known while Zendesk does not answer: the support agent sets it")
            label_field = ""
        labels = self._bot.inbox.get_label_set()
        return list(
            build_writes(
                label,
                labels,
                label_field=label_field,
                label_value=self._desk.build_field_map().get_value(label) if labels.get(label) is not None else "",
                priority_field=settings.priority_field,
                priority_values=settings.priority_values,
            )
        )

    async def _get_macros(self) -> MacroIndex:
        try:
            async with asyncio.timeout(HELPDESK_LIMIT_S):
                return await self._macros.get()
        except (RetryLaterError, HelpdeskError, TimeoutError) as error:
            raise BusyError("Zendesk's macros cannot be read now: try again") from error

    async def _fetch_macros(self) -> MacroIndex:
        return MacroIndex(await self._desk.client.list_macros())


def _get_actor(caller: Caller) -> str:
    """Return the name by which what somebody does in the ticket itself goes as well."""
    return f"{PLUGIN}:{caller.agent_id}"


def _build_feedback(caller: Caller, click: Click, kind: FeedbackKind, **more: Any) -> Feedback:
    key = f"{PLUGIN}.app:{caller.ticket_id}:{click.key}"
    return Feedback(inference_id=click.inference_id, kind=kind, actor=_get_actor(caller), idempotency_key=key, **more)


def _explain(error: BotError) -> JSONResponse:
    if isinstance(error, BusyError):
        return _say(503, {"error": "busy", "message": str(error), "retry_after_s": error.retry_after_s})
    if isinstance(error, NotFoundError):
        return _refuse(404, "missing", str(error))
    return _refuse(409, "conflict", str(error)) if isinstance(error, ConflictError) else _refuse(422, "refused", str(error))


def _refuse(status: int, code: str, message: str) -> JSONResponse:
    return _say(status, {"error": code, "message": message})


def _say(status: int, content: View) -> JSONResponse:
    return JSONResponse(content, status_code=status, headers={"Cache-Control": "no-store"})
