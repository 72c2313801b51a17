"""Public fakes for plugin authors: `FakeBot` answers like the core from memory alone, `FakeClock` is time under the test's control.

Knows no model, database or masking: it guesses labels by shared words. `FakeBot()` is empty; `FakeBot.with_samples()` holds a helpdesk.
"""

import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from bot import testing_samples as samples
from bot.plugin_api import (
    BotError,
    Classification,
    ConflictError,
    Decision,
    Feedback,
    FeedbackKind,
    FeedbackReceipt,
    LabelScore,
    LabelSet,
    NotFoundError,
    SimilarTicket,
    SourceRef,
    Summary,
    TaskKind,
    TicketItem,
    TicketStatus,
    Turn,
)
from bot.testing_clock import Clock, FakeClock
from bot.testing_events import FakeQueue, FakeStore
from bot.testing_inbox import FakeInbox, FakeTicket
from bot.testing_manager import FakeManager
from bot.testing_privacy import FakePrivacy

__all__ = ["Clock", "FakeBot", "FakeClock", "FakeInbox", "FakeManager", "FakePrivacy", "FakeQueue", "FakeStore", "score_labels"]


def _words(text: str) -> set[str]:
    return {word.rstrip("s") for word in re.findall(r"[a-z]{3,}", text.lower().replace("wi-fi", "wifi"))}


def score_labels(text: str, label_set: LabelSet) -> tuple[LabelScore, ...]:
    """Return every label with a probability that grows with the words it shares with `text`, best first; they sum to 1."""
    words = _words(text)
    weights = {label.name: 4.0 ** min(4, len(words & _words(f"{label.name} {label.description}"))) for label in label_set.labels}
    total = sum(weights.values())
    scores = [LabelScore(label=name, probability=weight / total) for name, weight in weights.items()]
    return tuple(sorted(scores, key=lambda score: -score.probability))


class FakeBot:
    """`bot.plugin_api.Bot` in memory.

    Knobs: `is_blind` shows new tickets blind, `is_paused` withholds suggestions, `is_masking_broken` withholds tickets, `fail_with` is
    raised by the next call of each of the three verbs, `answer` forces (label, confidence). `feedback` records each feedback that counted
    as new, in order, `withdrawn` the ids of those taken back, `decisions` what stands; `calls` records (verb, external id).
    """

    def __init__(self, *, clock: Clock | None = None, label_set: LabelSet = samples.LABELS) -> None:
        self.clock: Clock = clock or FakeClock()
        self.label_set = label_set
        self.tickets: dict[int, FakeTicket] = {}
        self.feedback: list[Feedback] = []
        self.withdrawn: list[int] = []
        self.decisions: list[Decision] = []
        self.queues: dict[str, FakeQueue] = {}
        self.stores: dict[str, FakeStore] = {}
        self.calls: list[tuple[str, str]] = []
        self.is_blind = False
        self.is_paused = False
        self.is_masking_broken = False
        self.fail_with: Exception | None = None
        self.answer: tuple[str, float] | None = None
        self._manager = FakeManager(self)
        self._inbox = FakeInbox(self)
        self._privacy = FakePrivacy(self)
        self._inferences: dict[int, tuple[int, TaskKind]] = {}
        self._receipts: dict[str, FeedbackReceipt] = {}
        self._latest: dict[int, int] = {}

    @classmethod
    def with_samples(cls, *, clock: Clock | None = None) -> "FakeBot":
        """Return a bot with fourteen tickets in every state, six adapters and two ended runs."""
        bot = cls(clock=clock)
        now = bot.clock.now()
        bot._manager.load_samples(now)
        for n, (subject, turns, decision, label, is_blind) in enumerate(samples.TICKETS):
            created_at = now - timedelta(minutes=7 + 41 * (len(samples.TICKETS) - n - 1))
            bot._load_sample(
                f"sample-{n + 1}", subject, turns, decision=decision, label=label, is_blind=is_blind, created_at=created_at
            )
        return bot

    @property
    def inbox(self) -> "FakeInbox":
        """Reading side."""
        return self._inbox

    @property
    def manager(self) -> "FakeManager":
        """Training and adapters."""
        return self._manager

    @property
    def privacy(self) -> FakePrivacy:
        """People's data."""
        return self._privacy

    async def classify(
        self, text: str, *, source: SourceRef, subject: str = "", turns: Sequence[Turn] = (), labels: Sequence[str] = ()
    ) -> Classification:
        """Take a ticket in and suggest a label by shared words."""
        self._enter("classify", source)
        unknown = sorted(set(labels) - set(self.label_set.names))
        if unknown:
            raise BotError(f"the label '{unknown[0]}' is not in the label set '{self.label_set.name}': correct the settings")
        ticket = self._take_in(text, source, subject, turns)
        return self._suggest(ticket, labels)

    async def summarize(self, text: str, *, source: SourceRef, subject: str = "", turns: Sequence[Turn] = ()) -> Summary:
        """Return the first sentence of up to three turns, as an excerpt."""
        self._enter("summarize", source)
        is_known = any(ticket.item.source == source for ticket in self.tickets.values())
        if not text and not turns and not is_known:
            raise NotFoundError(f"there is no ticket {source.external_id} from {source.plugin} to summarise")
        return self._summarise(self._take_in(text, source, subject, turns))

    async def stream_summary(
        self, text: str, *, source: SourceRef, subject: str = "", turns: Sequence[Turn] = ()
    ) -> AsyncIterator[Summary]:
        """Yield the summary line by line."""
        summary = await self.summarize(text, source=source, subject=subject, turns=turns)
        lines = summary.text.split("\n")
        for n in range(1, len(lines)):
            yield replace(summary, inference_id=None, text="\n".join(lines[:n]))
        yield summary

    async def withdraw_feedback(self, feedback_id: int, *, actor: str) -> None:
        """Take a feedback back: its ticket is open again."""
        if not 1 <= feedback_id <= len(self.feedback):
            raise NotFoundError(f"there is no feedback {feedback_id}")
        given = self.feedback[feedback_id - 1]
        if self._latest.get(given.inference_id) != feedback_id:
            raise ConflictError("this decision was changed by a later one; change that one instead")
        ticket_id, task = self._inferences[given.inference_id]
        ticket = self.tickets[ticket_id]
        if task is TaskKind.SUMMARY:
            ticket.summary_decision = None
        else:
            ticket.decision = ticket.decided_label = None
            ticket.item = replace(ticket.item, status=TicketStatus.OPEN, decided_by=None)
        self.withdrawn.append(feedback_id)
        self.decisions = [decision for decision in self.decisions if decision.feedback_id != feedback_id]
        ticket.history.append((self.clock.now(), actor, "took a decision back"))

    def open_queue(self, name: str) -> FakeQueue:
        """Return the queue of that name, always the same one."""
        return self.queues.setdefault(name, FakeQueue(self.clock))

    def open_store(self, name: str) -> FakeStore:
        """Return the store of that name, always the same one."""
        return self.stores.setdefault(name, FakeStore(self.clock))

    async def record_feedback(self, feedback: Feedback) -> FeedbackReceipt:
        """Record a feedback once per idempotency key; a later one on the same ticket and task replaces the earlier."""
        self._raise_planned()
        if (known := self._receipts.get(feedback.idempotency_key)) is not None:
            return replace(known, is_new=False)
        if feedback.inference_id not in self._inferences:
            raise NotFoundError(f"there is no inference {feedback.inference_id} to give feedback on")
        ticket_id, task = self._inferences[feedback.inference_id]
        self._check_feedback(feedback, task)
        card = self.tickets[ticket_id].classification
        if feedback.kind is FeedbackKind.OVERRIDE and card is not None and card.is_blind and feedback.value == card.label:
            feedback = replace(feedback, kind=FeedbackKind.ACCEPT)  # chosen without seeing the suggestion, and equal to it
        self.feedback.append(feedback)
        receipt = FeedbackReceipt(
            feedback_id=len(self.feedback),
            is_new=True,
            replaced_id=self._latest.get(feedback.inference_id),
            example_id=None if feedback.kind is FeedbackKind.HANDOFF else len(self.feedback),
        )
        self._receipts[feedback.idempotency_key] = receipt
        self._latest[feedback.inference_id] = receipt.feedback_id
        self._apply(self.tickets[ticket_id], feedback, task)
        self._keep_decision(self.tickets[ticket_id], feedback, task, receipt.feedback_id)
        return receipt

    def _keep_decision(self, ticket: FakeTicket, feedback: Feedback, task: TaskKind, feedback_id: int) -> None:
        source, is_label = ticket.item.source, task is TaskKind.CLASSIFICATION
        shown = ticket.classification.label if is_label and ticket.classification else None
        if not is_label and ticket.summary is not None:
            shown = ticket.summary.text
        self.decisions = [known for known in self.decisions if (known.source, known.task) != (source, task)]
        decision = Decision(
            feedback_id=feedback_id,
            source=source,
            task=task,
            kind=feedback.kind,
            actor=feedback.actor,
            idempotency_key=feedback.idempotency_key,
            decided_at=self.clock.now(),
            suggested=shown,
            label=ticket.decided_label if is_label else None,
            value=None if is_label else feedback.value,
            reason=feedback.reason,
            is_passive=feedback.is_passive,
        )
        self.decisions.append(decision)

    def _enter(self, verb: str, source: SourceRef) -> None:
        self.calls.append((verb, source.external_id))
        self._raise_planned()

    def _raise_planned(self) -> None:
        if self.fail_with is not None:
            error, self.fail_with = self.fail_with, None
            raise error

    def _check_feedback(self, feedback: Feedback, task: TaskKind) -> None:
        wants_value = feedback.kind in {FeedbackKind.OVERRIDE, FeedbackKind.EDIT}
        if wants_value and not (feedback.value or "").strip():
            raise BotError(f"feedback of kind {feedback.kind} needs a value; send the label or the edited text")
        if feedback.kind is FeedbackKind.EDIT and task is not TaskKind.SUMMARY:
            raise BotError("only a summary can be edited; send an override to choose another label")
        if feedback.kind is FeedbackKind.OVERRIDE:
            if task is not TaskKind.CLASSIFICATION:
                raise BotError("only a label can be overridden; send an edit to change a summary")
            if feedback.value not in self.label_set.names:
                raise BotError(
                    f"the label '{feedback.value}' is not in the label set {self.label_set.name}; choose one of its names"
                )

    def _take_in(self, text: str, source: SourceRef, subject: str, turns: Sequence[Turn]) -> FakeTicket:
        known = next((ticket for ticket in self.tickets.values() if ticket.item.source == source), None)
        if known is not None and not text and not turns:
            return known
        all_turns = tuple(turns) or (Turn("customer", text),)
        item = TicketItem(
            ticket_id=known.item.ticket_id if known else len(self.tickets) + 1,
            source=source,
            subject=subject,
            excerpt=" ".join(all_turns[0].text.split())[:140],
            status=TicketStatus.WITHHELD if self.is_masking_broken else TicketStatus.OPEN,
            label=None,
            confidence=None,
            is_blind=self.is_blind,
            created_at=known.item.created_at if known else self.clock.now(),
        )
        if self.is_masking_broken:
            item, all_turns = replace(item, subject="", excerpt=""), ()
        ticket = FakeTicket(item=item, turns=all_turns)
        ticket.history = known.history if known else [(item.created_at, source.plugin, "brought the ticket in")]
        self.tickets[item.ticket_id] = ticket
        return ticket

    def _new_inference(self, ticket: FakeTicket, task: TaskKind) -> int:
        inference_id = len(self._inferences) + 1
        self._inferences[inference_id] = (ticket.item.ticket_id, task)
        return inference_id

    def _notice(self, ticket: FakeTicket) -> str | None:
        if ticket.item.status is TicketStatus.WITHHELD:
            return "Personal data could not be masked in this ticket, so it was neither stored nor shown to the model."
        return "Suggestions are paused; resume them on the training page." if self.is_paused else None

    def _suggest(self, ticket: FakeTicket, labels: Sequence[str] = ()) -> Classification:
        notice = self._notice(ticket)
        text = " ".join([ticket.item.subject, *(turn.text for turn in ticket.turns)])
        scores = () if notice else self._forced() or score_labels(text, self.label_set)
        if labels:
            total = sum(score.probability for score in scores if score.label in labels)
            scores = tuple(LabelScore(s.label, s.probability / (total or 1.0)) for s in scores if s.label in labels)
        label = self.label_set.get(scores[0].label) if scores else None
        fields = (
            {"queue": label.queue or "", "priority": label.priority or "", "escalate": "yes" if label.escalate else "no"}
            if label
            else {}
        )
        ticket.classification = Classification(
            inference_id=None if notice else self._new_inference(ticket, TaskKind.CLASSIFICATION),
            ticket_id=ticket.item.ticket_id,
            label=label.name if label else None,
            confidence=scores[0].probability if scores else 0.0,
            candidates=scores,
            macro=label.macro if label else None,
            fields={name: value for name, value in fields.items() if value},
            reason=f"Shares words with the description of {label.name} and with decided tickets." if label else "",
            similar=self._similar(ticket, text) if label else (),
            adapter_digest=self._manager.live(TaskKind.CLASSIFICATION),
            label_set_version=self.label_set.version,
            is_blind=ticket.item.is_blind,
            notice=notice,
            labels=tuple(labels),
        )
        ticket.item = replace(
            ticket.item, label=ticket.classification.label, confidence=scores[0].probability if scores else None
        )
        return ticket.classification

    def _forced(self) -> tuple[LabelScore, ...]:
        if self.answer is None:
            return ()
        label, confidence = self.answer
        others = [name for name in self.label_set.names if name != label]
        rest = (1 - confidence) / max(1, len(others))
        return (LabelScore(label, confidence), *(LabelScore(name, rest) for name in others))

    def _similar(self, ticket: FakeTicket, text: str) -> tuple[SimilarTicket, ...]:
        words, found = _words(text), []
        for other in self.tickets.values():
            if other.decided_label and other is not ticket:
                theirs = _words(" ".join(turn.text for turn in other.turns))
                cosine = len(words & theirs) / max(1.0, (len(words) * len(theirs)) ** 0.5)
                found.append(
                    SimilarTicket(other.item.ticket_id, other.decided_label, round(min(1.0, cosine * 2), 2), other.item.excerpt)
                )
        near = [similar for similar in found if similar.similarity >= 0.2]
        return tuple(sorted(near, key=lambda similar: -similar.similarity)[:3])

    def _summarise(self, ticket: FakeTicket) -> Summary:
        notice = self._notice(ticket)
        lines = [re.split(r"(?<=[.?!])\s", turn.text.strip())[0] for turn in ticket.turns[:3]]
        ticket.summary = Summary(
            inference_id=None if notice else self._new_inference(ticket, TaskKind.SUMMARY),
            ticket_id=ticket.item.ticket_id,
            text="" if notice else "\n".join(lines),
            is_excerpt=True,
            adapter_digest=self._manager.live(TaskKind.SUMMARY),
            notice=notice,
        )
        return ticket.summary

    def _apply(self, ticket: FakeTicket, feedback: Feedback, task: TaskKind) -> None:
        why = f" ({feedback.reason})" if feedback.reason else ""
        if task is TaskKind.SUMMARY and ticket.summary is not None:
            ticket.summary_decision = feedback.kind
            ticket.summary = replace(ticket.summary, text=feedback.value or ticket.summary.text)
            said = {FeedbackKind.ACCEPT: "accepted the summary", FeedbackKind.EDIT: "edited the summary"}.get(
                feedback.kind, "refused the summary"
            )
        else:
            suggested = ticket.classification.label if ticket.classification else None
            is_handoff = feedback.kind is FeedbackKind.HANDOFF
            ticket.decision = feedback.kind
            ticket.decided_label = None if is_handoff else feedback.value or suggested
            status = TicketStatus.HANDED_OFF if is_handoff else TicketStatus.DECIDED
            ticket.item = replace(ticket.item, status=status, decided_by=feedback.actor)
            said = {
                FeedbackKind.ACCEPT: f"accepted {suggested}",
                FeedbackKind.OVERRIDE: f"chose {feedback.value} instead of {suggested}",
                FeedbackKind.HANDOFF: "handed the ticket off",
            }[feedback.kind]
        ticket.history.append((self.clock.now(), feedback.actor, said + why))

    def _load_sample(
        self, name: str, subject: str, turns: tuple[Turn, ...], *, decision: str, label: str, is_blind: bool, created_at: datetime
    ) -> None:
        self.is_blind, self.is_masking_broken = is_blind, decision == "withheld"
        ticket = self._take_in("", SourceRef("slack" if len(self.tickets) % 3 else "zendesk", name), subject, turns)
        ticket.item = replace(ticket.item, created_at=created_at)
        ticket.history = [(created_at, ticket.item.source.plugin, "brought the ticket in")]
        suggested = self._suggest(ticket)
        self._summarise(ticket)
        self.is_blind = self.is_masking_broken = False
        if suggested.inference_id is not None and decision in {"accept", "override", "handoff"}:
            kind = FeedbackKind.OVERRIDE if label and label != suggested.label else FeedbackKind(decision)
            given = Feedback(
                suggested.inference_id, kind, "first line", name, value=label if kind is FeedbackKind.OVERRIDE else None
            )
            self._receipts[name] = FeedbackReceipt(0, is_new=True, replaced_id=None, example_id=None)
            self._apply(ticket, given, TaskKind.CLASSIFICATION)
            ticket.history[-1] = (created_at + timedelta(minutes=3), "first line", ticket.history[-1][2])
