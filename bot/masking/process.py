"""The bot's side of one masking process: start it, hand it a text, end it.

Knows how long a text may take; nothing of queues and of other processes.
"""

import contextlib
import os
import socket
import subprocess
import sys
from typing import Any, Final

from bot.masking.placeholders import Masked, MaskingError, PlaceholderMap
from bot.masking.settings import MaskingSettings
from bot.masking.wire import Channel, pack_map, unpack_map, unpack_masked

_COMMAND: Final = ("-m", "bot.masking.worker")
_START_TIMEOUT_S: Final = 120.0  # three seconds, but longer on a machine that has other things to do
_END_TIMEOUT_S: Final = 2.0
_GRACE_S: Final = 3.0
_OVERLAP_CHARS: Final = 200
_GONE: Final = "the masking process ended while it worked on this text: the text is withheld"
_LATE: Final = "masking took longer than chunk_timeout_ms allows: its process was ended and the text is withheld"


class ProcessGoneError(MaskingError):
    """The process had ended before it looked at the text, which another one can mask."""


class ProcessLostError(MaskingError):
    """The text was withheld and the process that worked on it is gone."""


def get_limit_s(n_chars: int, settings: MaskingSettings) -> float:
    """Seconds after which a text of that length has its process ended: the time of all its pieces and a little for the rest."""
    n_pieces = 1 + n_chars // (settings.chunk_chars - _OVERLAP_CHARS)
    return n_pieces * settings.chunk_timeout_ms / 1000 + _GRACE_S


def build_environment() -> dict[str, str]:
    """The bot's environment without its settings and secrets, and with one thread for arithmetic."""
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith("UNDERSTUDY_")}
    return kept | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


class MaskingProcess:
    """One process. Making it returns at once; `wait_ready` waits for its model. Used by one thread at a time, but for `kill`."""

    def __init__(self, settings: MaskingSettings) -> None:
        self._settings = settings
        self._is_ready = False
        self.n_done = 0
        ours, theirs = socket.socketpair()
        with theirs:
            self._channel = Channel(ours)
            self._process = subprocess.Popen(  # noqa: S603 - our own module
                [sys.executable, *_COMMAND, str(theirs.fileno()), str(os.getpid())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # what an interpreter says when it dies may quote the text
                env=build_environment(),
                process_group=0,  # Ctrl+C is for the bot: it ends its processes itself
            )
        with contextlib.suppress(OSError):  # gone already: wait_ready says so
            self._channel.send({"settings": settings.model_dump(mode="json")}, timeout_s=_START_TIMEOUT_S)

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    def wait_ready(self, timeout_s: float = _START_TIMEOUT_S) -> None:
        """Wait until the model is loaded. Raises MaskingError if it cannot be, TimeoutError if it is not ready in time."""
        if self._is_ready:
            return
        try:
            problem = self._channel.receive(timeout_s=timeout_s).get("error", "")
        except TimeoutError:
            raise
        except (EOFError, OSError):
            problem = "a masking process ended before it was ready; is there enough memory (200 MB each)? Fewer masking.workers need less"
        if problem:
            raise MaskingError(problem)
        self._is_ready = True

    def is_ready(self) -> bool:
        """Whether the model is loaded, without waiting. Raises MaskingError if it cannot be."""
        with contextlib.suppress(TimeoutError):
            self.wait_ready(0.001)
        return self._is_ready

    def is_alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    def begin(self, text: str, mapping: PlaceholderMap) -> None:
        """Hand a text over and wait until it is looked at. Raises ProcessGoneError where the process has ended; `finish` comes next."""
        limit_s = get_limit_s(len(text), self._settings)
        problem: type[MaskingError] | None = None
        try:
            self._channel.send({"text": text, "map": pack_map(mapping), "limit_s": limit_s + _GRACE_S}, timeout_s=limit_s)
            self._channel.receive(timeout_s=limit_s)
        except TimeoutError:
            problem = ProcessLostError
        except (EOFError, OSError):
            problem = ProcessGoneError
        # Raised outside the handlers: nothing of the transport is to be chained to what a log may print.
        if problem is not None:
            self.kill()
            raise problem(_LATE if problem is ProcessLostError else _GONE)

    def finish(self, n_chars: int, mapping: PlaceholderMap) -> Masked:
        """Wait for the text that was begun; `mapping` gets the new numbers. Raises MaskingError; ProcessLostError when it cost the process."""
        problem, is_lost = "", True
        answer: dict[str, Any] = {}
        try:
            answer = self._channel.receive(timeout_s=get_limit_s(n_chars, self._settings))
            problem, is_lost = answer.get("error", ""), False
        except TimeoutError:
            problem = _LATE
        except (EOFError, OSError):
            problem = _GONE
        self.n_done += 1
        if is_lost:
            self.kill()
            raise ProcessLostError(problem)
        if problem:
            raise MaskingError(problem)
        mapping.replace_with(unpack_map(answer["map"]))
        return unpack_masked(answer)

    def mask(self, text: str, mapping: PlaceholderMap) -> Masked:
        """`text` masked with the numbers of `mapping`, which gets the new ones. Raises as `begin` and `finish` do."""
        self.begin(text, mapping)
        return self.finish(len(text), mapping)

    def close(self) -> None:
        """Let the process end by itself, and make it where it does not."""
        self._channel.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_TIMEOUT_S)
        self.kill()

    def kill(self) -> None:
        """End the process now. Whoever waits for its answer gets an end of file."""
        self._process.kill()
        self._process.wait()
