"""The routes of the generic webhook: events in, explicit decisions in, suggestions out to those who ask. All requests are signed.

Nothing of a body is logged; an event's texts lie encrypted in the queue until it is handled.
"""

import hashlib
import json
import logging
from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse

from bot.plugin_api import Bot, BotError, BusyError, Feedback, FeedbackKind, NotFoundError, SourceRef, TaskKind, TicketDetail
from plugins.helpdesk.desk import Desk
from plugins.helpdesk.signing import BodyTooLargeError, SignatureError, read_body
from plugins.webhook.callback import Signer
from plugins.webhook.reading import Reader, ReadingError

logger = logging.getLogger(__name__)


class Decision(BaseModel):
    """A decision that somebody took in the helpdesk by a click."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    ticket_id: str = Field(min_length=1)
    kind: FeedbackKind
    task: TaskKind = TaskKind.CLASSIFICATION
    actor: str = Field(min_length=1, max_length=100)
    key: str = Field(min_length=1, max_length=200)
    value: str | None = None
    reason: str | None = None


class Routes:
    """What the helpdesk may ask and tell."""

    def __init__(self, bot: Bot, desk: Desk, reader: Reader, *, signer: Signer) -> None:
        self._bot, self._desk, self._reader, self._signer = bot, desk, reader, signer
        self.router = APIRouter(include_in_schema=False)
        self.router.add_api_route("/webhook", self.take_event, methods=["POST"])
        self.router.add_api_route("/feedback", self.take_decision, methods=["POST"])
        self.router.add_api_route("/tickets/{ticket_id}", self.show_ticket, methods=["GET"])

    async def take_event(self, request: Request) -> JSONResponse:
        """Store an event and answer; looking at the ticket comes later."""
        body = await self._open(request)
        if isinstance(body, JSONResponse):
            return body
        try:
            message = self._reader.read(_parse(body))
        except (ReadingError, ValueError) as error:
            return _refuse(400, str(error))
        key = f"event:{message['event_id']}" if message["event_id"] else f"body:{hashlib.sha256(body).hexdigest()}"
        try:
            is_new = await self._desk.queue.put(key, "pushed", message, group=message["ticket_id"])
        except BotError:
            return _refuse(503, "busy, send it again", headers={"Retry-After": "5"})
        return JSONResponse({"status": "stored" if is_new else "known"})

    async def take_decision(self, request: Request) -> JSONResponse:
        """Record a click in the helpdesk: it weighs more than what is read from changes."""
        body = await self._open(request)
        if isinstance(body, JSONResponse):
            return body
        try:
            decision = Decision.model_validate(_parse(body))
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            return _refuse(422, f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}")
        except ValueError as error:
            return _refuse(400, str(error))
        try:
            detail = await self._bot.inbox.find_ticket(self._get_source(decision.ticket_id))
            receipt = await self._bot.record_feedback(_build_feedback(decision, detail))
        except BotError as error:
            return _explain(error)
        return JSONResponse({"status": "recorded" if receipt.is_new else "known", "feedback_id": receipt.feedback_id})

    async def show_ticket(self, request: Request, ticket_id: str) -> JSONResponse:
        """Return the suggestion for a ticket. The request signs its path."""
        refused = self._check(request, request.url.path.encode())
        if refused is not None:
            return refused
        try:
            detail = await self._bot.inbox.find_ticket(self._get_source(ticket_id))
        except NotFoundError as error:
            return _refuse(404, str(error))
        return JSONResponse(_show(detail))

    async def _open(self, request: Request) -> bytes | JSONResponse:
        """Return the body of a signed request, or the refusal."""
        try:
            body = await read_body(request)
        except BodyTooLargeError as error:
            return _refuse(413, str(error))
        refused = self._check(request, body)
        return body if refused is None else refused

    def _check(self, request: Request, content: bytes) -> JSONResponse | None:
        try:
            self._signer.check(request.headers, content)
        except SignatureError as error:
            logger.warning("a request was refused: %s", error)
            return _refuse(401, str(error))
        return None

    def _get_source(self, ticket_id: str) -> SourceRef:
        return self._desk.get_source(ticket_id)


def _parse(body: bytes) -> Mapping[str, Any]:
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        raise ValueError("the body is not JSON") from None
    if not isinstance(content, dict):
        raise ValueError("the body is not a JSON object")  # noqa: TRY004 - a wrong value of the request, not of a call
    return content


def _build_feedback(decision: Decision, detail: TicketDetail) -> Feedback:
    card = detail.classification if decision.task is TaskKind.CLASSIFICATION else detail.summary
    if card is None or card.inference_id is None:
        raise NotFoundError("there is nothing to decide on: the ticket has no such suggestion")
    return Feedback(
        inference_id=card.inference_id,
        kind=decision.kind,
        actor=decision.actor,
        idempotency_key=f"webhook:{decision.key}",
        value=decision.value,
        reason=decision.reason,
    )


def _show(detail: TicketDetail) -> dict[str, Any]:
    card = detail.classification
    is_hidden = card is None or (card.is_blind and detail.decision is None)
    shown: dict[str, Any] = {"decision": detail.decision, "decided_label": detail.decided_label}
    if card is not None and not is_hidden:
        shown |= {
            "label": card.label,
            "confidence": card.confidence,
            "candidates": [[score.label, score.probability] for score in card.candidates],
            "fields": dict(card.fields),
            "macro": card.macro,
            "reason": card.reason,
            "notice": card.notice,
        }
    if detail.summary is not None:
        shown |= {"summary": detail.summary.text, "summary_is_excerpt": detail.summary.is_excerpt}
    return shown | {"is_blind": bool(card is not None and card.is_blind)}


def _explain(error: BotError) -> JSONResponse:
    if isinstance(error, NotFoundError):
        return _refuse(404, str(error))
    if isinstance(error, BusyError):
        return _refuse(503, str(error), headers={"Retry-After": str(error.retry_after_s)})
    return _refuse(409, str(error))


def _refuse(status: int, sentence: str, *, headers: Mapping[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": sentence}, status_code=status, headers=dict(headers or {}))
