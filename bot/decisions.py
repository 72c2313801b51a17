"""Recording what people decide: checked against the label set, masked with the ticket's own placeholder map, stored once.

Knows nothing of models; what a decision teaches is decided in `db.queries.feedback`.
"""

from dataclasses import dataclass

from sqlmodel import Session

from bot.core import Core
from bot.masking import PLACEHOLDER, MaskingError, PlaceholderMap
from bot.plugin_api import BotError, ConflictError, NotFoundError
from bot.similar import Neighbour
from bot.tasks.ticket import render_ticket
from bot.types import Feedback, FeedbackReceipt, SourceRef, Turn
from db.errors import InvalidValueError, RowNotFoundError, StateConflictError
from db.queries import feedback as feedback_queries
from db.queries import inferences, tickets
from db.queries.common import row_id
from db.tables import Inference
from db.types import FeedbackKind, MaskedText, TaskKind, TicketStatus


@dataclass(frozen=True)
class Recorded:
    """What became of a feedback on the label of `ticket_id`; `neighbour` is the ticket as the reason of later ones, where it can be one.

    `ticket_id` is None for feedback on a summary.
    """

    receipt: FeedbackReceipt
    neighbour: Neighbour | None
    ticket_id: int | None = None


class FeedbackRecorder:
    """Records feedback."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def record(self, feedback: Feedback) -> Recorded:
        """Store one click. Raises NotFoundError for an unknown inference and BotError for a decision that makes no sense."""
        source = await self._core.read_db(lambda session: self._get_source(session, feedback.inference_id))
        async with self._core.lock_ticket(source):
            return await self._record(feedback)

    async def withdraw(self, feedback_id: int, *, actor: str) -> int | None:
        """Take a feedback back; return the ticket whose label is open again, None for one on a summary. Raises NotFoundError, ConflictError."""

        def work(session: Session) -> int | None:
            row = feedback_queries.withdraw_feedback(session, feedback_id, actor=actor)
            if row.task is not TaskKind.CLASSIFICATION:
                return None
            tickets.set_ticket_status(session, row.ticket_id, status=TicketStatus.OPEN)
            return row.ticket_id

        try:
            return await self._core.in_db(work)
        except RowNotFoundError as error:
            raise NotFoundError(str(error)) from error
        except StateConflictError as error:
            raise ConflictError(str(error)) from error

    async def _record(self, feedback: Feedback) -> Recorded:
        inference, mapping, known_text = await self._core.read_db(lambda session: self._open(session, feedback.inference_id))
        kind, value = self._check_decision(feedback, inference)
        n_known = len(mapping.entries)
        try:
            if value is not None and inference.task is TaskKind.SUMMARY:
                value = await self._mask(value, mapping, known_text)
            reason = await self._mask(feedback.reason, mapping, known_text) if feedback.reason else None
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
            is_passive=feedback.is_passive,
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
            return Recorded(receipt, None, inference.ticket_id)  # a blind choice measures the model: it must not help it
        neighbour = Neighbour(ticket_id=inference.ticket_id, label=label, text=ticket.subject or ticket.text)
        return Recorded(receipt, neighbour, inference.ticket_id)

    @staticmethod
    def _get_source(session: Session, inference_id: int) -> SourceRef:
        try:
            ticket = tickets.get_ticket(session, inferences.get_inference(session, inference_id).ticket_id)
        except RowNotFoundError as error:
            raise NotFoundError(f"there is no inference {inference_id}") from error
        return SourceRef(plugin=ticket.plugin, external_id=ticket.external_id)

    def _open(self, session: Session, inference_id: int) -> tuple[Inference, PlaceholderMap, str]:
        """Return the inference, its ticket's placeholder map, and the masked texts whose placeholders a person may repeat."""
        row = inferences.get_inference(session, inference_id)
        ticket = tickets.get_ticket(session, row.ticket_id)
        turns = [part for turn in ticket.turns for part in turn.values()]
        known_text = "\n".join([ticket.subject, ticket.text, *turns, str(row.output.get("text", ""))])
        mapping = self._core.get_map(session, row.ticket_id)
        return row, mapping if mapping is not None else reserve_numbers(known_text), known_text

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
                raise BotError(f"that label is not in the label set '{self._core.label_set.name}': choose one of its labels")
            if inference.is_blind and value == inference.label:
                return FeedbackKind.ACCEPT, value  # chosen without seeing the suggestion, and equal to it
        return feedback.kind, value

    async def _mask(self, text: str, mapping: PlaceholderMap, known_text: str) -> MaskedText:
        """Mask a person's words; placeholders of the ticket itself, which they were shown and repeat, stay what they are."""
        allowed = {match.group() for match in PLACEHOLDER.finditer(known_text)}
        parts, position = [], 0
        for match in PLACEHOLDER.finditer(text):
            if match.group() in allowed:
                parts.append(await self._mask_piece(text[position : match.start()], mapping))
                parts.append(match.group())
                position = match.end()
        parts.append(await self._mask_piece(text[position:], mapping))
        return MaskedText("".join(parts))

    async def _mask_piece(self, text: str, mapping: PlaceholderMap) -> str:
        return (await self._core.masker.mask_async(text, mapping)).text if text.strip() else text


def reserve_numbers(masked_text: str) -> PlaceholderMap:
    """Return a map in which the numbers of a masked text are taken though their values are not known: new values get new numbers."""
    entries = {}
    for match in PLACEHOLDER.finditer(masked_text):
        entity, number = match.group(1), int(match.group(2))
        entries[entity, f"\0{number}"] = (number, f"[{entity.lower().replace('_', ' ')}]")
    return PlaceholderMap(entries)
