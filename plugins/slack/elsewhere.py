"""Decisions that were taken outside of Slack, in the console, say: heard of within seconds and shown on the card they are about.

Knows cards and the bot's decisions; not how a click in Slack is recorded.
"""

import asyncio
import logging

from bot.plugin_api import Decision as Told
from bot.plugin_api import Event, FeedbackKind, TaskKind
from plugins.slack.cards import Decision
from plugins.slack.clicks import get_actor, unpack_place
from plugins.slack.client import SlackRefusedError
from plugins.slack.decisions import refresh
from plugins.slack.desk import Desk

logger = logging.getLogger(__name__)
CURSOR = "decisions"
LOOK_PAUSE_S = 5.0
PAGE = 100
_PREFIXES = {TaskKind.CLASSIFICATION: "ticket", TaskKind.SUMMARY: "summary"}


class DecisionWatch:
    """Puts each decision on a message of Slack's into the queue, once; those that were clicked in Slack are left out."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._looker: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Look now and then."""
        self._looker = asyncio.create_task(self._look(), name="slack-decisions")

    async def stop(self) -> None:
        """Look no more."""
        if self._looker is not None:
            self._looker.cancel()
            await asyncio.gather(self._looker, return_exceptions=True)
        self._looker = None

    async def _look(self) -> None:
        while True:
            try:
                await self.look_once()
            except Exception as error:  # the database may be away for a while; the type alone, and on it goes
                logger.warning("decisions could not be looked for (%s)", type(error).__name__)
            await asyncio.sleep(LOOK_PAUSE_S)

    async def look_once(self) -> None:
        """Take over what was decided since the last look; the first look only begins to listen."""
        inbox, store = self._desk.bot.inbox, self._desk.store
        found = await store.get(CURSOR)
        if found is None:
            await store.put(CURSOR, {"after": await inbox.get_newest_decision_id()})
            return
        after = int(found["after"])
        while True:
            page = await inbox.list_decisions("slack", after_id=after, limit=PAGE)
            for told in page:
                if not told.actor.startswith(get_actor("")):
                    payload = {"ticket": told.source.external_id, "feedback_id": told.feedback_id}
                    group = unpack_place(told.source.external_id, "").group
                    await self._desk.queue.put(f"elsewhere/{told.feedback_id}", "later:elsewhere", payload, group=group)
                after = told.feedback_id
            if page:
                await store.put(CURSOR, {"after": after})  # after the decisions are in the queue, never before
            if len(page) < PAGE:
                return


async def on_elsewhere(desk: Desk, event: Event) -> None:
    """Show a decision on its card, unless it was taken back or replaced, or there is no card."""
    feedback_id, place = int(event.payload["feedback_id"]), unpack_place(str(event.payload["ticket"]), "")
    standing = await desk.bot.inbox.list_decisions("slack", after_id=feedback_id - 1, limit=1)
    if not standing or standing[0].feedback_id != feedback_id:
        return
    told = standing[0]
    prefix = _PREFIXES[told.task]
    record = await desk.records.get(prefix, place)
    if record is None or not record.ts or (record.decision is not None and record.decision.feedback_id >= feedback_id):
        return
    await desk.records.change(prefix, place, record, decision=_build_decision(told), is_expanded=False)
    try:
        await refresh(desk, prefix, place, shown=told.value if told.kind is FeedbackKind.EDIT else None, may_post=False)
    except SlackRefusedError as error:  # a card that is gone, or cannot be changed any more
        logger.info("a decision taken elsewhere is not shown: %s", error.code)


def _build_decision(told: Told) -> Decision:
    at = told.decided_at.timestamp()
    return Decision(told.kind, told.actor, told.label, told.feedback_id, told.idempotency_key, at, is_elsewhere=True)
