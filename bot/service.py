"""Classify, summarise, record feedback: mask, ask the engine, write it down, and hand back what the card shows.

The only place where a suggestion is made. Knows no plugin and no llama.cpp.
"""

import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager

from sqlmodel import Session

from bot.asking import ask_scores
from bot.core import Core
from bot.decisions import FeedbackRecorder
from bot.engine.protocol import FloatArray, Scores
from bot.intake import WITHHELD_NOTICE, Intake, TakenIn
from bot.masking import PlaceholderMap, render
from bot.metrics import Ending, Verb
from bot.plugin_api import BotError, BusyError, NotFoundError
from bot.similar import Neighbour
from bot.summarizing import TRUNCATED_NOTICE, grow_summary
from bot.tasks.classification import PROMPT_VERSION, build_fields, render_reason
from bot.types import BASE, Classification, Feedback, FeedbackReceipt, LabelScore, SimilarTicket, SourceRef, Summary, Turn
from db.queries import inferences
from db.queries.common import row_id
from db.queries.state import is_paused
from db.tables import Inference
from db.types import TaskKind, TicketStatus

PAUSED_NOTICE = "No suggestion: suggestions are paused by a manager."
EMPTY_NOTICE = "No suggestion: the ticket has no text."
_ENDINGS: Mapping[str, Ending] = {EMPTY_NOTICE: "empty", PAUSED_NOTICE: "paused"}
TOP_K = 5
_REMEMBERED_EMBEDDINGS = 4096


class Service:
    """The three things plugins ask for."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._intake = Intake(core)
        self._embeddings: OrderedDict[int, tuple[str, FloatArray]] = OrderedDict()
        self._recorder = FeedbackRecorder(core)

    async def classify(
        self, text: str, *, source: SourceRef, subject: str = "", turns: Sequence[Turn] = (), labels: Sequence[str] = ()
    ) -> Classification:
        """See `bot.plugin_api.Bot.classify`. An unchanged ticket under an unchanged adapter gets its earlier inference back."""
        allowed = self._check_labels(labels)
        with self._count("classify") as ended:
            async with self._core.lock_ticket(source):
                taken = await self._take(source, subject=subject, text=text, turns=turns)
                return await self._classify(taken, ended, allowed)

    def _check_labels(self, labels: Sequence[str]) -> tuple[str, ...]:
        """Return the labels asked about in the set's order; empty where that is all of them."""
        names = self._core.choices.names
        unknown = sorted(set(labels) - set(names))
        if unknown:
            raise BotError(
                f"the label '{unknown[0]}' is not in the label set '{self._core.label_set.name}': correct the settings"
            )
        return () if set(labels) == set(names) else tuple(name for name in names if name in set(labels))

    async def _take(self, source: SourceRef, *, subject: str, text: str, turns: Sequence[Turn]) -> TakenIn:
        """Take the ticket in, or, without any text, open the stored one: masked text must never go through the masker again."""
        stored = None if text or turns or subject else await self._intake.reopen(source)
        return stored or await self._intake.take(source, subject=subject, text=text, turns=turns)

    async def _classify(self, taken: TakenIn, ended: list[Ending], labels: tuple[str, ...]) -> Classification:
        notice = await self._find_notice(taken)
        if notice is not None:
            ended.append(_ENDINGS.get(notice, "withheld"))
            return self._build_empty(taken, notice)
        engine = self._core.engines[TaskKind.CLASSIFICATION]
        digest = engine.get_active(TaskKind.CLASSIFICATION)
        known = await self._core.read_db(lambda session: self._find_known(session, taken, digest, labels))
        if known is not None:
            ended.append("repeated")
            return self.build_card(known, taken.mapping)
        started = time.perf_counter()
        scores = await ask_scores(self._core, taken.model_text)
        latency_ms = (time.perf_counter() - started) * 1e3
        row = await self._core.in_db(
            lambda session: self._record_scores(session, taken, scores, labels=labels, latency_ms=latency_ms)
        )
        if scores.embedding is not None:
            self._remember(row_id(row), scores.adapter_digest, scores.embedding)
        return self.build_card(row, taken.mapping)

    async def summarize(self, text: str, *, source: SourceRef, subject: str = "", turns: Sequence[Turn] = ()) -> Summary:
        """See `bot.plugin_api.Bot.summarize`."""
        async with aclosing(self.stream_summary(text, source=source, subject=subject, turns=turns)) as stream:
            made = [summary async for summary in stream]
        return made[-1]

    async def stream_summary(
        self, text: str, *, source: SourceRef, subject: str = "", turns: Sequence[Turn] = ()
    ) -> AsyncGenerator[Summary, None]:
        """See `bot.plugin_api.Bot.stream_summary`."""
        with self._count("summarize") as ended:
            async with self._core.lock_ticket(source):
                if not (text or turns) and await self._intake.reopen(source) is None:
                    raise NotFoundError(f"{source.plugin} has no ticket {source.external_id}; send its text along")
                taken = await self._take(source, subject=subject if text or turns else "", text=text, turns=turns)
                notice = await self._find_notice(taken)
                if notice is not None:
                    ended.append(_ENDINGS.get(notice, "withheld"))
                    yield Summary(None, taken.ticket_id, "", is_excerpt=False, adapter_digest=BASE, notice=notice)
                    return
                async with aclosing(grow_summary(self._core, taken)) as growing:
                    async for summary in growing:
                        yield summary

    async def record_feedback(self, feedback: Feedback) -> FeedbackReceipt:
        """See `bot.plugin_api.Bot.record_feedback`."""
        recorded = await self._recorder.record(feedback)
        if recorded.receipt.is_new:
            self._core.metrics.count_feedback(feedback.kind.value)
        if recorded.receipt.is_new and recorded.ticket_id is not None and recorded.neighbour is None:
            self._core.similar.remove(recorded.ticket_id)
        known = self._embeddings.get(feedback.inference_id)
        if recorded.neighbour is not None and known is not None:
            digest, embedding = known
            self._core.similar.add(recorded.neighbour, embedding, digest=digest)
        return recorded.receipt

    async def withdraw_feedback(self, feedback_id: int, *, actor: str) -> None:
        """See `bot.plugin_api.Bot.withdraw_feedback`."""
        ticket_id = await self._recorder.withdraw(feedback_id, actor=actor)
        if ticket_id is not None:
            self._core.similar.remove(ticket_id)

    def build_card(self, row: Inference, mapping: PlaceholderMap) -> Classification:
        """Rebuild the card of a stored inference, unmasked as far as the map goes."""
        label = None if row.label is None else self._core.label_set.get(row.label)
        candidates = tuple(LabelScore(name, probability) for name, probability in row.output.get("candidates", []))
        similar = tuple(
            SimilarTicket(ticket_id=ticket_id, label=name, similarity=cosine, text=text)
            for ticket_id, name, cosine, text in row.output.get("similar", [])
        )
        return Classification(
            inference_id=row_id(row),
            ticket_id=row.ticket_id,
            label=row.label,
            confidence=row.confidence or 0.0,
            candidates=candidates,
            macro=None if label is None else label.macro,
            fields={} if label is None else build_fields(label),
            reason=render(str(row.output.get("reason", "")), mapping),
            similar=similar,
            adapter_digest=row.adapter_digest,
            label_set_version=row.label_set_version,
            is_blind=row.is_blind,
            notice=TRUNCATED_NOTICE if row.is_truncated else None,
            labels=tuple(row.output.get("labels", ())),
        )

    async def _find_notice(self, taken: TakenIn) -> str | None:
        if taken.is_withheld:
            return f"{WITHHELD_NOTICE} ({taken.withheld_because})" if taken.withheld_because else WITHHELD_NOTICE
        if not taken.model_text.strip():
            return EMPTY_NOTICE
        return PAUSED_NOTICE if await self._core.read_db(is_paused) else None

    def _build_empty(self, taken: TakenIn, notice: str) -> Classification:
        return Classification(
            inference_id=None,
            ticket_id=taken.ticket_id,
            label=None,
            confidence=0.0,
            candidates=(),
            macro=None,
            fields={},
            reason="",
            similar=(),
            adapter_digest=self._core.engines[TaskKind.CLASSIFICATION].get_active(TaskKind.CLASSIFICATION),
            label_set_version=self._core.label_set.version,
            notice=notice,
        )

    def _find_known(self, session: Session, taken: TakenIn, digest: str, labels: tuple[str, ...]) -> Inference | None:
        row = inferences.latest_inference(session, ticket_id=taken.ticket_id, task=TaskKind.CLASSIFICATION)
        if row is None or not taken.is_unchanged:
            return None
        is_same = row.adapter_digest == digest and row.label_set_version == self._core.label_set.version
        is_same &= row.prompt_version == PROMPT_VERSION and tuple(row.output.get("labels", ())) == labels
        return row if is_same else None

    def _record_scores(
        self, session: Session, taken: TakenIn, scores: Scores, *, labels: tuple[str, ...], latency_ms: float
    ) -> Inference:
        candidates = choose_candidates(scores.probabilities, self._core.choices.names, labels)
        neighbours = self._find_neighbours(taken, scores)
        engine = self._core.engines[TaskKind.CLASSIFICATION]
        label, confidence = candidates[0]
        return inferences.record_inference(
            session,
            ticket_id=taken.ticket_id,
            task=TaskKind.CLASSIFICATION,
            model_kind=engine.kind,
            base_digest=engine.base_digest,
            adapter_digest=scores.adapter_digest,
            label_set_version=self._core.label_set.version,
            prompt_version=PROMPT_VERSION,
            label=label,
            confidence=confidence,
            output={
                "candidates": [list(pair) for pair in candidates],
                "reason": render_reason(label, confidence, [(n.label, n.similarity) for n in neighbours]),
                "similar": [[n.ticket_id, n.label, n.similarity, n.text[:200]] for n in neighbours],
                **({"labels": list(labels)} if labels else {}),
            },
            is_blind=taken.is_blind and taken.status is TicketStatus.OPEN,
            is_truncated=scores.is_truncated,
            latency_ms=latency_ms,
        )

    def _find_neighbours(self, taken: TakenIn, scores: Scores) -> tuple[Neighbour, ...]:
        if scores.embedding is None:
            return ()
        limit = self._core.settings.similar_tickets
        return self._core.similar.search(scores.embedding, digest=scores.adapter_digest, limit=limit, without=taken.ticket_id)

    @contextmanager
    def _count(self, verb: Verb) -> Iterator[list[Ending]]:
        """Count a request by how it ended: by what was put into the list, or by the error."""
        started = time.perf_counter()
        ended: list[Ending] = []
        outcome: Ending = "failed"
        try:
            yield ended
            outcome = ended[-1] if ended else "answered"
        except BusyError:
            outcome = "refused"
            raise
        finally:
            self._core.metrics.count_request(verb, outcome, seconds=time.perf_counter() - started)

    def _remember(self, inference_id: int, digest: str, embedding: FloatArray) -> None:
        self._embeddings[inference_id] = (digest, embedding)
        while len(self._embeddings) > _REMEMBERED_EMBEDDINGS:
            self._embeddings.popitem(last=False)


def choose_candidates(probabilities: FloatArray, names: Sequence[str], labels: Sequence[str]) -> list[tuple[str, float]]:
    """Return the likeliest labels with their probabilities, best first; over `labels` alone, summing to 1 there, unless it is empty."""
    kept = [index for index, name in enumerate(names) if not labels or name in labels]
    total = float(probabilities[kept].sum()) if labels else 1.0
    scaled = [(names[index], float(probabilities[index]) / total if total > 0 else 1 / len(kept)) for index in kept]
    return sorted(scaled, key=lambda pair: -pair[1])[:TOP_K]
