"""Who holds what of the decoder's cache: sequences, cells and shared prompt prefixes; admission by what is free.

Lives on the owner thread. Knows accounting and sequence ids; not how a batch is filled or what a slot computes.
"""

from collections import Counter
from typing import Final

from bot.engine.llama import LlamaContext
from bot.engine.metrics import EngineMetrics
from bot.engine.prefixes import Prefix, PrefixCache, PrefixKey
from bot.engine.protocol import EngineError, Priority
from bot.engine.scheduler import Item, choose_waiting
from bot.engine.scoring import ScoreSlot
from bot.engine.slots import PrefixSlot, RequestSlot, Slot

BULK_RESERVE: Final = 4
"""Bulk requests leave one sequence in so many free, so that an interactive one always gets in."""


class Seats:
    """Waiting and running slots, and the cache they share: `n_cells` cells and sequences 0 to `n_sequences` - 1 of a context."""

    def __init__(
        self, context: LlamaContext, *, n_cells: int, n_sequences: int, prefix_limit: int, metrics: EngineMetrics
    ) -> None:
        self._context = context
        self._metrics = metrics
        self._prefix_limit = prefix_limit
        self._prefixes = PrefixCache()
        self._entry_of: dict[RequestSlot, Prefix] = {}
        self._free = list(range(n_sequences))
        self._bulk_reserve = n_sequences // BULK_RESERVE
        self._n_free_cells = n_cells
        self._turn = 0
        self.waiting: list[RequestSlot] = []
        self.running: list[Slot] = []

    @property
    def n_free_sequences(self) -> int:
        """Sequences that no prefix or request holds."""
        return len(self._free)

    def find_ready(self) -> list[Slot]:
        """Return the slots that may compute; a request behind a prefix waits for it, then shares its cache entries."""
        return [slot for slot in self.running if self._is_ready(slot)]

    def _is_ready(self, slot: Slot) -> bool:
        if not isinstance(slot, RequestSlot) or slot.position > 0 or slot not in self._entry_of:
            return not slot.is_done
        entry = self._entry_of[slot]
        if not entry.is_ready:
            return False
        if entry.slot.error is not None:
            slot.fail(entry.slot.error)
            return False
        self._context.copy_sequence(entry.slot.seq_id, slot.seq_id)
        slot.position = entry.slot.position
        return True

    def admit(self) -> None:
        """Give waiting requests a sequence and cells; see `scheduler.choose_waiting` for who goes first. Who does not fit holds the others."""
        candidates = list(self.waiting)
        while candidates:
            items = [Item(slot.n_cells, slot.group, slot.order, slot.priority) for slot in candidates]
            n_running = Counter(slot.group for slot in self.running if isinstance(slot, RequestSlot))
            slot = candidates[choose_waiting(items, turn=self._turn, n_running=n_running)]
            if not self._try_admit(slot):
                urgent = [other for other in candidates if other.priority < slot.priority]
                if self.running and not urgent:
                    return
                if self.running:
                    candidates = urgent  # a bulk request that has to wait for its share holds up nobody who is more urgent
                    continue
                slot.fail(
                    EngineError("the request needs more of the cache than there is; raise engine.n_ctx or engine.n_seq_max")
                )
            self._turn += 1
            self.waiting.remove(slot)
            candidates = list(self.waiting)

    def _try_admit(self, slot: RequestSlot) -> bool:
        entry: Prefix | None = None
        is_hit = False
        if slot.prefix_tokens:
            key: PrefixKey = (slot.group, slot.prefix_tokens)
            entry = self._prefixes.get(key)
            is_hit = entry is not None
            entry = entry or self._start_prefix(key, slot)
            if entry is None:
                return False
            entry.slot.priority = min(entry.slot.priority, slot.priority)
            entry.n_users += 1  # from here on it cannot be evicted for its own request
        reserve = self._bulk_reserve if slot.priority == Priority.BULK and self.running else 0
        if not self._take_sequence(slot, reserve=reserve):
            if entry is not None:
                entry.n_users -= 1
            return False
        if entry is not None:
            self._entry_of[slot] = entry
            self._metrics.count_prefix(slot.group, is_hit=is_hit)
        return True

    def _start_prefix(self, key: PrefixKey, slot: RequestSlot) -> Prefix | None:
        while len(self._prefixes) >= self._prefix_limit:
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
        self.running.append(slot)
        return True

    def evict_group(self, group: str) -> None:
        """Fail what still waits or runs under a group's LoRA weights, and forget what was computed with them."""
        error = EngineError(f"adapter {group[:12]} was unloaded before the request was answered; ask again")
        for slot in [*self.waiting, *self.running]:
            if slot.group == group:
                slot.fail(error)
        self.waiting = [slot for slot in self.waiting if slot.group != group]
        self.release_done()
        for key in self._prefixes.find_group(group):
            self._evict(key)

    def _evict(self, key: PrefixKey) -> None:
        entry = self._prefixes.remove(key)
        self._give_back(entry.slot)
        if entry.slot in self.running:
            self.running.remove(entry.slot)

    def _give_back(self, slot: Slot) -> None:
        if slot.seq_id >= 0:
            if isinstance(slot, ScoreSlot):
                slot.drop_lanes(self._context)
            self._context.remove_sequence(slot.seq_id)
            self._free.append(slot.seq_id)
            self._n_free_cells += slot.n_cells
            slot.seq_id = -1

    def drop_cancelled(self) -> None:
        """Free what requests hold whose askers have gone."""
        self.waiting = [slot for slot in self.waiting if not slot.is_cancelled]
        for slot in self.running:
            slot.is_done = slot.is_done or slot.is_cancelled
        self.release_done()

    def release_done(self) -> None:
        """Free what finished slots held; a prefix keeps its sequence while it stays in the cache, unless it failed."""
        for slot in [slot for slot in self.running if slot.is_done]:
            self.running.remove(slot)
            if isinstance(slot, RequestSlot):
                self._give_back(slot)
                entry = self._entry_of.pop(slot, None)
                if entry is not None:
                    entry.n_users -= 1
            elif isinstance(slot, PrefixSlot) and slot.error is not None:
                self._evict((slot.group, tuple(slot.tokens)))

    def fail_all(self, error: EngineError) -> None:
        """Fail everything that waits or runs."""
        for slot in [*self.waiting, *self.running]:
            slot.fail(error)
        self.waiting.clear()
        self.release_done()
