"""What the service, the inbox and the manager share: settings, database, masker, label set, engines. Built once by `bot.app`.

Holds no logic of its own beyond moving database work off the event loop and opening a ticket's placeholder map.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from sqlalchemy import Engine as DbEngine
from sqlmodel import Session

from bot.engine.protocol import ChoiceSet, Engine
from bot.masking import Masker, PlaceholderMap, Vault
from bot.settings import Settings
from bot.similar import SimilarIndex
from bot.types import LabelSet
from db.queries import tickets
from db.session import transaction
from db.tables import now
from db.types import TaskKind

T = TypeVar("T")


@dataclass(frozen=True)
class Core:
    """The built parts. `engines` may hold the same engine for both tasks."""

    settings: Settings
    db_engine: DbEngine
    masker: Masker
    vault: Vault | None
    label_set: LabelSet
    choices: ChoiceSet
    engines: Mapping[TaskKind, Engine]
    similar: SimilarIndex

    def run(self, work: Callable[[Session], T]) -> T:
        """Run database work in one transaction, on this thread."""
        with transaction(self.db_engine) as session:
            return work(session)

    async def in_db(self, work: Callable[[Session], T]) -> T:
        """Run database work in one transaction, off the event loop."""
        return await asyncio.to_thread(self.run, work)

    def get_map(self, session: Session, ticket_id: int) -> PlaceholderMap | None:
        """Return the ticket's placeholder map, or None without a vault key or after it expired."""
        if self.vault is None:
            return None
        ciphertext = tickets.get_vault(session, ticket_id)
        return None if ciphertext is None else self.vault.decrypt(ciphertext)

    def put_map(self, session: Session, ticket_id: int, mapping: PlaceholderMap) -> None:
        """Keep the ticket's placeholder map in the vault; without a key it is kept nowhere."""
        if self.vault is not None:
            expires_at = now() + timedelta(days=self.settings.vault_days)
            tickets.put_vault(session, ticket_id=ticket_id, ciphertext=self.vault.encrypt(mapping), expires_at=expires_at)
