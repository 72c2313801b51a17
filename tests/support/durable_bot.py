"""A bot that answers from memory but keeps events and values in a database, as the real one does."""

from bot.durable import DurableQueue, DurableStore
from bot.sealing import Sealer
from bot.testing import FakeBot
from tests.support.events_worker import Database


class DurableFakeBot(FakeBot):
    """A FakeBot on the queues and stores of a real database."""

    def __init__(self, db_engine, home, clock):
        super().__init__(clock=clock)
        self._database, self._sealer = Database(db_engine), Sealer.open(home, [])

    def open_queue(self, name):
        return DurableQueue(self._database, self._sealer, name)

    def open_store(self, name):
        return DurableStore(self._database, self._sealer, name)
