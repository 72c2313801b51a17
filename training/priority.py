"""How a training process steps back: its place in the scheduler's order and the threads it may start.

Knows the operating system; nothing of training.
"""

import logging
import os
import sys

from threadpoolctl import threadpool_limits

from bot.settings import Settings

logger = logging.getLogger(__name__)
LOWEST = 19


def lower_priority(settings: Settings) -> None:
    """Let everything else on the machine go first, and bound the threads of what is loaded and of what is loaded later."""
    nice, threads = settings.training.nice, settings.training.threads
    os.nice(nice)
    if sys.platform == "linux" and nice > 0:
        # Batch work never takes the processor from what has just woken up; idle work gives it up at once.
        policy = os.SCHED_IDLE if nice == LOWEST else os.SCHED_BATCH
        try:
            os.sched_setscheduler(0, policy, os.sched_param(0))
        except OSError as error:  # some containers forbid it; the niceness above holds all the same
            logger.info("the scheduling policy stays as it is: %s", error.strerror)
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(threads)
    threadpool_limits(limits=threads)  # the environment is read at loading, and numpy is loaded by now
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
