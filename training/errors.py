"""Which errors speak to people, and how every other one is told without quoting a ticket.

A message we did not write may hold text of a ticket (SQL parameters, a tokenizer's complaint), so only its kind and place are passed on.
"""

import os
import re
import traceback
from pathlib import Path

from bot.bundle import BundleError
from bot.engine.protocol import EngineError
from bot.errors import UserError
from bot.masking import MaskingError
from bot.settings import SettingsError
from bot.tasks.labels import LabelSetError
from db.errors import DatabaseError


class TrainingError(Exception):
    """A run that cannot go on, for a reason that people can act on. The message is one sentence."""


KNOWN_ERRORS = (BundleError, EngineError, UserError, MaskingError, SettingsError, LabelSetError, DatabaseError, TrainingError)
"""Errors whose message is one sentence for people and never holds ticket text."""


_SYSTEM_ERROR = re.compile(r"\(os error (\d+)\)")
"""How safetensors and other libraries that are not written in Python tell of a full disk and the like."""


def describe_error(error: BaseException, *, log: Path | None = None) -> str:
    """Return one sentence for people; `log` is where more is to be found."""
    if isinstance(error, KNOWN_ERRORS):
        return str(error)
    if isinstance(error, MemoryError):
        return "the machine ran out of memory: lower training.max_examples or give the training process more"
    if isinstance(error, OSError) and error.strerror:
        return f"a file could not be read or written: {error.strerror} ({error.filename or 'no file named'})"
    system = _SYSTEM_ERROR.search(str(error))
    if system is not None:
        return f"a file could not be read or written: {os.strerror(int(system[1]))}"
    frames = traceback.extract_tb(error.__traceback__)
    place = f"{Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else "an unknown place"
    more = f"; see {log}" if log is not None else ""
    return f"an unexpected {type(error).__name__} in {place}{more}"


def render_frames(error: BaseException) -> str:
    """Return where an error came from, cause by cause, without messages and values."""
    lines = []
    current: BaseException | None = error
    while current is not None:
        lines.append(f"{type(current).__name__}:")
        lines += [f"  {frame.filename}:{frame.lineno} in {frame.name}" for frame in traceback.extract_tb(current.__traceback__)]
        current = current.__cause__ or current.__context__
    return "\n".join(lines)
