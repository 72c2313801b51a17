"""The HTTP surface of the bot: routes and their dependencies."""
