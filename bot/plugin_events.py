"""What plugins are given to handle events exactly once and to remember small facts: the contract, part of `bot.plugin_api`.

Knows no database and no encryption; `bot.durable` has both.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

JsonObject = Mapping[str, Any]


@dataclass(frozen=True)
class Event:
    """Something that reached a plugin. `payload` is what `put` was given.

    `attempt` is 1 at the first try and grows with each exception, but not with a RetryLaterError or when the process is stopped in between:
    it does not tell whether the handler has begun before.
    """

    key: str
    kind: str
    group: str
    payload: JsonObject
    attempt: int
    created_at: datetime


EventHandler = Callable[[Event], Awaitable[None]]


class RetryLaterError(Exception):
    """Raised by a handler where the other side is at fault (an outage, a rate limit): the event comes back after `after_s` seconds.

    Such tries do not count; the event is given up only when it is older than the queue keeps trying.
    """

    def __init__(self, message: str, *, after_s: float) -> None:
        super().__init__(message)
        self.after_s = after_s


@dataclass(frozen=True)
class EventCounts:
    """How many events wait (or are being handled), are done, and were given up."""

    n_waiting: int
    n_done: int
    n_failed: int


class EventQueue(Protocol):
    """Events of one plugin, stored before they are handled, so that a crash loses none and a repetition counts once."""

    async def put(self, key: str, kind: str, payload: JsonObject, *, group: str = "", delay_s: float = 0.0) -> bool:
        """Store an event, encrypted; False where its key is known. `payload` is JSON. Returns once it is safe on disk.

        Events of one `group` are handled one at a time, in the order they came; without a group they need not wait for each other.
        """
        ...

    async def start(self, handle: EventHandler, *, workers: int = 4) -> None:
        """Handle events from now on, those left by an earlier process first. An exception brings the event back later, up to a limit."""
        ...

    async def stop(self) -> None:
        """Let the handlers that run end within a few seconds; what they do not finish is handled after the next start."""
        ...

    async def join(self) -> None:
        """Wait until nothing waits that could be handled now."""
        ...

    async def get_counts(self) -> EventCounts:
        """Count the events."""
        ...


class Store(Protocol):
    """Small JSON values of one plugin by key, encrypted at rest. For cursors, tokens, and what message shows what; not for texts."""

    async def get(self, key: str) -> JsonObject | None:
        """Return the value, or None where there is none or it has expired."""
        ...

    async def get_all(self, prefix: str = "") -> Mapping[str, JsonObject]:
        """Return all values whose keys begin so, in the order of their keys."""
        ...

    async def put(self, key: str, value: JsonObject, *, expires_in_s: float | None = None) -> None:
        """Store or replace a value."""
        ...

    async def add(self, key: str, value: JsonObject, *, expires_in_s: float | None = None) -> bool:
        """Store a value unless there is one; say whether it was stored. One of several processes gets True."""
        ...

    async def delete(self, key: str) -> bool:
        """Delete a value; False where there was none."""
        ...
