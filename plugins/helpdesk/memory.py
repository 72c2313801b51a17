"""What the desk remembers about a ticket between two events: what was suggested, what was written, what was learned.

Numbers, labels and digests in the plugin's store; never a word of the ticket.
"""

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Generic, TypeVar

from bot.plugin_api import Store
from plugins.helpdesk.client import Clock
from plugins.helpdesk.values import HelpdeskTicket

T = TypeVar("T")
KEEP_S = 180 * 86400.0
KEPT_CHANGES = 100


@dataclass(frozen=True)
class Known:
    """A ticket that got a suggestion. `digest` is of what the customer said; `learned` are changes whose feedback is recorded."""

    inference_id: int
    label: str
    marker: str
    macro: str
    digest: str
    suggested_at: str
    is_blind: bool = False
    learned: tuple[str, ...] = ()

    def add_learned(self, change_id: str) -> "Known":
        """Return it with one more change learned from; the oldest are forgotten."""
        return replace(self, learned=(*self.learned, change_id)[-KEPT_CHANGES:])


@dataclass(frozen=True)
class Written:
    """What the last update put into a ticket: its marker and the label field's value, empty where it left that alone."""

    marker: str
    value: str


class TicketMemory:
    """Reads and writes what is known of tickets. The desk's handler owns `Known`, the outbox owns `Written`: neither overwrites the other."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def get_known(self, ticket_id: str) -> Known | None:
        """Return what was suggested, or None."""
        found = await self._store.get(f"ticket/{ticket_id}")
        return None if found is None else Known(**{**found, "learned": tuple(found["learned"])})

    async def put_known(self, ticket_id: str, known: Known) -> None:
        """Remember a suggestion."""
        await self._store.put(f"ticket/{ticket_id}", asdict(known), expires_in_s=KEEP_S)

    async def get_written(self, ticket_id: str) -> Written | None:
        """Return what was written, or None."""
        found = await self._store.get(f"written/{ticket_id}")
        return None if found is None else Written(**found)

    async def put_written(self, ticket_id: str, written: Written) -> None:
        """Remember an update."""
        await self._store.put(f"written/{ticket_id}", asdict(written), expires_in_s=KEEP_S)

    async def begin_write(self, marker: str) -> bool:
        """Say that an update is about to be sent; False where one of that name may already have been."""
        return await self._store.add(f"sending/{marker}", {}, expires_in_s=7 * 86400.0)

    async def forget(self, ticket_id: str) -> None:
        """Forget a ticket that is gone."""
        await self._store.delete(f"ticket/{ticket_id}")
        await self._store.delete(f"written/{ticket_id}")


class Cached(Generic[T]):
    """A value that is fetched again when it is older than `keep_s`."""

    def __init__(self, fetch: Callable[[], Awaitable[T]], clock: Clock, *, keep_s: float) -> None:
        self._fetch, self._clock, self._keep = fetch, clock, timedelta(seconds=keep_s)
        self._value: T | None = None
        self._until: datetime | None = None

    async def get(self) -> T:
        """Return the value; raises what fetching raises."""
        now = self._clock.now()
        if self._value is None or self._until is None or now >= self._until:
            self._value, self._until = await self._fetch(), now + self._keep
        return self._value


def digest_customer(ticket: HelpdeskTicket) -> str:
    """Return a digest of the subject and of what the customer said: a support agent's answer is no reason to suggest anew."""
    said: list[Any] = [ticket.subject, *(turn.text for turn in ticket.turns if turn.speaker == "customer")]
    return hashlib.sha256("\0".join(said).encode()).hexdigest()[:32]
