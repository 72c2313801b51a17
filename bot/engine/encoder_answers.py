"""Answers of an encoder: embeddings from the owner thread go through heads into distributions and rankings.

Knows label descriptions and heads; not batches, threads or how an adapter becomes active.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from safetensors import SafetensorError

from bot.bundle import Bundle, Manifest
from bot.engine.adapters import LoadedAdapter
from bot.engine.answers import Outputs
from bot.engine.background import start_in_background
from bot.engine.encode_queue import Embedded, EncodeJob
from bot.engine.encoder import EncoderRuntime
from bot.engine.head import EncoderHead
from bot.engine.lane import Lane
from bot.engine.protocol import (
    AdapterError,
    ChoiceSet,
    Chunk,
    EngineError,
    FloatArray,
    GenerateRequest,
    Priority,
    Ranking,
    RankRequest,
    ScoreRequest,
    Scores,
)
from bot.engine.turns import TurnHead
from bot.engine.worker import Worker, settle, settle_error
from bot.types import BASE
from db.types import ModelKind, TaskKind

LABEL_CACHE: Final = 64
"""Label sets whose embeddings are kept, per engine."""


class EncoderAnswers:
    """Scores, ranks and embeds with an encoder."""

    kind = ModelKind.ENCODER

    def __init__(self, runtime: EncoderRuntime, worker: Worker) -> None:
        self.runtime = runtime
        self._worker = worker
        self._heads: dict[str, EncoderHead] = {}
        self._turn_heads: dict[str, TurnHead] = {}
        self._zero_shot: OrderedDict[tuple[str, ChoiceSet], asyncio.Task[EncoderHead]] = OrderedDict()

    async def score(self, request: ScoreRequest, adapter: LoadedAdapter) -> Scores:
        """Return the distribution over the request's choices and the embedding it came from."""
        done = await self._embed((request.text,), adapter.group, priority=request.priority, deadline_s=request.deadline_s)
        log_probabilities = await self._score(done.embeddings, (request.text,), request.choices, adapter)
        return Scores(
            probabilities=log_probabilities[0],
            adapter_digest=adapter.digest,
            embedding=done.embeddings[0],
            is_truncated=done.is_truncated,
            n_tokens=done.n_tokens,
        )

    async def rank(self, request: RankRequest, adapter: LoadedAdapter) -> Ranking:
        """Score each unit; an adapter without a turn head uses the untrained one."""
        if len(request.is_customer) != len(request.units):
            message = (
                f"a ranking has {len(request.units)} units but {len(request.is_customer)} marks of who speaks; give one each"
            )
            raise EngineError(message)
        done = await self._embed(request.units, adapter.group, priority=request.priority, deadline_s=request.deadline_s)
        head = self._turn_heads.get(adapter.digest) or self._turn_heads.setdefault(BASE, TurnHead.default())
        scores = head.scores(done.embeddings, request.is_customer, request.units) if request.units else np.empty(0)
        return Ranking(
            scores=np.asarray(scores, np.float32),
            adapter_digest=adapter.digest,
            n_tokens=done.n_tokens,
            is_truncated=done.is_truncated,
        )

    def generate(self, request: GenerateRequest, adapter: LoadedAdapter) -> AsyncGenerator[Chunk, None]:  # noqa: ARG002
        """Refuse: an encoder writes nothing."""
        message = "an encoder cannot write text; set model.summary to a decoder, or use rank() for an excerpt"
        raise EngineError(message)

    async def embed(self, texts: Sequence[str], adapter: LoadedAdapter, *, priority: Priority) -> FloatArray:
        """Return unit-norm embeddings, shape (n, n_embd)."""
        return (await self._embed(texts, adapter.group, priority=priority)).embeddings

    async def attach(self, group: str, lora: Path) -> None:
        """Make an adapter's weights ready beside the running engine, and hand them over between two steps. Raises AdapterError."""
        lane = await self._open_merged(lora) if self.runtime.is_merging else None
        try:
            await self._worker.call(lambda: self.runtime.load_lora(group, lora, lane=lane))
        except EngineError:
            if lane is not None:
                lane.close()
            raise

    async def _open_merged(self, lora: Path) -> Lane:
        opening = start_in_background(lambda: self.runtime.open_merged(lora), name="adapter-loader")
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_close_lane)  # the thread goes on; what it opens must not stay
            raise

    async def detach(self, group: str) -> None:
        """Free LoRA weights between two steps."""
        await self._worker.call(lambda: self.runtime.free_lora(group))

    async def admit(self, adapter: LoadedAdapter, bundle: Bundle) -> None:
        """Read the bundle's head. Raises AdapterError."""
        head = await asyncio.to_thread(load_head, bundle.directory, bundle.manifest)
        if isinstance(head, TurnHead):
            self._turn_heads[adapter.digest] = head
        else:
            self._heads[adapter.digest] = head

    def dismiss(self, adapter: LoadedAdapter) -> None:
        """Forget heads and label embeddings of an adapter."""
        self._heads.pop(adapter.digest, None)
        self._turn_heads.pop(adapter.digest, None)
        for key in [key for key in self._zero_shot if key[0] == adapter.group and adapter.group != BASE]:
            del self._zero_shot[key]

    async def measure(self, texts: Sequence[str], group: str, *, directory: Path, manifest: Manifest) -> Outputs:
        """Return the distribution over the manifest's labels per text, or the scores of the text's lines (summary)."""
        head = await asyncio.to_thread(load_head, directory, manifest)
        if isinstance(head, TurnHead):
            rows = [await self._rank_lines(text.split("\n"), group, head) for text in texts]
            return tuple(tuple(float(score) for score in row) for row in rows)
        embeddings = (await self._embed(texts, group, priority=Priority.BULK)).embeddings
        probabilities = np.exp(head.log_probabilities(embeddings, texts))
        return tuple(tuple(float(value) for value in row) for row in probabilities)

    async def _rank_lines(self, lines: Sequence[str], group: str, head: TurnHead) -> FloatArray:
        embeddings = (await self._embed(lines, group, priority=Priority.INTERACTIVE)).embeddings
        return np.asarray(head.scores(embeddings, [True] * len(lines), lines), np.float32)

    async def warm(self, choices: ChoiceSet, adapter: LoadedAdapter) -> None:
        """Embed the label descriptions where the adapter's own head does not cover them."""
        if self._needs_descriptions(choices, adapter):
            await self._get_zero_shot(choices, adapter.group)

    def _needs_descriptions(self, choices: ChoiceSet, adapter: LoadedAdapter) -> bool:
        head = self._heads.get(adapter.digest)
        return head is None or not set(choices.names) <= set(head.labels)

    async def _score(
        self, embeddings: FloatArray, texts: Sequence[str], choices: ChoiceSet, adapter: LoadedAdapter
    ) -> FloatArray:
        """Return probabilities, shape (n, n_choices), in the order of `choices.names`."""
        if not choices.names:
            message = "there is no label to choose from; add labels to the label set"
            raise EngineError(message)
        head = self._heads.get(adapter.digest)
        if head is not None and head.labels == choices.names:
            return _normalise(np.exp(head.log_probabilities(embeddings, texts)))
        zero_shot: FloatArray | None = None
        if self._needs_descriptions(choices, adapter):
            described = await self._get_zero_shot(choices, adapter.group)
            zero_shot = np.exp(described.log_probabilities(embeddings, texts))
        if head is None:
            return _normalise(zero_shot if zero_shot is not None else np.ones((len(texts), len(choices.names)), np.float32))
        known = np.exp(head.log_probabilities(embeddings, texts))
        return merge_labels(known, head.labels, names=choices.names, zero_shot=zero_shot)

    async def _get_zero_shot(self, choices: ChoiceSet, group: str) -> EncoderHead:
        """Return the head made of the label descriptions; concurrent first requests share one computation."""
        key = (group, choices)
        running = self._zero_shot.get(key)
        if running is None or (running.done() and (running.cancelled() or running.exception() is not None)):
            running = self._zero_shot[key] = asyncio.get_running_loop().create_task(self._build_zero_shot(choices, group))
            running.add_done_callback(_mark_seen)
            while len(self._zero_shot) > LABEL_CACHE:
                self._zero_shot.popitem(last=False)
        self._zero_shot.move_to_end(key)
        return await asyncio.shield(running)

    async def _build_zero_shot(self, choices: ChoiceSet, group: str) -> EncoderHead:
        embedded = await self._embed(choices.descriptions, group, priority=Priority.INTERACTIVE)
        return EncoderHead.zero_shot(embedded.embeddings, choices.names)

    async def _embed(self, texts: Sequence[str], group: str, *, priority: Priority, deadline_s: float | None = None) -> Embedded:
        future: asyncio.Future[Embedded] = asyncio.get_running_loop().create_future()
        worker = self._worker
        job = EncodeJob(
            texts=texts,
            group=group,
            priority=priority,
            on_done=lambda done: worker.emit(settle, future, done),
            on_error=lambda error: worker.emit(settle_error, future, error),
            ends_at=None if deadline_s is None else time.monotonic() + deadline_s,
        )
        worker.post(lambda: self.runtime.submit(job), on_error=job.on_error)
        try:
            return await future
        finally:
            job.is_cancelled = job.is_cancelled or future.cancelled()


def load_head(directory: Path, manifest: Manifest) -> EncoderHead | TurnHead:
    """Read the head of a bundle directory: over labels for classification, over turns for summaries. Raises AdapterError."""
    try:
        return TurnHead.load(directory) if manifest.task == TaskKind.SUMMARY else EncoderHead.load(directory, manifest)
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        message = f"the head in {directory} cannot be read ({type(error).__name__}); write the bundle again"
        raise AdapterError(message) from error


def merge_labels(known: FloatArray, labels: Sequence[str], *, names: Sequence[str], zero_shot: FloatArray | None) -> FloatArray:
    """Map a head's probabilities, shape (n, len(labels)), to `names` by name; shape (n, len(names)), rows sum to 1.

    Labels the head does not know keep their zero-shot probability (over all of `names`); the head shares what is left among those
    it knows. Labels that are no longer asked for lose theirs. With nothing in common the zero-shot distribution stands alone.
    """
    row_of = {label: row for row, label in enumerate(labels)}
    columns = [column for column, name in enumerate(names) if name in row_of]
    rows = [row_of[names[column]] for column in columns]
    result = np.zeros((len(known), len(names)), np.float32) if zero_shot is None else _normalise(zero_shot)
    if columns:
        left = 1.0 if len(columns) == len(names) else result[:, columns].sum(axis=1, keepdims=True)
        result[:, columns] = _normalise(known[:, rows]) * left
    return _normalise(result)


def _mark_seen(finished: "asyncio.Task[EncoderHead]") -> None:
    """Whoever waits gets the error; if all of them have gone, nobody needs to hear of it."""
    if not finished.cancelled():
        finished.exception()


def _normalise(probabilities: FloatArray) -> FloatArray:
    """Scale rows to sum to 1; a row without any mass becomes uniform."""
    positive = np.maximum(np.nan_to_num(probabilities.astype(np.float64)), 0.0)
    total = positive.sum(axis=1, keepdims=True)
    uniform = np.full_like(positive, 1.0 / positive.shape[1])
    return np.where(total > 0, positive / np.maximum(total, 1e-300), uniform).astype(np.float32)


def _close_lane(opening: "asyncio.Future[Lane]") -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()
