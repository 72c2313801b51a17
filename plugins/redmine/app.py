"""Redmine as a plugin: client and desk. There is no route: Redmine has no webhooks.

Knows no JSON of Redmine.
"""

import httpx

from bot.plugin_api import Bot
from plugins.helpdesk.app import HelpdeskPlugin
from plugins.helpdesk.client import Clock, SystemClock
from plugins.helpdesk.desk import Desk
from plugins.redmine.client import RedmineClient, build_api
from plugins.redmine.settings import RedmineSettings

NAME = "redmine"


def build_plugin(
    bot: Bot, settings: RedmineSettings, *, clock: Clock | None = None, transport: httpx.AsyncBaseTransport | None = None
) -> HelpdeskPlugin:
    """Build the plugin; `transport` stands in for the network."""
    clock = clock or SystemClock()
    client = RedmineClient(build_api(settings, clock, transport), settings, clock)
    allowed = {"project": settings.project_labels, "tracker": settings.tracker_labels}
    return HelpdeskPlugin(
        Desk(bot, client, settings, name=NAME, clock=clock, allowed=allowed), name=NAME, clock=clock, watch=settings
    )
