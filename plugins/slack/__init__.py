"""Slack: suggestions, summaries and decisions in the threads where support agents work; a plugin like the others.

Holds the spec alone; bolt and its HTTP client load in `create`.
"""

from bot.plugin_api import Bot, Plugin, PluginSpec
from plugins.slack.settings import SlackSettings


def create(bot: Bot, settings: SlackSettings) -> Plugin:
    """Build the plugin."""
    from plugins.slack.app import SlackPlugin

    return SlackPlugin(bot, settings)


spec = PluginSpec(name="slack", settings_type=SlackSettings, create=create)
