"""Time under a test's control: what a clock is to the fakes, and one that moves only when told to.

Part of `bot.testing`; knows nothing of bots or runs.
"""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Where a fake takes its time from."""

    def now(self) -> datetime:
        """Return the time in UTC."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Let `seconds` of this clock pass."""
        ...


class FakeClock:
    """A clock that moves only when told to, or when somebody sleeps on it. `real_s` is what one sleep costs in real seconds."""

    def __init__(self, start: datetime | None = None, *, real_s: float = 0.0) -> None:
        self._now = start or datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
        self._real_s = real_s

    def now(self) -> datetime:
        """Return the time in UTC."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Move forward by `seconds`."""
        self._now += timedelta(seconds=seconds)

    async def sleep(self, seconds: float) -> None:
        """Move forward by `seconds` and let other coroutines run."""
        self.advance(seconds)
        await asyncio.sleep(self._real_s)
