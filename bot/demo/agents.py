"""Simulated support agents: they know the gold label or the reference summary, and click as people do.

They use the plugin contract alone, as Slack or the console would. Seeded, so that a demo can be repeated.
"""

import random
from dataclasses import dataclass, field

from bot.data import DemoDialogue, DemoTicket
from bot.plugin_api import Bot
from bot.tasks.scoring import unigram_f1
from bot.types import Classification, Feedback, SourceRef, Summary
from db.types import FeedbackKind

PLUGIN = "demo"
_HANDOFF_SHARE = 0.02
_CARELESS_SHARE = 0.02  # accepts that people give within a second, right or wrong
_GOOD_SUMMARY_F1 = 0.45


@dataclass
class Tally:
    """What the agents did."""

    n_tickets: int = 0
    n_right: int = 0
    actions: dict[FeedbackKind, int] = field(default_factory=lambda: dict.fromkeys(FeedbackKind, 0))

    @property
    def override_rate(self) -> float:
        """Overrides among accepts and overrides."""
        decided = self.actions[FeedbackKind.ACCEPT] + self.actions[FeedbackKind.OVERRIDE]
        return self.actions[FeedbackKind.OVERRIDE] / decided if decided else 0.0


class SimulatedAgent:
    """Works through tickets and records feedback."""

    def __init__(self, bot: Bot, *, name: str, seed: int) -> None:
        self._bot = bot
        self._name = name
        self._random = random.Random(seed)  # noqa: S311  a simulation, not a secret
        self.tally = Tally()

    async def handle_ticket(self, ticket: DemoTicket) -> Classification:
        """Ask for a suggestion and decide on it: accept when right, override when wrong, now and then hand off or wave through."""
        card = await self._bot.classify(ticket.text, source=SourceRef(PLUGIN, ticket.id))
        self.tally.n_tickets += 1
        self.tally.n_right += card.label == ticket.label
        if card.inference_id is None:
            return card
        kind, value, decision_ms = self._decide(card, ticket.label)
        self.tally.actions[kind] += 1
        key = f"{PLUGIN}:{ticket.id}"
        await self._bot.record_feedback(
            Feedback(card.inference_id, kind, self._name, idempotency_key=key, value=value, decision_ms=decision_ms)
        )
        return card

    def _decide(self, card: Classification, gold: str) -> tuple[FeedbackKind, str | None, int]:
        roll = self._random.random()
        if roll < _HANDOFF_SHARE and card.label != gold:
            return FeedbackKind.HANDOFF, None, 9_000
        if roll > 1 - _CARELESS_SHARE and not card.is_blind:
            return FeedbackKind.ACCEPT, None, 800
        if card.label == gold and not card.is_blind:
            return FeedbackKind.ACCEPT, None, self._random.randrange(5_000, 20_000)
        return FeedbackKind.OVERRIDE, gold, self._random.randrange(8_000, 40_000)

    async def handle_dialogue(self, dialogue: DemoDialogue) -> Summary:
        """Ask for a summary and accept it where it says what matters, or edit it into the reference."""
        source = SourceRef(PLUGIN, dialogue.id)
        summary = await self._bot.summarize("", source=source, turns=dialogue.turns)
        if summary.inference_id is None:
            return summary
        is_good = unigram_f1(summary.text, dialogue.summary) >= _GOOD_SUMMARY_F1
        kind = FeedbackKind.ACCEPT if is_good else FeedbackKind.EDIT
        self.tally.actions[kind] += 1
        await self._bot.record_feedback(
            Feedback(
                summary.inference_id,
                kind,
                self._name,
                idempotency_key=f"{PLUGIN}:{dialogue.id}",
                value=None if is_good else dialogue.summary,
            )
        )
        return summary
