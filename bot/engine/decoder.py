"""The decoder on the owner thread: fills each batch from many requests under one adapter's LoRA weights, and settles what it completes.

Knows llama.cpp through `bot.engine.llama` and the order of work; who holds what of the cache is in `bot.engine.seats`, what a slot does
with its logits in `slots`, `scoring` and `writing`.
"""

import itertools
import time
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bot.engine.llama import ContextSettings, LlamaContext, LlamaModel, LoraAdapter
from bot.engine.metrics import EngineMetrics
from bot.engine.prompts import PromptReader
from bot.engine.protocol import AdapterError, EngineError, Priority
from bot.engine.scheduler import Item, choose_group, count_held, is_bulk_turn, share_tokens
from bot.engine.scoring import ScoreSlot
from bot.engine.seats import Seats
from bot.engine.settings import EngineSettings
from bot.engine.slots import BatchShare, DecodeJob, Slot
from bot.engine.worker import NOT_RUNNING
from bot.types import BASE

FULL_TILE: Final = 64
"""Rows from which llama.cpp's attention takes its tiled path, an order of magnitude faster per row and rounded otherwise: a batch that
scores labels is filled up to it, first with branches that may be needed, so that the same ticket gives the same answer in any batch."""
PROMPT_SHARE: Final = 4
"""One prompt gets one in so many tokens of a batch, at least FULL_TILE, before the others behind it had theirs."""
LINGER_S: Final = 0.002
"""Wait for the next tickets of those just answered before a step that holds nothing but a few branches."""
BULK_PATIENCE: Final = 4
"""Steps of bulk work in a row after which nobody is taken to wait for an answer, and bulk work fills whole batches."""
BRANCHING_MEMORY: Final = 16
"""Tickets over which the share that needs a second step is averaged."""


class DecoderRuntime:
    """Continuous batching over one context. All methods run on the owner thread, except `count_waiting`."""

    def __init__(self, path: Path, settings: EngineSettings, *, metrics: EngineMetrics) -> None:
        self._path = path
        self._settings = settings
        self._metrics = metrics
        self._model: LlamaModel | None = None
        self._context: LlamaContext | None = None
        self._reader: PromptReader | None = None
        self._seats: Seats | None = None
        self._loras: dict[str, LoraAdapter] = {}
        self._lanes: list[int] = []
        self._filler = -1
        self._orders = itertools.count()
        self._last_served: OrderedDict[str, int] = OrderedDict()
        self._step = 0
        self._n_bulk_steps = 0
        self._may_linger = False
        self._share_branching = 0.0

    @property
    def n_running(self) -> int:
        """Slots that hold a sequence now."""
        return len(self._seats.running) if self._seats is not None else 0

    @property
    def n_free_sequences(self) -> int:
        """Sequences that no prefix or request holds."""
        return self._seats.n_free_sequences if self._seats is not None else 0

    @property
    def n_vocab(self) -> int:
        """Size of the vocabulary; 0 before the start."""
        return self._model.n_vocab if self._model is not None else 0

    @property
    def label_top_k(self) -> int:
        """Labels at the top whose probability is computed exactly; 0 for all."""
        return self._settings.label_top_k

    def count_waiting(self, priority: Priority) -> int:
        """Return how many requests wait for a sequence; may be called from any thread."""
        seats = self._seats
        return sum(slot.priority == priority for slot in list(seats.waiting)) if seats is not None else 0

    @property
    def groups(self) -> tuple[str, ...]:
        """The adapters whose LoRA weights are loaded."""
        return tuple(self._loras)

    def open(self) -> None:
        """Load model and context. Raises ModelFileError."""
        settings = self._settings
        model = self._model = LlamaModel(self._path, n_gpu_layers=settings.n_gpu_layers)
        n_ctx = max(settings.n_ctx, 2 * settings.n_batch)
        n_seq = settings.n_seq_max
        context = self._context = LlamaContext(
            model, ContextSettings(n_ctx=n_ctx, n_batch=settings.n_batch, n_seq_max=n_seq, n_threads=settings.n_threads)
        )
        n_spare = max(2, n_seq // 2)
        self._filler, *self._lanes = range(n_seq - n_spare, n_seq)
        # branches of the label tree and filler live for one step and take at most a batch; that much is kept apart
        n_cells = n_ctx - context.n_batch
        self._seats = Seats(
            context,
            n_cells=n_cells,
            n_sequences=n_seq - n_spare,
            prefix_limit=settings.prefix_limit,
            metrics=self._metrics,
        )
        self._reader = PromptReader(model, settings, n_cells=n_cells)

    def close(self) -> None:
        """Free context, adapters and model."""
        if self._context is not None:
            self._context.close()
        for lora in self._loras.values():
            lora.close()
        self._loras.clear()
        if self._model is not None:
            self._model.close()
        self._context = self._seats = self._reader = self._model = None

    def load_lora(self, group: str, path: Path) -> None:
        """Load LoRA weights under a group's name. Raises AdapterError."""
        if self._model is None:
            raise AdapterError(NOT_RUNNING)
        if group not in self._loras:
            self._loras[group] = LoraAdapter(self._model, path)

    def free_lora(self, group: str) -> None:
        """Free a group's LoRA weights and its prefixes; what of the group is still queued fails."""
        if self._seats is not None:
            self._seats.evict_group(group)
        self._last_served.pop(group, None)
        lora = self._loras.pop(group, None)
        if lora is not None:
            if self._context is not None:
                self._context.set_lora(None)
            lora.close()

    def submit(self, job: DecodeJob) -> None:
        """Tokenise a job and queue it."""
        if job.is_cancelled:
            return
        try:
            self._queue(job)
        except EngineError as error:
            job.on_error(error)

    def _queue(self, job: DecodeJob) -> None:
        if self._reader is None or self._seats is None:
            raise EngineError(NOT_RUNNING)
        if job.group != BASE and job.group not in self._loras:
            message = f"adapter {job.group[:12]} is not loaded; load it first"
            raise EngineError(message)
        self._seats.waiting.append(self._reader.build_slot(job, order=next(self._orders)))

    def has_work(self) -> bool:
        """Whether anything waits or runs."""
        return self._seats is not None and bool(self._seats.waiting or self._seats.running)

    def fail_all(self, error: EngineError) -> None:
        """Fail everything that waits or runs."""
        if self._seats is not None:
            self._seats.fail_all(error)

    def step(self) -> None:
        """Admit what fits, compute one batch, settle what it completes."""
        context, seats = self._context, self._seats
        if context is None or seats is None:
            raise EngineError(NOT_RUNNING)
        seats.drop_cancelled()
        seats.admit()
        ready = seats.find_ready()
        if not ready or self._linger(ready):
            seats.release_done()
            return
        items = [Item(n_tokens=slot.n_next, group=slot.group, order=slot.order, priority=slot.priority) for slot in ready]
        group = choose_group(items, step=self._step, last_served=self._last_served)
        is_bulk_first = is_bulk_turn(self._step)
        self._last_served[group] = self._step
        self._step += 1
        members = [slot for slot in ready if slot.group == group]
        members.sort(key=lambda slot: (-slot.priority if is_bulk_first else slot.priority, slot.is_reading, slot.order))
        # bulk work has its turns, but short ones while people ask: somebody waits for the step to end, or is about to
        is_bulk = members[0].priority == Priority.BULK
        self._n_bulk_steps = self._n_bulk_steps + 1 if is_bulk else 0
        most = context.n_batch
        if is_bulk and self._n_bulk_steps <= BULK_PATIENCE:
            most = FULL_TILE if members[0].is_reading else max(FULL_TILE, members[0].n_next)  # a path of branches must fit whole
        self._compute(context, self._hold_back(members), self._loras.get(group), most=most)
        seats.release_done()

    def _hold_back(self, members: list[Slot]) -> list[Slot]:
        prompts = [slot for slot in members if isinstance(slot, ScoreSlot) and slot.is_reading]
        n_branching = sum(isinstance(slot, ScoreSlot) and not slot.is_reading for slot in members)
        n_held = count_held(len(prompts), n_branching=n_branching, share_branching=self._share_branching)
        held = set(prompts[len(prompts) - n_held :])
        return [slot for slot in members if slot not in held]

    def _linger(self, ready: Sequence[Slot]) -> bool:
        """Whether to wait a moment: right after answers, where only branches or bulk work are left, the next tickets are about to come."""
        if not self._may_linger or any(slot.priority == Priority.INTERACTIVE and slot.is_reading for slot in ready):
            return False
        if any(slot.priority == Priority.INTERACTIVE and not isinstance(slot, ScoreSlot) for slot in ready):
            return False  # text is being written
        self._may_linger = False
        time.sleep(LINGER_S)
        return True

    def _compute(self, context: LlamaContext, members: list[Slot], lora: LoraAdapter | None, *, most: int) -> None:
        started = time.perf_counter()
        context.begin()
        filled = self._fill(context, members, most=most)
        context.set_lora(lora)
        n_prefill = sum(slot.n_last for slot in filled if slot.was_reading)
        try:
            context.decode()
        except EngineError as error:
            for slot in filled:
                slot.fail(error)
            return
        finally:
            context.remove_sequence(self._filler)
        for slot in filled:
            slot.take(context)
        self._may_linger = any(slot.is_done and slot.priority == Priority.INTERACTIVE for slot in filled)
        for slot in filled:
            if isinstance(slot, ScoreSlot) and slot.was_reading and not slot.is_reading:
                self._share_branching += (float(not slot.is_done) - self._share_branching) / BRANCHING_MEMORY
        self._metrics.count_step(n_items=len(filled), n_tokens=context.n_tokens, seconds=time.perf_counter() - started)
        self._metrics.count_tokens(members[0].group, prefill=n_prefill, decode=sum(slot.n_last for slot in filled) - n_prefill)

    def _fill(self, context: LlamaContext, members: list[Slot], *, most: int) -> list[Slot]:
        """Fill the batch with up to `most` tokens in the order of `members` and return those that are in it."""
        limit = max(FULL_TILE, context.n_batch // PROMPT_SHARE)
        shares = share_tokens([slot.n_next for slot in members], room=min(most, context.room), limit=limit)
        tile = min(FULL_TILE, context.room)
        n_idle = max(0, tile - sum(shares))
        n_scoring = sum(isinstance(slot, ScoreSlot) for slot in members)
        lanes, n_owed = list(self._lanes), sum(shares)
        filled = []
        for slot, share in zip(members, shares, strict=True):
            before = context.n_tokens
            n_guesses = n_idle // n_scoring if isinstance(slot, ScoreSlot) else 0
            batch = BatchShare(share, n_guesses, n_spare=context.room - n_owed, lanes=lanes)
            n_owed -= share
            if share > 0 and slot.fill(context, batch):
                filled.append(slot)
            if isinstance(slot, ScoreSlot):
                n_scoring -= 1
                n_idle -= max(0, context.n_tokens - before - share)
        n_missing = tile - context.n_tokens
        if n_missing > 0 and any(isinstance(slot, ScoreSlot) for slot in filled):
            context.add_run([0] * n_missing, position=0, seq_id=self._filler)
        return filled
