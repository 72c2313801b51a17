"""Reading tickets back for plugins that show them, unmasked as far as each ticket's placeholder map goes.

Reads only; what is decided is recorded by `bot.service`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta

from sqlmodel import Session

from bot.core import Core
from bot.masking import PlaceholderMap, render
from bot.plugin_api import NotFoundError
from bot.service import Service
from bot.summarizing import build_summary
from bot.types import Decision, LabelRate, LabelSet, Overview, SourceRef, TicketDetail, TicketItem, Turn
from db.errors import RowNotFoundError
from db.queries import feedback, inferences, rates, tickets
from db.queries.common import row_id
from db.queries.overview import get_overview
from db.tables import FeedbackRow, Inference, Ticket, now
from db.types import FeedbackKind, TaskKind, TicketStatus

_EXCERPT_CHARS = 160
_SETTLED = timedelta(seconds=2)
"""Ids are given out before a transaction ends: after this time none with a smaller id can still appear."""


class InboxReader:
    """Implements `bot.plugin_api.Inbox`."""

    def __init__(self, core: Core, service: Service) -> None:
        self._core = core
        self._service = service

    async def list_tickets(
        self, *, status: TicketStatus | None = None, limit: int = 50, before_id: int | None = None
    ) -> Sequence[TicketItem]:
        """See `bot.plugin_api.Inbox.list_tickets`."""

        def work(session: Session) -> list[TicketItem]:
            rows = tickets.list_tickets(session, status=status, limit=limit, before_id=before_id)
            ids = [row_id(row) for row in rows]
            latest = inferences.latest_inferences(session, ids, task=TaskKind.CLASSIFICATION)
            decided = feedback.latest_decisions(session, ids, task=TaskKind.CLASSIFICATION)
            return [self._build_item(session, row, latest.get(row_id(row)), decided.get(row_id(row))) for row in rows]

        return await self._core.read_db(work)

    async def get_ticket(self, ticket_id: int) -> TicketDetail:
        """See `bot.plugin_api.Inbox.get_ticket`."""
        return await self._core.read_db(lambda session: self._get_ticket(session, ticket_id))

    async def find_ticket(self, source: SourceRef) -> TicketDetail:
        """See `bot.plugin_api.Inbox.find_ticket`."""

        def work(session: Session) -> TicketDetail:
            row = tickets.get_ticket_by_source(session, plugin=source.plugin, external_id=source.external_id)
            if row is None:
                raise NotFoundError(f"{source.plugin} has brought no ticket {source.external_id}")
            return self._get_ticket(session, row_id(row))

        return await self._core.read_db(work)

    async def count_decisions(self, *, actor: str | None = None, days: int = 30) -> Mapping[FeedbackKind, int]:
        """See `bot.plugin_api.Inbox.count_decisions`."""
        since = now() - timedelta(days=days)
        return await self._core.read_db(lambda session: rates.count_by_actor(session, actor=actor, since=since))

    async def list_decisions(self, plugin: str, *, after_id: int, limit: int = 100) -> Sequence[Decision]:
        """See `bot.plugin_api.Inbox.list_decisions`."""

        def work(session: Session) -> list[Decision]:
            until = now() - _SETTLED
            rows = feedback.list_standing(session, plugin=plugin, after_id=after_id, until=until, limit=limit)
            return [_build_decision(*row, self._core.get_map(session, row[0].ticket_id) or PlaceholderMap()) for row in rows]

        return await self._core.read_db(work)

    async def get_newest_decision_id(self) -> int:
        """See `bot.plugin_api.Inbox.get_newest_decision_id`."""
        return await self._core.read_db(feedback.get_newest_id)

    async def list_label_rates(self, *, days: int = 7) -> Sequence[LabelRate]:
        """See `bot.plugin_api.Inbox.list_label_rates`."""
        counts = await self._core.read_db(lambda session: rates.count_labels(session, window=timedelta(days=days)))
        return build_label_rates(counts)

    async def get_overview(self) -> Overview:
        """See `bot.plugin_api.Inbox.get_overview`."""

        def work(session: Session) -> Overview:
            counts = get_overview(session)
            live = {task: engine.get_active(task) for task, engine in self._core.engines.items()}
            return Overview(
                n_open=counts.n_open,
                n_decided=counts.n_decided,
                n_accepted=counts.n_accepted,
                n_overridden=counts.n_overridden,
                n_edited=counts.n_edited,
                n_handed_off=counts.n_handed_off,
                n_examples=counts.n_examples,
                override_rate=counts.override_rate,
                is_paused=counts.is_paused,
                live=live,
                timeline=counts.timeline,
            )

        return await self._core.read_db(work)

    def get_label_set(self) -> LabelSet:
        """See `bot.plugin_api.Inbox.get_label_set`."""
        return self._core.label_set

    def _build_item(self, session: Session, row: Ticket, inference: Inference | None, decision: FeedbackRow | None) -> TicketItem:
        mapping = self._core.get_map(session, row_id(row)) or PlaceholderMap()
        first = row.turns[0]["text"] if row.turns else row.text
        is_hidden = inference is not None and inference.is_blind and decision is None
        label = None if inference is None or is_hidden else inference.label
        if decision is not None:
            label = decision.value or label
        return TicketItem(
            ticket_id=row_id(row),
            source=SourceRef(plugin=row.plugin, external_id=row.external_id),
            subject=render(row.subject, mapping),
            excerpt=render(first, mapping)[:_EXCERPT_CHARS],
            status=row.status,
            label=label,
            confidence=None if inference is None or is_hidden else inference.confidence,
            is_blind=is_hidden,
            created_at=row.created_at,
            decided_by=None if decision is None else decision.actor,
        )

    def _get_ticket(self, session: Session, ticket_id: int) -> TicketDetail:
        try:
            row = tickets.get_ticket(session, ticket_id)
        except RowNotFoundError as error:
            raise NotFoundError(str(error)) from error
        mapping = self._core.get_map(session, ticket_id) or PlaceholderMap()
        inference = inferences.latest_inference(session, ticket_id=ticket_id, task=TaskKind.CLASSIFICATION)
        summary = inferences.latest_inference(session, ticket_id=ticket_id, task=TaskKind.SUMMARY)
        decision = feedback.latest_decisions(session, [ticket_id], task=TaskKind.CLASSIFICATION).get(ticket_id)
        on_summary = feedback.latest_decisions(session, [ticket_id], task=TaskKind.SUMMARY).get(ticket_id)
        turns = tuple(Turn(speaker=render(t["speaker"], mapping), text=render(t["text"], mapping)) for t in row.turns)
        shown = None if summary is None else build_summary(summary, mapping)
        if shown is not None and on_summary is not None and on_summary.kind is FeedbackKind.EDIT and on_summary.value:
            shown = replace(shown, text=render(on_summary.value, mapping), is_excerpt=False)
        given = feedback.list_feedback(session, ticket_id=ticket_id)
        return TicketDetail(
            item=self._build_item(session, row, inference, decision),
            turns=turns or (Turn(speaker="customer", text=render(row.text, mapping)),),
            classification=None if inference is None else self._service.build_card(inference, mapping),
            summary=shown,
            decision=None if decision is None else decision.kind,
            decided_label=_get_decided_label(decision, inference),
            summary_decision=None if on_summary is None else on_summary.kind,
            history=tuple((entry.created_at, entry.actor, describe(entry, mapping)) for entry in given),
        )


def _get_decided_label(decision: FeedbackRow | None, inference: Inference | None) -> str | None:
    if decision is None or decision.kind is FeedbackKind.HANDOFF:
        return None
    return decision.value or (None if inference is None else inference.label)


def _build_decision(row: FeedbackRow, ticket: Ticket, inference: Inference, mapping: PlaceholderMap) -> Decision:
    is_label = row.task is TaskKind.CLASSIFICATION
    text = inference.output.get("text")
    suggested = inference.label if is_label else render(text, mapping) if isinstance(text, str) else None
    return Decision(
        feedback_id=row_id(row),
        source=SourceRef(plugin=ticket.plugin, external_id=ticket.external_id),
        task=row.task,
        kind=row.kind,
        actor=row.actor,
        idempotency_key=row.idempotency_key,
        decided_at=row.created_at,
        suggested=suggested,
        label=_get_decided_label(row, inference) if is_label else None,
        value=None if is_label or row.value is None else render(row.value, mapping),
        reason=None if row.reason is None else render(row.reason, mapping),
        is_passive=row.is_passive,
    )


def describe(row: FeedbackRow, mapping: PlaceholderMap) -> str:
    """Say one feedback in words, with its reason; one that was corrected later says so."""
    words = {
        FeedbackKind.ACCEPT: "accepted the suggestion" if row.task is TaskKind.CLASSIFICATION else "accepted the summary",
        FeedbackKind.EDIT: "edited the summary",
        FeedbackKind.OVERRIDE: f"chose '{row.value}'",
        FeedbackKind.HANDOFF: "handed the ticket off",
    }
    said = words[row.kind] + (f": {render(row.reason, mapping)}" if row.reason else "")
    if row.withdrawn_at is not None:
        return said + " (taken back)"
    return said + (" (corrected later)" if row.replaced_by_id is not None else "")


def build_label_rates(counts: Sequence[rates.LabelCounts]) -> list[LabelRate]:
    """Turn counts into shares, the most overridden label first."""
    total, before = (sum(getattr(row, name) for row in counts) for name in ("n_suggested", "n_suggested_before"))
    found = [
        LabelRate(
            label=row.label,
            n_decided=row.n_decided,
            n_overridden=row.n_overridden,
            n_suggested=row.n_suggested,
            share=row.n_suggested / total if total else None,
            share_before=row.n_suggested_before / before if before else None,
        )
        for row in counts
    ]
    return sorted(found, key=lambda rate: (-rate.n_overridden, -rate.n_decided, rate.label))
