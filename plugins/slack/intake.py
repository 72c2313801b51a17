"""Takes in what Slack sends: safe in the durable queue first, acknowledged then, handled later.

Knows nothing of transports, and nothing of what an event means beyond the lists of `plugins.slack.events`.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Coroutine
from typing import Any

from slack_bolt.context.ack.async_ack import AsyncAck

from bot.plugin_api import BotError, BusyError, Event, RetryLaterError
from plugins.slack.client import SlackRefusedError
from plugins.slack.desk import IS_REPEATED, Desk
from plugins.slack.events import CHECKS, FILTERS, HANDLERS, OPENERS, ROUTES
from plugins.slack.payloads import Body, find_group, find_key, make_storable, read_asker
from plugins.slack.text import to_sentence

logger = logging.getLogger(__name__)
TRIES_BEFORE_A_WORD = 3
NOT_OPENED = "The form could not be opened. Please click or type it again."
STILL_TRYING = "This takes longer than it should; I keep trying."


class NotStoredError(Exception):
    """The queue could not store an event; its cause says why. Without an acknowledgement Slack sends it again."""


class Intake:
    """From a verified payload to the queue, and from the queue to its handler. `counts` says how many came of each kind."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._workers: set[asyncio.Task[None]] = set()
        self.counts: Counter[str] = Counter()

    async def take(self, name: str, body: Body, ack: AsyncAck) -> None:
        """Store what came in, then acknowledge it. Raises NotStoredError."""
        self.counts[name] += 1
        body = make_storable(body)
        key = find_key(name, body)
        if name in ROUTES:
            name, body = ROUTES[name](body)
        errors = CHECKS[name](body) if name in CHECKS else {}
        if errors:
            await ack(response_action="errors", errors=dict(errors))
            return
        if name in OPENERS:
            self._start(self._open(name, body), name)
        elif name not in FILTERS or FILTERS[name](self._desk.settings, body):
            await self._store(key, name, body)
        await ack()

    async def _store(self, key: str, name: str, body: Body) -> None:
        payload = {field: value for field, value in body.items() if field not in {"token", "trigger_id"}}
        group = find_group(body)
        try:
            await self._desk.queue.put(key, name, payload, group=group)
        except Exception as error:
            raise NotStoredError from error

    async def handle(self, event: Event) -> None:
        """Handle one stored event; refusals become a word to the person who asked."""
        handler = HANDLERS.get(event.kind)
        if handler is None:
            logger.warning("an event of kind %s was stored by another version and is left alone", event.kind)
            return
        IS_REPEATED.set(event.attempt > 1)  # of this worker alone: each event has one of its own
        try:
            await handler(self._desk, event)
        except BusyError as error:
            raise RetryLaterError(type(error).__name__, after_s=error.retry_after_s) from error
        except (BotError, SlackRefusedError) as error:
            await self._explain(event, error)
        except RetryLaterError:
            raise
        except Exception:
            if event.attempt == TRIES_BEFORE_A_WORD:
                await self._desk.tell(read_asker(event.payload), STILL_TRYING)
            raise

    async def _explain(self, event: Event, error: Exception) -> None:
        """Say a refusal to whoever asked; what nobody asked for is logged by its code."""
        code = error.code if isinstance(error, SlackRefusedError) else type(error).__name__
        asker = read_asker(event.payload)
        if event.kind == "event:message" or not asker.user:
            logger.warning("a %s could not be handled: %s", event.kind, code)
            return
        logger.info("a %s was refused: %s", event.kind, code)
        await self._desk.tell(asker, to_sentence(error))

    async def _open(self, name: str, body: Body) -> None:
        try:
            await OPENERS[name](self._desk, body)
        except Exception as error:  # nobody awaits it; the type alone is logged, its text may quote a ticket
            logger.warning("a form could not be opened (%s): %s", name, type(error).__name__)
            try:
                await self._desk.tell(read_asker(body), NOT_OPENED)
            except Exception as second:  # whoever clicked sees that no form came
                logger.warning("nor could anybody be told (%s)", type(second).__name__)

    def _start(self, work: Coroutine[Any, Any, None], name: str) -> None:
        worker = asyncio.create_task(work, name=f"slack-{name}")
        self._workers.add(worker)
        worker.add_done_callback(self._workers.discard)

    async def join(self) -> None:
        """Wait until every form that is being opened is open."""
        await asyncio.gather(*self._workers, return_exceptions=True)

    async def stop(self) -> None:
        """Give up forms that are being opened."""
        for worker in list(self._workers):
            worker.cancel()
        await self.join()
