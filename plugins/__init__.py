"""Integrations, one folder each. A plugin imports `bot.plugin_api` and nothing else of ours."""
