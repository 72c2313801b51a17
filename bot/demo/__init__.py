"""`understudy demo`: the whole loop once, on bundled real tickets, in a folder of its own."""

from bot.demo.run import run_demo

__all__ = ["run_demo"]
