"""The generic webhook as a plugin: puts reader, client, desk and routes together.

Knows no helpdesk: what its JSON looks like stands in the settings.
"""

from collections.abc import Mapping
from typing import Any

import httpx

from bot.plugin_api import Bot, Event, Turn
from plugins.helpdesk.app import HelpdeskPlugin
from plugins.helpdesk.client import Clock, SystemClock
from plugins.helpdesk.desk import Desk
from plugins.helpdesk.values import HelpdeskTicket, TicketState
from plugins.webhook.callback import Callback, Signer
from plugins.webhook.client import PushedClient
from plugins.webhook.reading import LABEL, Reader
from plugins.webhook.routes import Routes
from plugins.webhook.settings import WebhookSettings

NAME = "webhook"


class PushedDesk(Desk):
    """A desk whose tickets come with the events themselves."""

    def __init__(self, bot: Bot, client: PushedClient, settings: WebhookSettings, *, clock: Clock) -> None:
        super().__init__(bot, client, settings, name=NAME, clock=clock, allowed={"scope": settings.scope_labels})
        self._pushed = client

    async def get_label_field(self) -> str:
        """Return the one field there is, whatever the helpdesk calls it."""
        return LABEL

    async def read(self, event: Event) -> HelpdeskTicket:
        """Return the ticket as the event tells it, with what is remembered of it."""
        message: Mapping[str, Any] = event.payload
        is_newest = await self._pushed.note(message, change_id=event.key)
        kept = await self._pushed.fetch_ticket(str(message["ticket_id"]))
        return HelpdeskTicket(
            ticket_id=kept.ticket_id,
            state=TicketState(kept.state),
            subject=message["subject"] if is_newest else "",
            turns=tuple(Turn(speaker, text) for speaker, text in message["turns"] if is_newest),
            fields=kept.fields,
            scopes={"scope": message["scope"]},
            customer=message["customer"],
        )


def build_plugin(
    bot: Bot, settings: WebhookSettings, *, clock: Clock | None = None, transport: httpx.AsyncBaseTransport | None = None
) -> HelpdeskPlugin:
    """Build the plugin; `transport` stands in for the network."""
    clock = clock or SystemClock()
    signer = Signer(settings, clock)
    client = PushedClient(bot.open_store(f"{NAME}.pushed"), Callback(settings, signer, clock, transport=transport), clock)
    desk = PushedDesk(bot, client, settings, clock=clock)
    routes = Routes(bot, desk, Reader(settings), signer=signer)
    return HelpdeskPlugin(desk, name=NAME, clock=clock, router=routes.router)
