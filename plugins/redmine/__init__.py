"""Redmine: suggestions as custom fields and private notes, and feedback from an issue's journal. Redmine is polled.

Holds the spec alone; HTTP loads in `create`.
"""

from bot.plugin_api import Bot, Plugin, PluginSpec
from plugins.redmine.settings import RedmineSettings


def create(bot: Bot, settings: RedmineSettings) -> Plugin:
    """Build the plugin."""
    from plugins.redmine.app import build_plugin

    return build_plugin(bot, settings)


spec = PluginSpec(name="redmine", settings_type=RedmineSettings, create=create)
