"""The console: the web pages of Understudy, a plugin like the others.

Holds the spec alone; web framework and templates load in `create`.
"""

from bot.plugin_api import Bot, Plugin, PluginSpec
from plugins.console.settings import ConsoleSettings


def create(bot: Bot, settings: ConsoleSettings) -> Plugin:
    """Build the console."""
    from plugins.console.app import ConsolePlugin

    return ConsolePlugin(bot, settings)


spec = PluginSpec(name="console", settings_type=ConsoleSettings, create=create)
