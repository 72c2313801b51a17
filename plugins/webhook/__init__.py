"""A helpdesk without a plugin of its own: it posts JSON, and suggestions are posted back.

Holds the spec alone; HTTP and routes load in `create`.
"""

from bot.plugin_api import Bot, Plugin, PluginSpec
from plugins.webhook.settings import WebhookSettings


def create(bot: Bot, settings: WebhookSettings) -> Plugin:
    """Build the plugin."""
    from plugins.webhook.app import build_plugin

    return build_plugin(bot, settings)


spec = PluginSpec(name="webhook", settings_type=WebhookSettings, create=create)
