"""Turns what people did to a ticket into feedback, once each, and takes it back where it proves to be a bulk job.

Knows the bot and the desk's memory; which changes say something is decided in `plugins.helpdesk.feedback`.
"""

import asyncio
import logging
from collections.abc import Sequence
from datetime import datetime, timedelta

from bot.plugin_api import Bot, ConflictError, Feedback, FeedbackKind, NotFoundError, SourceRef, Store, TicketDetail
from plugins.helpdesk.feedback import Signal, SignalKind, Suggestion, read_signals
from plugins.helpdesk.macros import MacroIndex
from plugins.helpdesk.memory import Known, Written
from plugins.helpdesk.policy import FieldMap
from plugins.helpdesk.settings import PolicySettings
from plugins.helpdesk.values import Change

logger = logging.getLogger(__name__)


class Learner:
    """Records passive feedback of one helpdesk."""

    def __init__(self, bot: Bot, store: Store, settings: PolicySettings, *, name: str) -> None:
        self._bot, self._store, self._settings, self._name = bot, store, settings, name
        self._lock = asyncio.Lock()  # one person's decisions are counted one at a time

    async def learn(
        self,
        source: SourceRef,
        known: Known,
        history: Sequence[Change],
        *,
        written: Written | None,
        label_field: str,
        field_map: FieldMap,
        macros: MacroIndex,
    ) -> Known:
        """Record what is new in a ticket's history; return what is known after it."""
        is_written = written is not None and written.marker == known.marker
        suggestion = Suggestion(
            label=known.label,
            value=written.value if written is not None and is_written else "",
            marker=known.marker,
            suggested_at=datetime.fromisoformat(known.suggested_at),
            is_blind=known.is_blind,
        )
        label_set = self._bot.inbox.get_label_set()

        def get_macro_labels(macro: str) -> tuple[str, ...]:
            return (known.label,) if known.macro and macro == known.macro else macros.find_labels_of(macro, label_set)

        signals = read_signals(
            suggestion, history, label_field=label_field, get_label=field_map.get_label, get_macro_labels=get_macro_labels
        )
        for signal in signals:
            if signal.change_id not in known.learned:
                await self._record(source, known, signal, kind=signal.get_feedback_kind(suggestion))
                known = known.add_learned(signal.change_id)
        return known

    async def _record(self, source: SourceRef, known: Known, signal: Signal, *, kind: FeedbackKind) -> None:
        try:
            detail = await self._bot.inbox.find_ticket(source)
        except NotFoundError:
            return
        if _is_known_already(signal, detail):
            return
        feedback = Feedback(
            inference_id=known.inference_id,
            kind=kind,
            actor=f"{self._name}:{signal.actor or 'unknown'}",
            idempotency_key=f"{self._name}:{source.external_id}:{signal.change_id}",
            value=signal.label if kind is FeedbackKind.OVERRIDE else None,
            is_passive=True,
        )
        receipt = await self._bot.record_feedback(feedback)
        if receipt.is_new:
            async with self._lock:
                await self._count(signal, source, receipt.feedback_id)

    async def _count(self, signal: Signal, source: SourceRef, feedback_id: int) -> None:
        """Take back what one person decided on many tickets within moments: nobody looked at each of them."""
        key, window = f"burst/{signal.actor}", timedelta(seconds=self._settings.bulk_window_s)
        found = await self._store.get(key) or {"items": []}
        items = [item for item in found["items"] if abs(signal.at - datetime.fromisoformat(item[0])) <= window]
        items.append([signal.at.isoformat(), feedback_id, source.external_id, False])
        if len({item[2] for item in items}) >= self._settings.bulk_changes:
            for item in items:
                if not item[3]:
                    await self._withdraw(item[1])
                    item[3] = True
        await self._store.put(key, {"items": items[-2 * self._settings.bulk_changes :]}, expires_in_s=86400.0)

    async def _withdraw(self, feedback_id: int) -> None:
        try:
            await self._bot.withdraw_feedback(feedback_id, actor=self._name)
        except (ConflictError, NotFoundError) as error:
            logger.debug("feedback %d stays: %s", feedback_id, type(error).__name__)


def _is_known_already(signal: Signal, detail: TicketDetail) -> bool:
    """A decision that was clicked stands above a ticket that was merely solved; choosing what is already decided says nothing new."""
    if signal.kind is SignalKind.SOLVED and detail.decision is not None:
        return True
    return detail.decided_label == signal.label
