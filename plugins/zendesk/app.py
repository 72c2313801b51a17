"""Zendesk as a plugin: puts client, desk and webhook together.

Knows no JSON of Zendesk.
"""

import httpx

from bot.plugin_api import Bot
from plugins.helpdesk.app import HelpdeskPlugin
from plugins.helpdesk.client import Clock, SystemClock
from plugins.helpdesk.desk import Desk
from plugins.helpdesk.intake import SignedWebhook
from plugins.helpdesk.policy import build_slug
from plugins.zendesk.client import ZendeskClient, build_api
from plugins.zendesk.settings import ZendeskSettings
from plugins.zendesk.sidebar import Sidebar
from plugins.zendesk.webhook import ZendeskDialect

NAME = "zendesk"
OPTION_PREFIX = "understudy_"


def encode_option(label: str) -> str:
    """Return the tag that stands for a label in the field made by set-up: tags are shared by the whole account, hence the prefix."""
    return f"{OPTION_PREFIX}{build_slug(label)}"


def build_plugin(
    bot: Bot, settings: ZendeskSettings, *, clock: Clock | None = None, transport: httpx.AsyncBaseTransport | None = None
) -> HelpdeskPlugin:
    """Build the plugin; `transport` stands in for the network."""
    clock = clock or SystemClock()
    client = ZendeskClient(build_api(settings, clock, transport), settings, clock)
    desk = Desk(
        bot,
        client,
        settings,
        name=NAME,
        clock=clock,
        encode=build_slug if settings.label_field else encode_option,
        allowed={"brand": settings.brand_labels, "form": settings.form_labels},
    )
    webhook = SignedWebhook(desk, ZendeskDialect(client, settings, clock))
    webhook.router.include_router(Sidebar(bot, desk, settings, clock=clock).router)
    return HelpdeskPlugin(desk, name=NAME, clock=clock, router=webhook.router, watch=settings)
