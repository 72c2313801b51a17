"""Zendesk: suggestions in the ticket, and feedback from what support agents do there.

Holds the spec alone; HTTP and routes load in `create`.
"""

from bot.plugin_api import Bot, Plugin, PluginSpec
from plugins.zendesk.settings import ZendeskSettings


def create(bot: Bot, settings: ZendeskSettings) -> Plugin:
    """Build the plugin."""
    from plugins.zendesk.app import build_plugin

    return build_plugin(bot, settings)


spec = PluginSpec(name="zendesk", settings_type=ZendeskSettings, create=create)
