"""Errors of the command line and of start-up whose message is one sentence for the person at the keyboard."""


class UserError(Exception):
    """Something the caller can put right: a file, an option, a port. The message says what to change."""
