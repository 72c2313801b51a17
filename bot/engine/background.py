"""Work beside the requests being answered: on a thread of its own that gives way to them, with what it allocated handed back afterwards.

Knows threads and the C library's heap, not what is computed.
"""

import asyncio
import ctypes
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

T = TypeVar("T")
NICENESS: Final = 10
"""A tenth of the processor's time where others want all of it, everything where nobody does."""


def start_in_background(function: Callable[[], T], *, name: str) -> "asyncio.Future[T]":
    """Start a function on a thread of low priority and return its future; call it on the event loop."""
    executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name, initializer=_give_way)

    def run() -> T:
        try:
            return function()
        finally:
            _trim_heap()

    future = asyncio.get_running_loop().run_in_executor(executor, run)
    executor.shutdown(wait=False)  # it takes no more work; the thread ends with this
    return future


def _give_way() -> None:
    if sys.platform == "linux":  # only there does a thread have a niceness of its own
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, max(NICENESS, os.getpriority(os.PRIO_PROCESS, thread)))


def _trim_heap() -> None:
    """Hand freed memory back to the system: matrices of a few megabytes, allocated now and then, would else stay in the heap."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
