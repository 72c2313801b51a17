"""Recording what people decide: checked against the label set, masked with the ticket's own placeholder map, stored once.

Knows nothing of models; what a decision teaches is decided in `db.queries.feedback`.
"""

from dataclasses import dataclass

from sqlmodel import Session

from bot.core import Core
from bot.masking import MaskingError, PlaceholderMap
from bot.plugin_api import BotError, NotFoundError
from bot.similar import Neighbour
from bot.tasks.ticket import render_ticket
from bot.types import Feedback, FeedbackReceipt, Turn
from db.errors import InvalidValueError, RowNotFoundError
from db.queries import feedback as feedback_queries
from db.queries import inferences, tickets
from db.queries.common import row_id
from db.tables import Inference
from db.types import FeedbackKind, MaskedText, TaskKind, TicketStatus


@dataclass(frozen=True)
class Recorded:
    """What became of a feedback; `neighbour` is the decided ticket as the reason of later ones, where it can be one."""

    receipt: FeedbackReceipt
    neighbour: Neighbour | None


class FeedbackRecorder:
    """Records feedback."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def record(self, feedback: Feedback) -> Recorded:
        """Store one click. Raises NotFoundError for an unknown inference and BotError for a decision that makes no sense."""
        inference, mapping = await self._core.in_db(lambda session: self._open_inference(session, feedback.inference_id))
        kind, value = self._check_decision(feedback, inference)
        n_known = len(mapping.entries)
        try:
            if value is not None and inference.task is TaskKind.SUMMARY:
                value = await self._mask(value, mapping)
            reason = await self._mask(feedback.reason, mapping) if feedback.reason else None
        except MaskingError as error:
            raise BotError("this text could not be masked safely, so it was not stored; shorten it and try again") from error

        def work(session: Session) -> Recorded:
            if len(mapping.entries) > n_known:
                self._core.put_map(session, inference.ticket_id, mapping)
            return self._store(session, feedback, inference, kind=kind, value=value, reason=reason)

        try:
            return await self._core.in_db(work)
        except InvalidValueError as error:
            raise BotError(str(error)) from error

    def _store(
        self,
        session: Session,
        feedback: Feedback,
        inference: Inference,
        *,
        kind: FeedbackKind,
        value: str | None,
        reason: str | None,
    ) -> Recorded:
        ticket = tickets.get_ticket(session, inference.ticket_id)
        result = feedback_queries.record_feedback(
            session,
            inference_id=feedback.inference_id,
            kind=kind,
            actor=feedback.actor,
            idempotency_key=feedback.idempotency_key,
            value=value,
            reason=reason,
            decision_ms=feedback.decision_ms,
            text=render_ticket(ticket.subject, ticket.text, [Turn(**turn) for turn in ticket.turns]),
        )
        receipt = FeedbackReceipt(row_id(result.feedback), result.is_new, result.replaced_id, result.example_id)
        if not result.is_new or inference.task is not TaskKind.CLASSIFICATION:
            return Recorded(receipt, None)
        is_handoff = kind is FeedbackKind.HANDOFF
        status = TicketStatus.HANDED_OFF if is_handoff else TicketStatus.DECIDED
        tickets.set_ticket_status(session, inference.ticket_id, status=status)
        label = value if value is not None else inference.label
        if is_handoff or label is None or inference.is_blind:
            return Recorded(receipt, None)  # a blind choice measures the model: it must not help it
        return Recorded(receipt, Neighbour(ticket_id=inference.ticket_id, label=label, text=ticket.subject or ticket.text))

    def _open_inference(self, session: Session, inference_id: int) -> tuple[Inference, PlaceholderMap]:
        try:
            row = inferences.get_inference(session, inference_id)
        except RowNotFoundError as error:
            raise NotFoundError(f"there is no inference {inference_id}") from error
        return row, self._core.get_map(session, row.ticket_id) or PlaceholderMap()

    def _check_decision(self, feedback: Feedback, inference: Inference) -> tuple[FeedbackKind, str | None]:
        value = feedback.value.strip() if feedback.value else None
        if inference.task is TaskKind.SUMMARY:
            if feedback.kind is FeedbackKind.OVERRIDE:
                raise BotError("a summary is edited, not overridden: send the edited text as an edit")
            if feedback.kind is FeedbackKind.EDIT and not value:
                raise BotError("the edited summary is empty: write a sentence or accept the summary as it is")
            return feedback.kind, value
        if feedback.kind is FeedbackKind.EDIT:
            raise BotError("a label is overridden, not edited: send the chosen label as an override")
        if feedback.kind is FeedbackKind.OVERRIDE:
            if value is None or self._core.label_set.get(value) is None:
                raise BotError(f"'{value or ''}' is not in the label set '{self._core.label_set.name}': choose one of its labels")
            if inference.is_blind and value == inference.label:
                return FeedbackKind.ACCEPT, value  # chosen without seeing the suggestion, and equal to it
        return feedback.kind, value

    async def _mask(self, text: str, mapping: PlaceholderMap) -> MaskedText:
        return (await self._core.masker.mask_async(text, mapping)).text
