"""Keeps the training daemon running as a child process of `serve`, for deployments of one machine.

Starts it, starts it again when it dies, and ends it with the bot. Knows nothing of what it does.
"""

import asyncio
import contextlib
import logging
import sys
from asyncio.subprocess import Process
from collections.abc import Mapping

logger = logging.getLogger(__name__)
COMMAND = (sys.executable, "-m", "training", "daemon", "--with-parent")
"""Its standard input is a pipe that nobody writes to: it ends with this process, however that ends, and the daemon with it."""
_FIRST_BACKOFF_S = 1.0
_MAX_BACKOFF_S = 60.0
_STOP_TIMEOUT_S = 10.0


class TrainingChild:
    """Supervises `python -m training daemon`, which ends with this process."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = dict(environment)
        self._process: Process | None = None
        self._worker: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start supervising."""
        self._worker = asyncio.create_task(self._supervise(), name="training-child")

    async def stop(self) -> None:
        """End the daemon: politely, then by force. A run it had going resumes at the next start."""
        if self._worker is not None:
            self._worker.cancel()
            await asyncio.gather(self._worker, return_exceptions=True)
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):  # it may end between the look and the signal
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), timeout=_STOP_TIMEOUT_S)
        except TimeoutError:
            process.kill()
            await process.wait()

    async def _supervise(self) -> None:
        backoff_s = _FIRST_BACKOFF_S
        loop = asyncio.get_running_loop()
        while True:
            started = loop.time()
            self._process = await asyncio.create_subprocess_exec(*COMMAND, stdin=asyncio.subprocess.PIPE, env=self._environment)
            code = await self._process.wait()
            if loop.time() - started > _MAX_BACKOFF_S:
                backoff_s = _FIRST_BACKOFF_S
            logger.warning("the training daemon ended with status %s; starting it again in %.0f s", code, backoff_s)
            await asyncio.sleep(backoff_s)
            backoff_s = min(backoff_s * 2, _MAX_BACKOFF_S)
