"""The fakes of what plugins handle and remember: `FakeQueue` and `FakeStore`, in memory, on a clock under the test's control.

Part of `bot.testing`, which plugin authors import. Payloads go through JSON, as they do in the database.
"""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from bot.plugin_events import Event, EventCounts, EventHandler, JsonObject, RetryLaterError
from bot.testing_clock import Clock

MAX_ATTEMPTS = 8


@dataclass
class _Entry:
    event: Event
    available_at: datetime
    is_done: bool = False
    is_failed: bool = False

    @property
    def is_waiting(self) -> bool:
        return not (self.is_done or self.is_failed)


class FakeQueue:
    """`bot.plugin_api.EventQueue` in memory. `errors` holds what handlers raised; `join` handles what is due by the clock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._entries: dict[str, _Entry] = {}
        self._handle: EventHandler | None = None
        self._runner: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()
        self.errors: list[Exception] = []

    @property
    def events(self) -> tuple[Event, ...]:
        """Return all events that were put, in order."""
        return tuple(entry.event for entry in self._entries.values())

    async def put(self, key: str, kind: str, payload: JsonObject, *, group: str = "", delay_s: float = 0.0) -> bool:
        """Keep an event; False where its key is known. What is due is handled in the background once the queue is started."""
        if key in self._entries:
            return False
        at = self._clock.now()
        event = Event(key=key, kind=kind, group=group, payload=json.loads(json.dumps(payload)), attempt=0, created_at=at)
        self._entries[key] = _Entry(event, available_at=at + timedelta(seconds=delay_s))
        if self._handle is not None and (self._runner is None or self._runner.done()):
            self._runner = asyncio.create_task(self.join())
        return True

    async def start(self, handle: EventHandler, *, workers: int = 4) -> None:  # noqa: ARG002 - one at a time is enough here
        """Handle events from now on."""
        self._handle = handle
        self._runner = asyncio.create_task(self.join())

    async def stop(self) -> None:
        """Handle no more."""
        self._handle = None
        if self._runner is not None:
            self._runner.cancel()
            await asyncio.gather(self._runner, return_exceptions=True)

    async def join(self) -> None:
        """Handle what is due by the clock, one after the other, until nothing is."""
        async with self._turn:
            while self._handle is not None and (entry := self._find_next()) is not None:
                await self._handle_one(entry, self._handle)

    async def get_counts(self) -> EventCounts:
        """Count the events."""
        entries = self._entries.values()
        return EventCounts(
            n_waiting=sum(entry.is_waiting for entry in entries),
            n_done=sum(entry.is_done for entry in entries),
            n_failed=sum(entry.is_failed for entry in entries),
        )

    def _find_next(self) -> _Entry | None:
        blocked: set[str] = set()
        for entry in self._entries.values():
            if not entry.is_waiting or (entry.event.group and entry.event.group in blocked):
                continue
            if entry.available_at <= self._clock.now():
                return entry
            blocked.add(entry.event.group)
        return None

    async def _handle_one(self, entry: _Entry, handle: EventHandler) -> None:
        entry.event = replace(entry.event, attempt=entry.event.attempt + 1)
        try:
            await handle(entry.event)
        except RetryLaterError as error:
            entry.event = replace(entry.event, attempt=entry.event.attempt - 1)
            entry.available_at = self._clock.now() + timedelta(seconds=max(error.after_s, 0.001))
        except Exception as error:  # as the real queue: a plugin's fault does not end it
            self.errors.append(error)
            entry.is_failed = entry.event.attempt >= MAX_ATTEMPTS
            entry.available_at = self._clock.now() + timedelta(seconds=2.0**entry.event.attempt)
        else:
            entry.is_done = True


class FakeStore:
    """`bot.plugin_api.Store` in memory."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._values: dict[str, tuple[str, datetime | None]] = {}

    async def get(self, key: str) -> JsonObject | None:
        """Return the value, or None where there is none or it has expired."""
        return (await self.get_all(key)).get(key)

    async def get_all(self, prefix: str = "") -> Mapping[str, JsonObject]:
        """Return all values whose keys begin so, in the order of their keys."""
        at = self._clock.now()
        fresh = {key: raw for key, (raw, until) in sorted(self._values.items()) if until is None or until > at}
        return {key: json.loads(raw) for key, raw in fresh.items() if key.startswith(prefix)}

    async def put(self, key: str, value: JsonObject, *, expires_in_s: float | None = None) -> None:
        """Store or replace a value."""
        until = None if expires_in_s is None else self._clock.now() + timedelta(seconds=expires_in_s)
        self._values[key] = (json.dumps(value), until)

    async def add(self, key: str, value: JsonObject, *, expires_in_s: float | None = None) -> bool:
        """Store a value unless there is one; say whether it was stored."""
        if await self.get(key) is not None:
            return False
        await self.put(key, value, expires_in_s=expires_in_s)
        return True

    async def delete(self, key: str) -> bool:
        """Delete a value; False where there was none."""
        return self._values.pop(key, None) is not None
