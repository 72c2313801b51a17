"""The table of loaded adapters: which exist, which answers which task, and which requests still run on which.

Lives on the event loop alone, so it needs no locks; knows nothing of weights.
"""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from bot.bundle import Bundle
from bot.engine.protocol import AdapterError, EngineError, Priority
from bot.types import BASE
from db.types import TaskKind


@dataclass(eq=False)
class Lease:
    """One request's hold on an adapter."""

    task: TaskKind | None
    priority: Priority
    ended: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(eq=False)
class LoadedAdapter:
    """An adapter that can answer, or the bare base (`bundle` None). `group` names the LoRA weights that its forward passes use."""

    digest: str
    bundle: Bundle | None = None
    group: str = BASE
    load_ms: float = 0.0
    prove_ms: float = 0.0
    is_leaving: bool = False
    leases: set[Lease] = field(default_factory=set)


class AdapterTable:
    """Loaded adapters by digest and the active one per task."""

    def __init__(self) -> None:
        self._loaded: dict[str, LoadedAdapter] = {BASE: LoadedAdapter(BASE)}
        self._active: dict[TaskKind, str] = {}

    def get(self, digest: str) -> LoadedAdapter:
        """Return a loaded adapter. Raises EngineError."""
        adapter = self._loaded.get(digest)
        if adapter is None or adapter.is_leaving:
            message = f"adapter {digest[:12]} is not loaded; load it first"
            raise EngineError(message)
        return adapter

    def has(self, digest: str) -> bool:
        """Whether an adapter is loaded and not leaving."""
        return digest in self._loaded and not self._loaded[digest].is_leaving

    def get_active(self, task: TaskKind) -> str:
        """Return the digest that answers a task now."""
        return self._active.get(task, BASE)

    def get_loaded(self) -> tuple[str, ...]:
        """Return the digests of all loaded adapters, oldest first."""
        return tuple(digest for digest, adapter in self._loaded.items() if digest != BASE and not adapter.is_leaving)

    def add(self, adapter: LoadedAdapter) -> None:
        """Enter an adapter that was proven."""
        self._loaded[adapter.digest] = adapter

    def clear(self) -> None:
        """Forget everything but the base."""
        self._loaded = {BASE: LoadedAdapter(BASE)}
        self._active = {}

    @contextmanager
    def lease(
        self, task: TaskKind | None, pinned: str | None, *, priority: Priority = Priority.INTERACTIVE
    ) -> Iterator[LoadedAdapter]:
        """Resolve the adapter of a request now and hold it until the request is done, whatever becomes active meanwhile."""
        digest = pinned if pinned is not None else self.get_active(task) if task is not None else BASE
        adapter = self.get(digest)
        lease = Lease(task, priority)
        adapter.leases.add(lease)
        try:
            yield adapter
        finally:
            adapter.leases.discard(lease)
            lease.ended.set()

    def flip(self, task: TaskKind, digest: str) -> tuple[str, tuple[Lease, ...]]:
        """Make an adapter active; returns the previous digest and the task's interactive leases that still run on it."""
        adapter = self.get(digest)
        if adapter.bundle is not None and adapter.bundle.manifest.task != task:
            message = f"adapter {digest[:12]} was trained for {adapter.bundle.manifest.task}, not for {task}"
            raise AdapterError(message)
        previous = self.get_active(task)
        self._active[task] = digest
        if previous == digest or previous not in self._loaded:
            return previous, ()
        running = self._loaded[previous].leases
        return previous, tuple(lease for lease in running if lease.task == task and lease.priority == Priority.INTERACTIVE)

    def retire(self, digest: str) -> LoadedAdapter | None:
        """Stop giving an adapter out; whoever holds it may end on it. None where it is not loaded, or is leaving already.

        Raises AdapterError where it is active or the base.
        """
        if digest == BASE:
            message = "the base model cannot be unloaded; stop the engine instead"
            raise AdapterError(message)
        if digest in self._active.values():
            message = f"adapter {digest[:12]} is active; activate another one before unloading it"
            raise AdapterError(message)
        adapter = self._loaded.get(digest)
        if adapter is None or adapter.is_leaving:
            return None
        adapter.is_leaving = True
        return adapter

    def keep(self, digest: str) -> bool:
        """Give a leaving adapter out again. False where it is gone."""
        adapter = self._loaded.get(digest)
        if adapter is not None:
            adapter.is_leaving = False
        return adapter is not None

    def remove(self, digest: str) -> None:
        """Forget an adapter that was retired and has no lease left."""
        del self._loaded[digest]


async def wait_ended(leases: Sequence[Lease]) -> None:
    """Wait until all these requests are done."""
    for lease in leases:
        await lease.ended.wait()
