"""The decoder on the owner thread: admits requests into the cache, shares prompt prefixes, and fills each batch from many slots.

Knows llama.cpp through `bot.engine.llama`, accounting of sequences and cells, and the order of work; what a slot does with its
logits is in `bot.engine.slots`, `scoring` and `writing`. One batch runs under one adapter's LoRA weights.
"""

import itertools
from collections import OrderedDict
from pathlib import Path
from typing import Final

from bot.engine.llama import ContextSettings, LlamaContext, LlamaModel, LoraAdapter
from bot.engine.prefixes import Prefix, PrefixCache, PrefixKey
from bot.engine.prompts import PromptReader
from bot.engine.protocol import AdapterError, EngineError, Priority
from bot.engine.scheduler import Item, choose_group, is_bulk_turn
from bot.engine.scoring import ScoreSlot
from bot.engine.settings import EngineSettings
from bot.engine.slots import DecodeJob, PrefixSlot, RequestSlot, Slot
from bot.engine.worker import NOT_RUNNING
from bot.types import BASE

BULK_RESERVE: Final = 4
"""Bulk requests leave one sequence in so many free, so that an interactive one always gets in."""


class DecoderRuntime:
    """Continuous batching over one context. All methods run on the owner thread."""

    def __init__(self, path: Path, settings: EngineSettings) -> None:
        self._path = path
        self._settings = settings
        self._model: LlamaModel | None = None
        self._context: LlamaContext | None = None
        self._reader: PromptReader | None = None
        self._loras: dict[str, LoraAdapter] = {}
        self._prefixes = PrefixCache()
        self._waiting: list[RequestSlot] = []
        self._running: list[Slot] = []
        self._entry_of: dict[RequestSlot, Prefix] = {}
        self._free: list[int] = []
        self._lanes: list[int] = []
        self._n_free_cells = 0
        self._orders = itertools.count()
        self._last_served: OrderedDict[str, int] = OrderedDict()
        self._step = 0

    @property
    def n_running(self) -> int:
        """Slots that hold a sequence now."""
        return len(self._running)

    @property
    def n_free_sequences(self) -> int:
        """Sequences that no prefix or request holds."""
        return len(self._free)

    @property
    def n_vocab(self) -> int:
        """Size of the vocabulary; 0 before the start."""
        return self._model.n_vocab if self._model is not None else 0

    def open(self) -> None:
        """Load model and context. Raises ModelFileError."""
        settings = self._settings
        model = self._model = LlamaModel(self._path, n_gpu_layers=settings.n_gpu_layers)
        n_ctx = max(settings.n_ctx, 2 * settings.n_batch)
        n_seq = settings.n_seq_max
        self._context = LlamaContext(
            model, ContextSettings(n_ctx=n_ctx, n_batch=settings.n_batch, n_seq_max=n_seq, n_threads=settings.n_threads)
        )
        n_lanes = max(1, n_seq // 2)
        self._lanes = list(range(n_seq - n_lanes, n_seq))
        self._free = list(range(n_seq - n_lanes))
        # branches of the label tree live for one step and take at most a batch; that much is kept apart
        self._n_free_cells = n_ctx - self._context.n_batch
        self._reader = PromptReader(model, settings, n_cells=self._n_free_cells)

    def close(self) -> None:
        """Free context, adapters and model."""
        self._prefixes.clear()
        if self._context is not None:
            self._context.close()
        for lora in self._loras.values():
            lora.close()
        self._loras.clear()
        if self._model is not None:
            self._model.close()
        self._context = self._reader = self._model = None

    def load_lora(self, group: str, path: Path) -> None:
        """Load LoRA weights under a group's name. Raises AdapterError."""
        if self._model is None:
            raise AdapterError(NOT_RUNNING)
        if group not in self._loras:
            self._loras[group] = LoraAdapter(self._model, path)

    def free_lora(self, group: str) -> None:
        """Free a group's LoRA weights and its prefixes; no request of the group may be queued any more."""
        for key in self._prefixes.find_group(group):
            self._evict(key)
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
            self._waiting.append(self._build_slot(job))
        except EngineError as error:
            job.on_error(error)

    def _build_slot(self, job: DecodeJob) -> RequestSlot:
        if self._reader is None:
            raise EngineError(NOT_RUNNING)
        if job.group != BASE and job.group not in self._loras:
            message = f"adapter {job.group[:12]} is not loaded; load it first"
            raise EngineError(message)
        return self._reader.build_slot(job, order=next(self._orders))

    def has_work(self) -> bool:
        """Whether anything waits or runs."""
        return bool(self._waiting or self._running)

    def fail_all(self, error: EngineError) -> None:
        """Fail everything that waits or runs."""
        for slot in [*self._waiting, *self._running]:
            slot.fail(error)
        self._waiting.clear()
        self._release_done()

    def step(self) -> None:
        """Admit what fits, compute one batch, settle what it completes."""
        context = self._context
        if context is None:
            raise EngineError(NOT_RUNNING)
        self._drop_cancelled()
        self._admit()
        ready = [slot for slot in self._running if self._is_ready(slot)]
        if not ready:
            return
        items = [Item(n_tokens=slot.n_next, group=slot.group, order=slot.order, priority=slot.priority) for slot in ready]
        group = choose_group(items, step=self._step, last_served=self._last_served)
        is_bulk_first = is_bulk_turn(self._step)
        self._last_served[group] = self._step
        self._step += 1
        members = [slot for slot in ready if slot.group == group]
        members.sort(key=lambda slot: (-slot.priority if is_bulk_first else slot.priority, slot.is_reading, slot.order))
        self._compute(context, members, self._loras.get(group))
        self._release_done()

    def _compute(self, context: LlamaContext, members: list[Slot], lora: LoraAdapter | None) -> None:
        context.begin()
        lanes = list(self._lanes)
        filled = [slot for slot in members if slot.fill(context, lanes)]
        context.set_lora(lora)
        try:
            context.decode()
        except EngineError as error:
            for slot in filled:
                slot.fail(error)
            return
        for slot in filled:
            slot.take(context)

    def _is_ready(self, slot: Slot) -> bool:
        """Whether a slot may compute; a request behind a prefix waits for it, then shares its cache entries."""
        if not isinstance(slot, RequestSlot) or slot.position > 0 or slot not in self._entry_of:
            return True
        entry = self._entry_of[slot]
        if not entry.is_ready or self._context is None:
            return False
        if entry.slot.error is not None:
            slot.fail(entry.slot.error)
            return False
        self._context.copy_sequence(entry.slot.seq_id, slot.seq_id)
        slot.position = entry.slot.position
        return True

    def _admit(self) -> None:
        """Give waiting requests a sequence and cells, interactive ones first, each group's in order of arrival."""
        self._waiting.sort(key=lambda slot: (slot.priority, slot.order))
        while self._waiting:
            slot = self._waiting[0]
            if not self._try_admit(slot):
                if self._running:
                    return
                slot.fail(
                    EngineError("the request needs more of the cache than there is; raise engine.n_ctx or engine.n_seq_max")
                )
            self._waiting.pop(0)

    def _try_admit(self, slot: RequestSlot) -> bool:
        entry: Prefix | None = None
        if slot.prefix_tokens:
            key: PrefixKey = (slot.group, slot.prefix_tokens)
            entry = self._prefixes.get(key) or self._start_prefix(key, slot)
            if entry is None:
                return False
            entry.slot.priority = min(entry.slot.priority, slot.priority)
            entry.n_users += 1  # from here on it cannot be evicted for its own request
        reserve = len(self._free) // BULK_RESERVE if slot.priority == Priority.BULK and self._running else 0
        if not self._take_sequence(slot, reserve=reserve):
            if entry is not None:
                entry.n_users -= 1
            return False
        if entry is not None:
            self._entry_of[slot] = entry
        return True

    def _start_prefix(self, key: PrefixKey, slot: RequestSlot) -> Prefix | None:
        while len(self._prefixes) >= self._settings.prefix_limit:
            idle = self._prefixes.find_idle()
            if idle is None:
                return None
            self._evict(idle)
        prefix = PrefixSlot(key[1], group=key[0], priority=slot.priority, order=slot.order)
        return self._prefixes.add(key, prefix) if self._take_sequence(prefix, reserve=0) else None

    def _take_sequence(self, slot: Slot, *, reserve: int) -> bool:
        """Give a slot a sequence and its cells, evicting idle prefixes where needed; False where there is no room."""
        while len(self._free) <= reserve or self._n_free_cells < slot.n_cells:
            idle = self._prefixes.find_idle()
            if idle is None:
                return False
            self._evict(idle)
        slot.seq_id = self._free.pop()
        self._n_free_cells -= slot.n_cells
        self._running.append(slot)
        return True

    def _evict(self, key: PrefixKey) -> None:
        entry = self._prefixes.remove(key)
        self._give_back(entry.slot)
        if entry.slot in self._running:
            self._running.remove(entry.slot)

    def _give_back(self, slot: Slot) -> None:
        if slot.seq_id >= 0 and self._context is not None:
            if isinstance(slot, ScoreSlot):
                slot.drop_lanes(self._context)
            self._context.remove_sequence(slot.seq_id)
            self._free.append(slot.seq_id)
            self._n_free_cells += slot.n_cells
            slot.seq_id = -1

    def _drop_cancelled(self) -> None:
        self._waiting = [slot for slot in self._waiting if not slot.is_cancelled]
        for slot in self._running:
            slot.is_done = slot.is_done or slot.is_cancelled
        self._release_done()

    def _release_done(self) -> None:
        """Free what finished slots held; a prefix keeps its sequence while it stays in the cache, unless it failed."""
        for slot in [slot for slot in self._running if slot.is_done]:
            self._running.remove(slot)
            if isinstance(slot, RequestSlot):
                self._give_back(slot)
                entry = self._entry_of.pop(slot, None)
                if entry is not None:
                    entry.n_users -= 1
            elif isinstance(slot, PrefixSlot) and slot.error is not None:
                self._evict((slot.group, tuple(slot.tokens)))
