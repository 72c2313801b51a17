"""The encoder on the owner thread: texts become tokens, tokens of many requests become one batch, a batch becomes embeddings.

Knows llama.cpp through `bot.engine.llama` and the order of work through `bot.engine.scheduler`; not heads, labels or requests.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from bot.engine.encode_queue import Embedded, EncodeJob, EncodeQueue, Waiting
from bot.engine.gguf_file import GGUFHead
from bot.engine.lane import Lane, can_merge, open_lane, open_merged_lane
from bot.engine.llama import POOLING_MEAN, ContextSettings, IntArray, LlamaModel, LoraAdapter
from bot.engine.metrics import EngineMetrics
from bot.engine.protocol import AdapterError, DeadlineError, EngineError
from bot.engine.settings import EngineSettings
from bot.engine.text import cut_middle, cut_text
from bot.engine.worker import NOT_RUNNING
from bot.types import BASE

MAX_SEQUENCES: Final = 32
"""Most sequences in one batch; short ones (label names) fill a batch of 192 tokens with about that many."""
TILE_TOKENS: Final = 64
"""From this many tokens on llama.cpp computes attention in tiles, with 32-bit sums; below, row by row with 16-bit sums, which 8-bit weights
turn into up to 0.01 of a probability. With quantised weights smaller batches are filled up, so that a ticket alone goes through the arithmetic
it meets in company."""
_FRAME_PROBE: Final = "a"


class EncoderRuntime:
    """Batches sequences of one adapter's weights at a time. All methods but `open_merged` run on the owner thread.

    Where the model is small enough each adapter is added into weights of its own (`bot.engine.merge`), which computes faster than LoRA
    beside the base and gives a ticket the same answer alone and in a batch; else LoRA weights are set on the one base between steps.
    """

    def __init__(self, path: Path, head: GGUFHead, *, settings: EngineSettings, metrics: EngineMetrics) -> None:
        self._path = path
        self._head = head
        self._settings = settings
        self._metrics = metrics
        self._base: Lane | None = None
        self._lanes: dict[str, Lane] = {}
        self._loras: dict[str, LoraAdapter] = {}
        self._current: list[Waiting] = []
        self._queue = EncodeQueue()
        self._frame: tuple[list[int], list[int]] = ([], [])
        self._limit = settings.text_tokens
        self.is_merging = can_merge(head, limit_mib=settings.merge_limit_mib)

    @property
    def groups(self) -> tuple[str, ...]:
        """The adapters whose weights are held beside the base's."""
        return (*self._lanes, *self._loras)

    def open(self) -> None:
        """Load model and context. Raises ModelFileError."""
        trained = self._head.get_int("context_length")
        self._limit = min(self._settings.text_tokens, trained or self._settings.text_tokens)
        if self.is_merging:
            self._base = self.open_merged(None)
        else:
            self._base = open_lane(self._path, settings=self._size(), n_gpu_layers=self._settings.n_gpu_layers)
        model = self._base.model
        whole, bare = model.tokenize(_FRAME_PROBE, add_special=True), model.tokenize(_FRAME_PROBE, add_special=False)
        start = next((at for at in range(len(whole)) if whole[at : at + len(bare)] == bare), 0)
        self._frame = (whole[:start], whole[start + len(bare) :])

    def open_merged(self, lora: Path | None) -> Lane:
        """Return weights with an adapter added in, for `load_lora`; may be called on any thread. Raises AdapterError."""
        n_gpu_layers = self._settings.n_gpu_layers
        return open_merged_lane(self._path, self._head, lora=lora, settings=self._size(), n_gpu_layers=n_gpu_layers)

    def _size(self) -> ContextSettings:
        n_batch = max(self._settings.encoder_batch_tokens, self._limit, TILE_TOKENS)  # a sequence must fit whole into one batch
        return ContextSettings(
            n_ctx=n_batch,
            n_batch=n_batch,
            n_seq_max=MAX_SEQUENCES + 1,
            n_threads=self._settings.n_threads,
            pooling_type=self._head.pooling_type or POOLING_MEAN,
        )

    def close(self) -> None:
        """Free contexts, adapters and models."""
        for lane in self._lanes.values():
            lane.close()
        self._lanes.clear()
        if self._base is not None:
            self._base.context.close()
        for lora in self._loras.values():
            lora.close()
        self._loras.clear()
        if self._base is not None:
            self._base.close()
        self._base = None

    def load_lora(self, group: str, path: Path, *, lane: Lane | None) -> None:
        """Take over an adapter's weights under a group's name, or load its LoRA matrices beside the base. Raises AdapterError."""
        if self._base is None:
            raise AdapterError(NOT_RUNNING)
        if group in self._lanes or group in self._loras:
            if lane is not None:
                lane.close()
        elif lane is not None:
            self._lanes[group] = lane
        else:
            self._loras[group] = LoraAdapter(self._base.model, path)

    def free_lora(self, group: str) -> None:
        """Free a group's weights; what of the group is still queued fails."""
        for job in self._queue.take_group(group):
            self._fail(job, EngineError(f"adapter {group[:12]} was unloaded before the request was answered; ask again"))
        self._queue.forget_group(group)
        lane = self._lanes.pop(group, None)
        if lane is not None:
            lane.close()
        lora = self._loras.pop(group, None)
        if lora is not None:
            if self._base is not None:
                self._base.context.set_lora(None)
            lora.close()

    def submit(self, job: EncodeJob) -> None:
        """Tokenise a job and queue its sequences."""
        if job.is_cancelled or self._base is None:
            return
        model = self._base.model
        if job.group != BASE and job.group not in self._lanes and job.group not in self._loras:
            job.on_error(EngineError(f"adapter {job.group[:12]} is not loaded; load it first"))
            return
        job.n_left = len(job.texts)
        job.embeddings = np.empty((len(job.texts), model.n_embd), np.float32)
        if not job.texts:
            job.on_done(Embedded(job.embeddings, 0, is_truncated=False))
            return
        for index, text in enumerate(job.texts):
            self._queue.add(job, index, self._tokenize(model, text, job))

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
        return len(self._queue) > 0

    def step(self) -> None:
        """Embed one batch."""
        self._drop_gone()
        batch = self._current = self._queue.take_batch(budget_tokens=self._settings.encoder_batch_tokens, max_items=MAX_SEQUENCES)
        if not batch:
            return
        started = time.monotonic()
        group = batch[0].item.group
        try:
            self._compute(batch, group)
        except EngineError as error:
            for waiting in batch:
                self._fail(waiting.job, error)
        self._current = []
        n_tokens = sum(waiting.item.n_tokens for waiting in batch)
        self._metrics.count_step(n_items=len(batch), n_tokens=n_tokens, seconds=time.monotonic() - started)
        self._metrics.count_tokens(group, prefill=n_tokens)

    def _compute(self, batch: Sequence[Waiting], group: str) -> None:
        if self._base is None:
            raise EngineError(NOT_RUNNING)
        if group != BASE and group not in self._lanes and group not in self._loras:
            raise EngineError(f"adapter {group[:12]} is not loaded; load it first")  # never the base's answer in its name
        tokens = [waiting.tokens for waiting in batch]
        if self.is_merging:
            raw = self._lanes.get(group, self._base).context.encode(tokens)
        else:
            self._base.context.set_lora(self._loras.get(group))
            raw = self._base.context.encode(tokens, fill_to=TILE_TOKENS)
        unit = raw / np.maximum(np.linalg.norm(raw, axis=1, keepdims=True), 1e-12)
        for waiting, embedding in zip(batch, unit, strict=True):
            job = waiting.job
            job.embeddings[waiting.index] = embedding
            job.n_left -= 1
            if job.n_left == 0 and not job.is_cancelled:
                job.on_done(Embedded(job.embeddings, job.n_tokens, is_truncated=job.is_truncated))

    def fail_all(self, error: EngineError) -> None:
        """Fail every job that is queued or was being computed with this error."""
        current, self._current = self._current, []
        for job in [*(waiting.job for waiting in current), *self._queue.drain()]:
            self._fail(job, error)

    def _fail(self, job: EncodeJob, error: EngineError) -> None:
        if not job.is_cancelled:
            job.is_cancelled = True  # its other sequences leave the queue at the next step
            job.on_error(error)

    def _drop_gone(self) -> None:
        now = time.monotonic()
        for job in self._queue.take_gone(now):
            if job.is_late(now):
                self._metrics.count_expired()
                self._fail(job, DeadlineError("the request's deadline passed while it waited; try again or allow more time"))
