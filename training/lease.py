"""Holds a database lease for as long as a block runs, renewed by a thread of its own.

Knows nothing of what the lease protects; whoever works under it asks `is_lost` between steps.
"""

import logging
import os
import socket
import threading
import time
from datetime import timedelta
from types import TracebackType
from typing import Self

from sqlalchemy import Engine as DbEngine

from db.errors import DatabaseError
from db.queries import leases
from db.session import retry_transaction

logger = logging.getLogger(__name__)


class LeaseTakenError(Exception):
    """Another process holds the lease. The message names it."""


class LeaseLostError(Exception):
    """The lease ran out while the work went on, so another process may have begun it: stop and write nothing."""


def build_holder(pid: int | None = None) -> str:
    """Return the name under which a process of this machine holds leases."""
    return f"{socket.gethostname()}:{os.getpid() if pid is None else pid}"


class LeaseKeeper:
    """A context manager that takes a lease, renews it every third of its time, and gives it back."""

    def __init__(self, db_engine: DbEngine, name: str, *, seconds: float) -> None:
        self._db_engine = db_engine
        self._name = name
        self._holder = build_holder()
        self._ttl = timedelta(seconds=seconds)
        self._end = threading.Event()
        self._is_lost = threading.Event()
        self._held_until = 0.0
        self._thread = threading.Thread(target=self._renew, name=f"lease-{name}", daemon=True)

    def __enter__(self) -> Self:
        name, holder, ttl = self._name, self._holder, self._ttl
        self._note_held()
        if not retry_transaction(self._db_engine, lambda s: leases.acquire(s, name, holder=holder, ttl=ttl)):
            other = retry_transaction(self._db_engine, lambda s: leases.get_holder(s, name))
            message = f"{other or 'another process'} is training at the moment: try again when it is done"
            raise LeaseTakenError(message)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._end.set()
        self._thread.join()
        name, holder = self._name, self._holder
        retry_transaction(self._db_engine, lambda s: leases.release(s, name, holder=holder))

    def check(self) -> None:
        """Raise LeaseLostError if the lease is no longer ours, or has not been renewed for so long that it may be another's."""
        if self._is_lost.is_set() or time.monotonic() >= self._held_until:
            message = f"the lease '{self._name}' ran out and may be held by another process: this one stops"
            raise LeaseLostError(message)

    def _note_held(self, since: float | None = None) -> None:
        self._held_until = (time.monotonic() if since is None else since) + self._ttl.total_seconds()

    def _renew(self) -> None:
        name, holder, ttl = self._name, self._holder, self._ttl
        while not self._end.wait(ttl.total_seconds() / 3):
            asked = time.monotonic()
            try:
                if not retry_transaction(self._db_engine, lambda s: leases.renew(s, name, holder=holder, ttl=ttl)):
                    self._is_lost.set()
                    return
                self._note_held(asked)
            except DatabaseError as error:
                logger.warning("the lease '%s' could not be renewed, trying again: %s", name, error)
