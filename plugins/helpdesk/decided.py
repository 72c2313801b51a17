"""Hears of decisions that were clicked elsewhere, in the console or in Slack, and hands them to the outbox.

Knows no helpdesk. What people do in the helpdesk itself is read in `plugins.helpdesk.learning`.
"""

import logging

from bot.plugin_api import Decision, Inbox, RetryLaterError, Store
from plugins.helpdesk.client import Clock
from plugins.helpdesk.outbox import Outbox
from plugins.helpdesk.watching import FAULT_PAUSE_S

logger = logging.getLogger(__name__)
CURSOR = "decisions"
LOOK_S = 5.0
PAGE = 100


class DecisionWatcher:
    """Puts each decision on the plugin's tickets into the outbox, once; those that the plugin recorded itself are left out."""

    def __init__(self, inbox: Inbox, store: Store, outbox: Outbox, clock: Clock, *, name: str) -> None:
        self._inbox, self._store, self._outbox, self._clock, self._name = inbox, store, outbox, clock, name

    async def run(self) -> None:
        """Look again and again until cancelled."""
        while True:
            pause_s = LOOK_S
            try:
                await self.look()
            except RetryLaterError as error:
                pause_s = max(pause_s, error.after_s)
            except Exception as error:  # the next look may go well; its text may quote a ticket
                logger.warning("%s: looking for decisions failed: %s", self._name, type(error).__name__)
                pause_s = FAULT_PAUSE_S
            await self._clock.sleep(pause_s)

    async def look(self) -> int:
        """Take over what was decided since the last look; return how many decisions are to be written. The first look only begins to listen."""
        found = await self._store.get(CURSOR)
        if found is None:
            await self._store.put(CURSOR, {"after": await self._inbox.get_newest_decision_id()})
            return 0
        after, n_new = int(found["after"]), 0
        while True:
            page = await self._inbox.list_decisions(self._name, after_id=after, limit=PAGE)
            for decision in page:
                if self._is_foreign(decision):
                    n_new += await self._outbox.put_decision(decision.source.external_id, decision.feedback_id)
                after = decision.feedback_id
            if page:
                await self._store.put(CURSOR, {"after": after})  # after the decisions are stored, never before
            if len(page) < PAGE:
                return n_new

    def _is_foreign(self, decision: Decision) -> bool:
        """Whether it was clicked outside of the helpdesk, where the ticket does not show it yet."""
        return not decision.is_passive and not decision.idempotency_key.startswith((f"{self._name}:", f"{self._name}."))
