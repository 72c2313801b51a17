"""What the serving process does for privacy beside its requests: corrections in force, stored texts masked anew, old rows deleted.

Several replicas may run: each keeps its own memory up to date, and one at a time, by a lease, does what is done once.
"""

import asyncio
import logging
import os
import socket
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar

from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import Session

from bot.privacy.service import PrivacyService
from db.errors import DatabaseError
from db.queries import leases, privacy_corrections, privacy_erase
from db.queries.common import row_id
from db.queries.state import get_state, set_state
from db.session import retry_transaction, transaction
from db.tables import now

T = TypeVar("T")
logger = logging.getLogger(__name__)
POLL_S = 1.0
PURGE_INTERVAL = timedelta(hours=1)
LEASE = "privacy"
LEASE_TTL = timedelta(minutes=10)
_PURGED = "privacy.purged"


class PrivacyJobs:
    """Looks at the database every second, which costs two small queries."""

    def __init__(self, service: PrivacyService) -> None:
        self._service = service
        self._holder = f"{socket.gethostname()}/{os.getpid()}/{uuid.uuid4().hex[:8]}"
        self._revision = -1
        self._newest_audit = 0
        self._tried: frozenset[int] = frozenset()
        self._is_stopping = False

    async def prepare(self) -> None:
        """Put the corrections in force before the first ticket is taken in."""
        self._newest_audit = await asyncio.to_thread(self._read, privacy_erase.get_newest_audit)
        await self._follow()

    async def run(self) -> None:
        """Go on until cancelled. A database that is down or busy is waited for."""
        while True:
            try:
                await self.look()
            except (DatabaseError, SQLAlchemyError) as error:
                # The type alone: a driver's text may quote a row.
                logger.warning("privacy jobs wait for the database: %s", type(error).__name__)
            await asyncio.sleep(POLL_S)

    async def look(self) -> None:
        """Do once what there is to do."""
        await self._follow()
        self._newest_audit = await asyncio.to_thread(self._service.forget_erased, self._newest_audit)
        if await asyncio.to_thread(self._is_work_due) and await asyncio.to_thread(self._take_lease):
            await self._finish(asyncio.ensure_future(asyncio.to_thread(self._do_work)))

    async def _finish(self, work: "asyncio.Future[None]") -> None:
        """Wait for work on a thread, also when cancelled: it stops after its present transaction, and the database stays open for that."""
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError:
            self._is_stopping = True
            await work
            raise

    async def _follow(self) -> None:
        revision = await asyncio.to_thread(self._read, privacy_corrections.get_revision)
        if revision != self._revision:
            await self._service.reload()
            self._revision, self._tried = revision, frozenset()

    def _is_work_due(self) -> bool:
        return bool(self._read(_list_pending) - self._tried) or self._read(partial(_is_purge_due, at=now()))

    def _do_work(self) -> None:
        try:
            count = self._service.remask_pending(renew=lambda: not self._is_stopping and self._take_lease())
            self._tried = self._read(_list_pending)  # what is left needs a key that is not here
            if count:
                logger.info("%d corrections of masking were applied to stored texts", count)
            if self._read(partial(_is_purge_due, at=now())):
                counts = self._service.purge(should_stop=lambda: self._is_stopping)
                if not self._is_stopping:
                    retry_transaction(self._service.db_engine, _note_purge)
                if counts:
                    logger.info("deleted: %s", ", ".join(f"{number} {name}" for name, number in counts.items()))
        finally:
            retry_transaction(self._service.db_engine, lambda session: leases.release(session, LEASE, holder=self._holder))

    def _take_lease(self) -> bool:
        return retry_transaction(
            self._service.db_engine,
            lambda session: leases.acquire(session, LEASE, holder=self._holder, ttl=LEASE_TTL),
        )

    def _read(self, work: Callable[[Session], T]) -> T:
        with transaction(self._service.db_engine, is_read_only=True) as session:
            return work(session)


def _list_pending(session: Session) -> frozenset[int]:
    return frozenset(row_id(row) for row in privacy_corrections.list_to_remask(session))


def _is_purge_due(session: Session, at: datetime) -> bool:
    value = get_state(session, _PURGED)
    return value is None or datetime.fromisoformat(value["at"]) + PURGE_INTERVAL <= at


def _note_purge(session: Session) -> None:
    set_state(session, _PURGED, value={"at": now().isoformat()})
