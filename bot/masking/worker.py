"""A masking process: `python -m bot.masking.worker FD` masks what comes in on a socket with its own `Masker`, one text at a time.

Ends by itself when the bot is gone and when a text takes too long. Leaves no text behind: it has no standard error, no log, no core file.
"""

import contextlib
import os
import resource
import signal
import socket
import sys
import threading
import time
from typing import Any, Final

from bot.masking.masker import Masker
from bot.masking.placeholders import MaskingError
from bot.masking.settings import MaskingSettings
from bot.masking.wire import Channel, pack_map, pack_masked, unpack_map

_WATCH_INTERVAL_S: Final = 1.0


def main() -> None:
    """Serve until the socket closes."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file would hold the text
    parent = int(sys.argv[2])
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    channel = Channel(socket.socket(fileno=int(sys.argv[1])))
    with contextlib.suppress(EOFError, OSError):  # the bot closed the socket or is gone: there is nobody left to tell
        serve(channel)


def serve(channel: Channel) -> None:
    """Build the masker from the first message, then answer each text. Raises EOFError or OSError when the other end is gone."""
    settings = MaskingSettings.model_validate(channel.receive()["settings"])
    try:
        masker = Masker(settings)
    except MaskingError as error:
        channel.send({"error": str(error)})
        return
    channel.send({"pid": os.getpid()})
    while True:
        job = channel.receive()
        # The kernel ends the process at that time, whatever it is busy with and whether or not the bot still lives.
        signal.setitimer(signal.ITIMER_REAL, job["limit_s"])
        channel.send({"is_begun": True})  # from here on, if the process ends the text may be to blame
        answer = answer_job(masker, job)
        signal.setitimer(signal.ITIMER_REAL, 0)
        channel.send(answer)


def answer_job(masker: Masker, job: dict[str, Any]) -> dict[str, Any]:
    """Mask one text with the numbers it brought along."""
    mapping = unpack_map(job["map"])
    try:
        masked = masker.mask(job["text"], mapping)
    except MaskingError as error:
        return {"error": str(error)}
    return pack_masked(masked) | {"map": pack_map(mapping)}


def _end_with(parent: int) -> None:
    """End the process as soon as the bot is gone: killed, it closes the socket, but a process in mid-text does not read it."""
    while os.getppid() == parent:
        time.sleep(_WATCH_INTERVAL_S)
    os._exit(0)


if __name__ == "__main__":
    main()
