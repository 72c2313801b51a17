"""The life of a helpdesk plugin: its routes, its desk, and what runs beside them.

Knows no helpdesk; a plugin builds its desk and router and hands them over.
"""

import asyncio

from fastapi import APIRouter

from plugins.helpdesk.client import Clock
from plugins.helpdesk.decided import DecisionWatcher
from plugins.helpdesk.desk import Desk
from plugins.helpdesk.settings import HelpdeskSettings
from plugins.helpdesk.watching import Backfill, Poller


class HelpdeskPlugin:
    """Implements `bot.plugin_api.Plugin`. An outage at start is no fault: everything asks again later.

    `watch` has how often to look for changes and how much of the past to learn from; without it neither is done.
    """

    def __init__(
        self,
        desk: Desk,
        *,
        name: str,
        clock: Clock,
        router: APIRouter | None = None,
        watch: HelpdeskSettings | None = None,
    ) -> None:
        self.desk = desk
        self._poll_interval_s = watch.poll_interval_s if watch is not None else 0.0
        self._backfill_days = watch.backfill_days if watch is not None else 0
        limit = watch.backfill_limit if watch is not None else 0
        self.poller = Poller(desk, clock, interval_s=self._poll_interval_s, name=name)
        self.backfill = Backfill(desk, clock, name=name, days=self._backfill_days, limit=limit)
        self.decisions = DecisionWatcher(desk.bot.inbox, desk.store, desk.outbox, clock, name=name)
        self._router = router
        self._workers: list[asyncio.Task[None]] = []

    @property
    def router(self) -> APIRouter | None:
        """The webhook's route, where the helpdesk has webhooks."""
        return self._router

    async def start(self) -> None:
        """Handle events, look for changes and decisions, and learn from the past where that has not been done."""
        await self.desk.start()
        if self._poll_interval_s > 0:
            self._workers.append(asyncio.create_task(self.poller.run(), name="helpdesk-poll"))
        if self._backfill_days > 0:
            self._workers.append(asyncio.create_task(self.backfill.run(), name="helpdesk-backfill"))
        if self.desk.settings.write_decisions:
            self._workers.append(asyncio.create_task(self.decisions.run(), name="helpdesk-decisions"))

    async def stop(self) -> None:
        """Stop looking, let what runs end, close connections."""
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)
        self._workers.clear()
        await self.desk.stop()
        await self.desk.client.close()
