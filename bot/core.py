"""What the service, the inbox and the manager share: settings, database, masker, label set, engines. Built once by `bot.app`.

Holds no logic of its own beyond moving database work off the event loop, opening a ticket's placeholder map, and a lock per ticket.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TypeVar
from weakref import WeakValueDictionary

from sqlalchemy import Engine as DbEngine
from sqlmodel import Session

from bot.engine.protocol import ChoiceSet, Engine
from bot.masking import PlaceholderMap, TextMasker, Vault, VaultError
from bot.metrics import BotMetrics
from bot.plugin_api import BotError
from bot.settings import Settings
from bot.similar import SimilarIndex
from bot.types import LabelSet, SourceRef
from db.errors import DatabaseBusyError
from db.queries import tickets
from db.session import retry_transaction, transaction
from db.tables import now
from db.types import TaskKind

T = TypeVar("T")
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Core:
    """The built parts. `engines` may hold the same engine for both tasks."""

    settings: Settings
    db_engine: DbEngine
    masker: TextMasker
    vault: Vault | None
    label_set: LabelSet
    choices: ChoiceSet
    engines: Mapping[TaskKind, Engine]
    similar: SimilarIndex
    metrics: BotMetrics = field(default_factory=BotMetrics.alone)
    _locks: "WeakValueDictionary[SourceRef, asyncio.Lock]" = field(default_factory=WeakValueDictionary)

    def lock_ticket(self, source: SourceRef) -> asyncio.Lock:
        """Return the ticket's lock: whoever reads, changes and stores its placeholder map holds it meanwhile."""
        return self._locks.setdefault(source, asyncio.Lock())

    async def in_db(self, work: Callable[[Session], T]) -> T:
        """Run database work in one writing transaction, off the event loop; again while the database is busy. Raises BotError then."""
        try:
            return await asyncio.to_thread(retry_transaction, self.db_engine, work)
        except DatabaseBusyError as error:
            raise BotError("the database is busy with another process; nothing was recorded, try again") from error

    async def read_db(self, work: Callable[[Session], T]) -> T:
        """Run database work that only reads, off the event loop; it waits for no writer."""
        return await asyncio.to_thread(self._read, work)

    def _read(self, work: Callable[[Session], T]) -> T:
        with transaction(self.db_engine, is_read_only=True) as session:
            return work(session)

    def get_map(self, session: Session, ticket_id: int) -> PlaceholderMap | None:
        """Return the ticket's placeholder map, or None without a vault key, after it expired, or where no key opens it."""
        if self.vault is None:
            return None
        ciphertext = tickets.get_vault(session, ticket_id)
        try:
            return None if ciphertext is None else self.vault.decrypt(ciphertext)
        except VaultError as error:
            logger.warning("the placeholder map of ticket %d: %s", ticket_id, error)
            return None

    def put_map(self, session: Session, ticket_id: int, mapping: PlaceholderMap) -> None:
        """Keep the ticket's placeholder map in the vault; without a key it is kept nowhere."""
        if self.vault is not None:
            expires_at = now() + timedelta(days=self.settings.vault_days)
            tickets.put_vault(session, ticket_id=ticket_id, ciphertext=self.vault.encrypt(mapping), expires_at=expires_at)
