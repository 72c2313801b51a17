"""The encoder on the owner thread: texts become tokens, tokens of many requests become one batch, a batch becomes embeddings.

Knows llama.cpp through `bot.engine.llama` and the order of work through `bot.engine.scheduler`; not heads, labels or requests.
"""

import itertools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from bot.engine.gguf_file import GGUFHead
from bot.engine.llama import POOLING_MEAN, ContextSettings, IntArray, LlamaContext, LlamaModel, LoraAdapter
from bot.engine.protocol import AdapterError, EngineError, FloatArray, Priority
from bot.engine.scheduler import Item, pick_batch
from bot.engine.settings import EngineSettings
from bot.engine.text import cut_middle, cut_text
from bot.engine.worker import NOT_RUNNING
from bot.types import BASE

WINDOW: Final = 64
"""Sequences of each queue that the scheduler looks at: enough to fill a batch, few enough to stay cheap under a long queue."""
MAX_SEQUENCES: Final = 32
"""Most sequences in one batch; short ones (label names) fill a batch of 192 tokens with about that many."""
_FRAME_PROBE: Final = "a"


@dataclass(frozen=True)
class Embedded:
    """What a job gives: unit-norm embeddings, shape (n_texts, n_embd), and how many tokens it read."""

    embeddings: FloatArray
    n_tokens: int
    is_truncated: bool


@dataclass(eq=False, slots=True)
class EncodeJob:
    """Texts of one request under one adapter's LoRA weights. The callbacks run on the owner thread, exactly one of them, once."""

    texts: Sequence[str]
    group: str
    priority: Priority
    on_done: Callable[[Embedded], None]
    on_error: Callable[[EngineError], None]
    is_cancelled: bool = False
    n_left: int = 0
    n_tokens: int = 0
    is_truncated: bool = False
    embeddings: FloatArray = field(default_factory=lambda: np.empty((0, 0), np.float32))


@dataclass(eq=False, slots=True)
class _Waiting:
    item: Item
    job: EncodeJob
    index: int
    tokens: IntArray


class EncoderRuntime:
    """Batches sequences of one LoRA group at a time. All methods run on the owner thread."""

    def __init__(self, path: Path, head: GGUFHead, settings: EngineSettings) -> None:
        self._path = path
        self._head = head
        self._settings = settings
        self._model: LlamaModel | None = None
        self._context: LlamaContext | None = None
        self._loras: dict[str, LoraAdapter] = {}
        self._current: list[_Waiting] = []
        self._queues: dict[tuple[str, Priority], deque[_Waiting]] = {}
        self._last_served: dict[str, int] = {}
        self._orders = itertools.count()
        self._step = 0
        self._frame: tuple[list[int], list[int]] = ([], [])
        self._limit = 0

    def open(self) -> None:
        """Load model and context. Raises ModelFileError."""
        settings = self._settings
        model = self._model = LlamaModel(self._path, n_gpu_layers=settings.n_gpu_layers)
        self._limit = min(settings.text_tokens, model.n_ctx_train or settings.text_tokens)
        n_batch = max(settings.encoder_batch_tokens, self._limit)  # a sequence must fit whole into one batch
        pooling = self._head.pooling_type or POOLING_MEAN
        self._context = LlamaContext(
            model,
            ContextSettings(
                n_ctx=n_batch, n_batch=n_batch, n_seq_max=MAX_SEQUENCES, n_threads=settings.n_threads, pooling_type=pooling
            ),
        )
        whole, bare = model.tokenize(_FRAME_PROBE, add_special=True), model.tokenize(_FRAME_PROBE, add_special=False)
        start = next((at for at in range(len(whole)) if whole[at : at + len(bare)] == bare), 0)
        self._frame = (whole[:start], whole[start + len(bare) :])

    def close(self) -> None:
        """Free context, adapters and model."""
        if self._context is not None:
            self._context.close()
        for lora in self._loras.values():
            lora.close()
        self._loras.clear()
        if self._model is not None:
            self._model.close()
        self._context = self._model = None

    def load_lora(self, group: str, path: Path) -> None:
        """Load LoRA weights under a group's name. Raises AdapterError."""
        if group not in self._loras:
            if self._model is None:
                raise AdapterError(NOT_RUNNING)
            self._loras[group] = LoraAdapter(self._model, path)

    def free_lora(self, group: str) -> None:
        """Free a group's LoRA weights; nothing of the group may be queued any more."""
        lora = self._loras.pop(group, None)
        if lora is not None:
            if self._context is not None:
                self._context.set_lora(None)
            lora.close()

    def submit(self, job: EncodeJob) -> None:
        """Tokenise a job and queue its sequences."""
        model = self._model
        if job.is_cancelled or model is None:
            return
        if job.group != BASE and job.group not in self._loras:
            job.on_error(EngineError(f"adapter {job.group[:12]} is not loaded; load it first"))
            return
        job.n_left = len(job.texts)
        job.embeddings = np.empty((len(job.texts), model.n_embd), np.float32)
        if not job.texts:
            job.on_done(Embedded(job.embeddings, 0, is_truncated=False))
            return
        queue = self._queues.setdefault((job.group, job.priority), deque())
        for index, text in enumerate(job.texts):
            tokens = self._tokenize(model, text, job)
            item = Item(n_tokens=len(tokens), group=job.group, order=next(self._orders), priority=job.priority)
            queue.append(_Waiting(item, job, index, tokens))

    def _tokenize(self, model: LlamaModel, text: str, job: EncodeJob) -> IntArray:
        before, after = self._frame
        short, is_cut = cut_text(text, self._limit)
        body, is_truncated = cut_middle(model.tokenize(short, add_special=False), self._limit - len(before) - len(after))
        job.is_truncated |= is_cut or is_truncated
        tokens = np.array([*before, *body, *after], np.int32)
        job.n_tokens += len(tokens)
        return tokens

    def has_work(self) -> bool:
        """Whether any sequence waits."""
        return any(self._queues.values())

    def step(self) -> None:
        """Embed one batch."""
        self._drop_cancelled()
        window = [waiting for queue in self._queues.values() for waiting in itertools.islice(queue, WINDOW)]
        picked = pick_batch(
            [waiting.item for waiting in window],
            step=self._step,
            last_served=self._last_served,
            budget_tokens=self._settings.encoder_batch_tokens,
            max_items=MAX_SEQUENCES,
        )
        if not picked:
            return
        batch = [window[index] for index in picked]
        group = batch[0].item.group
        self._last_served[group] = self._step
        self._step += 1
        self._remove(batch)
        self._current = batch
        try:
            self._compute(batch, self._loras.get(group))
        except EngineError as error:
            for waiting in batch:
                self._fail(waiting.job, error)
        self._current = []

    def _compute(self, batch: Sequence[_Waiting], lora: LoraAdapter | None) -> None:
        if self._context is None:
            raise EngineError(NOT_RUNNING)
        self._context.set_lora(lora)
        raw = self._context.encode([waiting.tokens for waiting in batch])
        norms = np.linalg.norm(raw, axis=1, keepdims=True)
        unit = raw / np.maximum(norms, 1e-12)
        for waiting, embedding in zip(batch, unit, strict=True):
            job = waiting.job
            job.embeddings[waiting.index] = embedding
            job.n_left -= 1
            if job.n_left == 0 and not job.is_cancelled:
                job.on_done(Embedded(job.embeddings, job.n_tokens, is_truncated=job.is_truncated))

    def fail_all(self, error: EngineError) -> None:
        """Fail every job that is queued or was being computed with this error."""
        current, self._current = self._current, []
        for waiting in [*current, *self._drain()]:
            self._fail(waiting.job, error)

    def _fail(self, job: EncodeJob, error: EngineError) -> None:
        if not job.is_cancelled:
            job.is_cancelled = True  # its other sequences leave the queue at the next step
            job.on_error(error)

    def _drain(self) -> Iterator[_Waiting]:
        for queue in self._queues.values():
            while queue:
                yield queue.popleft()

    def _drop_cancelled(self) -> None:
        for key, queue in self._queues.items():
            if any(waiting.job.is_cancelled for waiting in queue):
                self._queues[key] = deque(waiting for waiting in queue if not waiting.job.is_cancelled)

    def _remove(self, batch: Sequence[_Waiting]) -> None:
        key_of = {(waiting.item.group, waiting.item.priority) for waiting in batch}
        taken = {id(waiting) for waiting in batch}
        for key in key_of:
            queue = self._queues[key]
            kept = [waiting for waiting in itertools.islice(queue, WINDOW) if id(waiting) not in taken]
            for _ in range(min(WINDOW, len(queue))):
                queue.popleft()
            queue.extendleft(reversed(kept))
            if not queue:
                del self._queues[key]
