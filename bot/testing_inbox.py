"""The reading side of `bot.testing.FakeBot`. Part of `bot.testing`, which plugin authors import; changes nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Protocol

from bot.plugin_api import (
    Classification,
    Decision,
    Feedback,
    FeedbackKind,
    LabelRate,
    LabelSet,
    NotFoundError,
    Overview,
    SourceRef,
    Summary,
    TaskKind,
    TicketDetail,
    TicketItem,
    TicketStatus,
    Turn,
)
from bot.testing_manager import FakeManager


@dataclass
class FakeTicket:
    """A ticket of the fake, with all that came of it."""

    item: TicketItem
    turns: tuple[Turn, ...]
    classification: Classification | None = None
    summary: Summary | None = None
    decision: FeedbackKind | None = None
    decided_label: str | None = None
    summary_decision: FeedbackKind | None = None
    history: list[tuple[datetime, str, str]] = field(default_factory=list)


class Holder(Protocol):
    """What the reading side needs of the bot it belongs to."""

    tickets: dict[int, FakeTicket]
    label_set: LabelSet
    is_paused: bool
    feedback: list[Feedback]
    decisions: list[Decision]

    @property
    def manager(self) -> FakeManager:
        """Training and adapters."""
        ...


def show_item(ticket: FakeTicket) -> TicketItem:
    """Return a line of the inbox, without the suggestion where the ticket is blind."""
    if ticket.item.is_blind and ticket.decision is None:
        return replace(ticket.item, label=None, confidence=None)
    return replace(ticket.item, label=ticket.decided_label or ticket.item.label, is_blind=False)


class FakeInbox:
    """`bot.plugin_api.Inbox` over the tickets of a FakeBot."""

    def __init__(self, bot: Holder) -> None:
        self._bot = bot

    async def list_tickets(
        self, *, status: TicketStatus | None = None, limit: int = 50, before_id: int | None = None
    ) -> Sequence[TicketItem]:
        """Return tickets, newest first."""
        items = [show_item(ticket) for ticket in self._bot.tickets.values()]
        chosen = [i for i in items if (status is None or i.status is status) and (before_id is None or i.ticket_id < before_id)]
        return sorted(chosen, key=lambda item: -item.ticket_id)[:limit]

    async def get_ticket(self, ticket_id: int) -> TicketDetail:
        """Return one ticket."""
        if (ticket := self._bot.tickets.get(ticket_id)) is None:
            raise NotFoundError(f"there is no ticket {ticket_id}")
        return TicketDetail(
            item=show_item(ticket),
            turns=ticket.turns,
            classification=ticket.classification,
            summary=ticket.summary,
            decision=ticket.decision,
            decided_label=ticket.decided_label,
            summary_decision=ticket.summary_decision,
            history=tuple(sorted(ticket.history, key=lambda line: line[0])),
        )

    async def find_ticket(self, source: SourceRef) -> TicketDetail:
        """Return the ticket of that source."""
        for ticket_id, ticket in self._bot.tickets.items():
            if ticket.item.source == source:
                return await self.get_ticket(ticket_id)
        raise NotFoundError(f"{source.plugin} has brought no ticket {source.external_id}")

    async def count_decisions(self, *, actor: str | None = None, days: int = 30) -> Mapping[FeedbackKind, int]:  # noqa: ARG002
        """Count the feedback of one person, or of all."""
        given = [f.kind for f in self._bot.feedback if not f.is_passive and actor in (None, f.actor)]
        return {kind: given.count(kind) for kind in FeedbackKind}

    async def list_decisions(self, plugin: str, *, after_id: int, limit: int = 100) -> Sequence[Decision]:
        """Return decisions that stand on that plugin's tickets, at once: no other process writes here."""
        found = [known for known in self._bot.decisions if known.source.plugin == plugin and known.feedback_id > after_id]
        return found[:limit]

    async def get_newest_decision_id(self) -> int:
        """Return the id of the newest feedback."""
        return len(self._bot.feedback)

    async def list_label_rates(self, *, days: int = 7) -> Sequence[LabelRate]:  # noqa: ARG002
        """Return how each label fared, the most overridden first."""
        tickets = [ticket for ticket in self._bot.tickets.values() if ticket.classification and ticket.classification.label]
        rates = []
        for name in self._bot.label_set.names:
            own = [t for t in tickets if t.classification is not None and t.classification.label == name]
            decided = [ticket.decision for ticket in own if ticket.decision]
            share = len(own) / len(tickets) if tickets else None
            n_overridden = decided.count(FeedbackKind.OVERRIDE)
            rates.append(LabelRate(name, len(decided), n_overridden, len(own), share=share, share_before=None))
        return sorted(rates, key=lambda rate: (-rate.n_overridden, -rate.n_decided, rate.label))

    async def get_overview(self) -> Overview:
        """Return counts over the tickets at hand."""
        tickets = list(self._bot.tickets.values())
        decisions = [ticket.decision for ticket in tickets if ticket.decision]
        n_overridden = decisions.count(FeedbackKind.OVERRIDE)
        return Overview(
            n_open=sum(ticket.item.status is TicketStatus.OPEN for ticket in tickets),
            n_decided=len(decisions),
            n_accepted=decisions.count(FeedbackKind.ACCEPT),
            n_overridden=n_overridden,
            n_edited=sum(ticket.summary_decision is FeedbackKind.EDIT for ticket in tickets),
            n_handed_off=decisions.count(FeedbackKind.HANDOFF),
            n_examples=sum(ticket.decided_label is not None for ticket in tickets),
            override_rate=n_overridden / len(decisions) if decisions else None,
            is_paused=self._bot.is_paused,
            live={task: self._bot.manager.live(task) for task in TaskKind},
            timeline=self._bot.manager.timeline,
        )

    def get_label_set(self) -> LabelSet:
        """Return the label set."""
        return self._bot.label_set
