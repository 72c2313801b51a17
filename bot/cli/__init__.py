"""The command line: `understudy COMMAND`. Each known error ends as one sentence on standard error, never a traceback."""

from bot.cli.main import main

__all__ = ["main"]
