"""Request Tracker: suggestions as custom fields and comments, and feedback from a ticket's transactions.

Holds the spec alone; HTTP and routes load in `create`.
"""

from bot.plugin_api import Bot, Plugin, PluginSpec
from plugins.request_tracker.settings import RequestTrackerSettings


def create(bot: Bot, settings: RequestTrackerSettings) -> Plugin:
    """Build the plugin."""
    from plugins.request_tracker.app import build_plugin

    return build_plugin(bot, settings)


spec = PluginSpec(name="request_tracker", settings_type=RequestTrackerSettings, create=create)
