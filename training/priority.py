"""How a training process steps back: its place in the scheduler's order and the threads it may start.

Knows the operating system; nothing of training.
"""

import contextlib
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from threadpoolctl import threadpool_limits

from bot.settings import Settings

logger = logging.getLogger(__name__)
LOWEST = 19


def lower_priority(settings: Settings) -> None:
    """Let everything else on the machine go first, and bound the threads of what is loaded and of what is loaded later."""
    nice, threads = settings.training.nice, settings.training.threads
    own = [os.getpid()]
    if sys.platform == "linux":  # a niceness and a policy per thread, and numpy started threads of its own when it was imported
        own = [int(task.name) for task in Path("/proc/self/task").iterdir()]
    step_back(own, nice)
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(threads)
    threadpool_limits(limits=threads)  # the environment is read at loading, and numpy is loaded by now
    os.environ["TOKENIZERS_PARALLELISM"] = "false"


def step_back(threads: Sequence[int], nice: int) -> None:
    """Give threads at least that niceness and, on Linux, the scheduling policy that goes with it. The id of a process is its first thread's."""
    if nice <= 0:
        return
    for thread in threads:
        with contextlib.suppress(ProcessLookupError):  # it may end meanwhile
            os.setpriority(os.PRIO_PROCESS, thread, max(nice, os.getpriority(os.PRIO_PROCESS, thread)))
    if sys.platform != "linux":
        return
    # Batch work never takes the processor from what has just woken up; idle work gives it up at once.
    policy = os.SCHED_IDLE if nice == LOWEST else os.SCHED_BATCH
    try:
        for thread in threads:
            with contextlib.suppress(ProcessLookupError):
                os.sched_setscheduler(thread, policy, os.sched_param(0))
    except OSError as error:  # some containers forbid it; the niceness above holds all the same
        logger.info("the scheduling policy stays as it is: %s", error.strerror)
