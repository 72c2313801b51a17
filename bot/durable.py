"""The events and values of plugins, in the database: `bot.plugin_events` for real.

One loop per queue does all its database work in short transactions: what came in, what ended, what is next. Knows no plugin by name.
"""

import asyncio
import logging
import os
import socket
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol, TypeVar

from sqlmodel import Session

from bot.plugin_api import BotError
from bot.plugin_events import Event, EventCounts, EventHandler, JsonObject, RetryLaterError
from bot.sealing import Sealer, SealError
from bot.storable import clean_json, clean_key
from db.queries import events, values
from db.queries.common import row_id
from db.queries.events import NewEvent
from db.tables import PluginEvent, now
from db.types import EventStatus

T = TypeVar("T")
logger = logging.getLogger(__name__)

MAX_ATTEMPTS = 8
MAX_AGE = timedelta(hours=24)
CLAIM = timedelta(seconds=30)
POLL_S = 1.0
LONGEST_PAUSE_S = 300.0
HANDLER_LIMIT_S = 900.0
STOP_S = 3.0
_BATCH = 256


def build_holder() -> str:
    """Return a name for this process that no other has, and that tells others on this machine whether it lives."""
    return f"{socket.gethostname()}/{os.getpid()}/{uuid.uuid4().hex[:12]}"


def is_gone(holder: str, own: str) -> bool:
    """Whether a holder surely no longer runs: a process of this machine that has ended, or whose number we have now."""
    host, pid, _ = holder.split("/")
    own_host, own_pid, _ = own.split("/")
    if host != own_host or holder == own:
        return False
    if pid == own_pid:
        return True
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


class Database(Protocol):
    """What this module needs of `bot.core.Core`."""

    async def in_db(self, work: Callable[[Session], T]) -> T:
        """Run work that writes."""
        ...

    async def read_db(self, work: Callable[[Session], T]) -> T:
        """Run work that reads."""
        ...


@dataclass(frozen=True)
class _Outcome:
    """How handling ended: `error` empty means done; `retry_at` None then means given up."""

    event_id: int
    error: str = ""
    retry_at: datetime | None = None
    is_counted: bool = True


@dataclass
class _Turn:
    """What one transaction is to write, and what came of it."""

    puts: list[tuple[NewEvent, "asyncio.Future[bool]"]]
    outcomes: list[_Outcome]
    held: list[int]
    free: int
    is_last: bool
    stored: list[bool] = field(default_factory=list)
    claimed: list[PluginEvent] = field(default_factory=list)


class DurableQueue:
    """Implements `bot.plugin_events.EventQueue`."""

    def __init__(self, core: Database, sealer: Sealer, name: str) -> None:
        self._core, self._sealer, self._name = core, sealer, name
        self._holder = build_holder()
        self._puts: list[tuple[NewEvent, asyncio.Future[bool]]] = []
        self._outcomes: list[_Outcome] = []
        self._running: dict[int, asyncio.Task[None]] = {}
        self._wake = asyncio.Event()
        self._idle = asyncio.Condition()
        self._is_idle = False
        self._workers = 0
        self._pump: asyncio.Task[None] | None = None
        self._is_stopping = False
        self._renew_at = 0.0

    async def put(self, key: str, kind: str, payload: JsonObject, *, group: str = "", delay_s: float = 0.0) -> bool:
        """See `bot.plugin_events.EventQueue.put`. Raises BotError where the database is busy."""
        later = now() + timedelta(seconds=delay_s) if delay_s > 0 else None
        sealed = self._sealer.seal(clean_json(payload))
        event = NewEvent(key=clean_key(key), kind=kind, ciphertext=sealed, group_key=clean_key(group), available_at=later)
        if self._pump is None or self._pump.done() or self._is_stopping:
            return await self._core.in_db(lambda session: events.add_event(session, event, plugin=self._name))
        stored: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._puts.append((event, stored))
        self._is_idle = False
        self._wake.set()
        return await stored

    async def start(self, handle: EventHandler, *, workers: int = 4) -> None:
        """See `bot.plugin_events.EventQueue.start`."""
        if self._pump is not None:
            raise RuntimeError(f"the queue {self._name} is started twice")
        self._workers = workers
        n_freed = await self._core.in_db(self._free_lost)
        if n_freed:
            logger.info("%s: %d events that an ended process had begun are handled again", self._name, n_freed)
        self._pump = asyncio.create_task(self._run(handle), name=f"{self._name}-events")

    async def stop(self) -> None:
        """See `bot.plugin_events.EventQueue.stop`."""
        if self._pump is None:
            return
        self._is_stopping = True
        if self._running:
            await asyncio.wait(self._running.values(), timeout=STOP_S)
        left = list(self._running.values())
        for worker in left:
            worker.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        self._wake.set()
        await self._pump
        self._pump = None

    async def join(self) -> None:
        """See `bot.plugin_events.EventQueue.join`."""
        async with self._idle:
            self._wake.set()
            await self._idle.wait_for(lambda: self._is_idle)

    async def get_counts(self) -> EventCounts:
        """See `bot.plugin_events.EventQueue.get_counts`."""
        found = await self._core.read_db(lambda session: events.count_events(session, plugin=self._name))
        return EventCounts(found[EventStatus.WAITING], found[EventStatus.DONE], found[EventStatus.FAILED])

    def _free_lost(self, session: Session) -> int:
        gone = [holder for holder in events.list_holders(session, plugin=self._name) if is_gone(holder, self._holder)]
        return events.release_claims(session, plugin=self._name, holders=gone) if gone else 0

    async def _run(self, handle: EventHandler) -> None:
        """Take turns until stopped; a busy database delays what ended and refuses what came in."""
        while True:
            turn = self._plan()
            try:
                await self._take(turn)
            except (
                Exception
            ) as error:  # whatever the database says: who put is told, and what ended is written with the next turn
                logger.warning("%s: events could not be written: %s", self._name, type(error).__name__)
                self._refuse(turn.puts, error)
                self._outcomes = turn.outcomes + self._outcomes
                await asyncio.sleep(POLL_S)
                if turn.is_last:
                    return
                continue
            for (_, stored), is_new in zip(turn.puts, turn.stored, strict=True):
                if not stored.done():
                    stored.set_result(is_new)
            for row in turn.claimed:
                self._begin(row, handle)
            if turn.is_last and not self._puts:
                return
            await self._rest(turn)

    def _plan(self) -> _Turn:
        puts, self._puts = self._puts[:_BATCH], self._puts[_BATCH:]
        outcomes, self._outcomes = self._outcomes, []
        is_due = time.monotonic() >= self._renew_at
        return _Turn(
            puts=puts,
            outcomes=outcomes,
            held=list(self._running) if is_due else [],
            free=0 if self._is_stopping else self._workers - len(self._running),
            is_last=self._is_stopping and not self._running,
        )

    async def _take(self, turn: _Turn) -> None:
        """Do a turn's database work; where there is nothing to write, only look."""
        if not (turn.puts or turn.outcomes or turn.held or turn.is_last):
            if turn.free <= 0:
                return
            if not await self._core.read_db(lambda session: events.has_waiting(session, plugin=self._name)):
                return
        await self._core.in_db(lambda session: self._write(session, turn))
        if turn.held:
            self._renew_at = time.monotonic() + CLAIM.total_seconds() / 3

    @staticmethod
    def _refuse(puts: list[tuple[NewEvent, "asyncio.Future[bool]"]], error: Exception) -> None:
        for _, stored in puts:
            if not stored.done():
                message = "the database could not take the event; send it again"
                stored.set_exception(error if isinstance(error, BotError) else BotError(message))

    async def _rest(self, turn: _Turn) -> None:
        """Wait for something to do, or for the next look at the database."""
        is_done = not (turn.claimed or self._running or self._puts or self._outcomes)
        if is_done and turn.free > 0:
            async with self._idle:
                self._is_idle = True
                self._idle.notify_all()
        if self._puts or self._outcomes or (turn.claimed and len(self._running) < self._workers):
            self._wake.clear()
            return
        try:
            async with asyncio.timeout(POLL_S):
                await self._wake.wait()
        except TimeoutError:
            return
        self._wake.clear()

    def _write(self, session: Session, turn: _Turn) -> None:
        turn.stored = [events.add_event(session, event, plugin=self._name) for event, _ in turn.puts]
        for outcome in turn.outcomes:
            self._write_outcome(session, outcome)
        if turn.is_last:
            events.release_claims(session, plugin=self._name, holders=[self._holder])
            return
        if turn.held:
            events.renew_claims(session, turn.held, holder=self._holder, ttl=CLAIM)
        turn.claimed = []
        if turn.free > 0:
            turn.claimed = list(events.claim_events(session, plugin=self._name, holder=self._holder, limit=turn.free, ttl=CLAIM))

    def _write_outcome(self, session: Session, outcome: _Outcome) -> None:
        if not outcome.error:
            events.finish_event(session, outcome.event_id, holder=self._holder)
        elif outcome.retry_at is None:
            events.give_up_event(session, outcome.event_id, holder=self._holder, error=outcome.error)
        else:
            events.retry_event(
                session,
                outcome.event_id,
                holder=self._holder,
                available_at=outcome.retry_at,
                error=outcome.error,
                is_counted=outcome.is_counted,
            )

    def _begin(self, row: PluginEvent, handle: EventHandler) -> None:
        worker = asyncio.create_task(self._work(row, handle), name=f"{self._name}-event")
        self._running[row_id(row)] = worker

    async def _work(self, row: PluginEvent, handle: EventHandler) -> None:
        event_id = row_id(row)
        try:
            outcome = await self._handle_one(row, handle)
        except asyncio.CancelledError:
            outcome = _Outcome(event_id, error="stopped", retry_at=now(), is_counted=False)
        del self._running[event_id]
        self._outcomes.append(outcome)
        self._wake.set()

    async def _handle_one(self, row: PluginEvent, handle: EventHandler) -> _Outcome:
        event_id = row_id(row)
        try:
            payload = self._sealer.unseal(row.ciphertext)
        except SealError as error:
            logger.error("%s: event %d is given up: %s", self._name, event_id, error)  # noqa: TRY400
            return _Outcome(event_id, error=type(error).__name__)
        event = Event(
            key=row.key,
            kind=row.kind,
            group=row.group_key,
            payload=payload,
            attempt=row.attempts,
            created_at=row.created_at,
        )
        try:
            async with asyncio.timeout(HANDLER_LIMIT_S):
                await handle(event)
        except RetryLaterError as error:
            return self._postpone(row, type(error).__name__, after_s=error.after_s, is_counted=False)
        except (
            Exception
        ) as error:  # a plugin's fault must not end the queue; the type alone is logged, its text may quote a ticket
            logger.warning("%s: handling a %s failed (%s), try %d", self._name, row.kind, type(error).__name__, row.attempts)
            return self._postpone(row, type(error).__name__, after_s=2.0 ** min(row.attempts, 8), is_counted=True)
        return _Outcome(event_id)

    @staticmethod
    def _postpone(row: PluginEvent, error: str, *, after_s: float, is_counted: bool) -> _Outcome:
        is_hopeless = now() - row.created_at > MAX_AGE or (is_counted and row.attempts >= MAX_ATTEMPTS)
        if is_hopeless:
            return _Outcome(row_id(row), error=error)
        pause = timedelta(seconds=min(max(after_s, 0.0), LONGEST_PAUSE_S))
        return _Outcome(row_id(row), error=error, retry_at=now() + pause, is_counted=is_counted)


class DurableStore:
    """Implements `bot.plugin_events.Store`."""

    def __init__(self, core: Database, sealer: Sealer, name: str) -> None:
        self._core, self._sealer, self._name = core, sealer, name

    async def get(self, key: str) -> JsonObject | None:
        """See `bot.plugin_events.Store.get`. Raises SealError where no key opens it."""
        found = await self._core.read_db(lambda session: values.get_value(session, plugin=self._name, key=clean_key(key)))
        return None if found is None else self._sealer.unseal(found)

    async def get_all(self, prefix: str = "") -> Mapping[str, JsonObject]:
        """See `bot.plugin_events.Store.get_all`. Raises SealError where no key opens one."""
        found = await self._core.read_db(lambda session: values.get_values(session, plugin=self._name, prefix=prefix))
        return {key: self._sealer.unseal(ciphertext) for key, ciphertext in found.items()}

    async def put(self, key: str, value: JsonObject, *, expires_in_s: float | None = None) -> None:
        """See `bot.plugin_events.Store.put`."""
        ciphertext, expires_at = self._sealer.seal(clean_json(value)), _expire(expires_in_s)
        await self._core.in_db(
            lambda session: values.put_value(
                session, plugin=self._name, key=clean_key(key), ciphertext=ciphertext, expires_at=expires_at
            )
        )

    async def add(self, key: str, value: JsonObject, *, expires_in_s: float | None = None) -> bool:
        """See `bot.plugin_events.Store.add`."""
        ciphertext, expires_at = self._sealer.seal(clean_json(value)), _expire(expires_in_s)
        return await self._core.in_db(
            lambda session: values.add_value(
                session, plugin=self._name, key=clean_key(key), ciphertext=ciphertext, expires_at=expires_at
            )
        )

    async def delete(self, key: str) -> bool:
        """See `bot.plugin_events.Store.delete`."""
        return await self._core.in_db(lambda session: values.delete_value(session, plugin=self._name, key=clean_key(key)))


def _expire(after_s: float | None) -> datetime | None:
    return None if after_s is None else now() + timedelta(seconds=after_s)
