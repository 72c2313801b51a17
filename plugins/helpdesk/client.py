"""The contract of a helpdesk's client, the errors it raises, and the clock everything here reads.

Knows no helpdesk; `plugins.helpdesk.http` is the usual ground to build a client on.
"""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Protocol

from plugins.helpdesk.values import Change, HelpdeskTicket, Macro, Page, Update


class HelpdeskError(Exception):
    """The helpdesk refuses a request. The message names the request and says what to change; it quotes no answer."""


class GoneError(HelpdeskError):
    """The ticket does not exist any more, or is out of our sight."""


class StaleError(HelpdeskError):
    """The ticket was changed since we looked: look again."""


class HelpdeskClient(Protocol):
    """One helpdesk, seen through its API. Outages and rate limits are raised as `RetryLaterError`, refusals as HelpdeskError."""

    async def fetch_ticket(self, ticket_id: str) -> HelpdeskTicket:
        """Return a ticket with its public messages. Raises GoneError."""
        ...

    async def fetch_bare_ticket(self, ticket_id: str) -> HelpdeskTicket:
        """Return a ticket without its messages, as one is written to. Raises GoneError."""
        ...

    async def fetch_history(self, ticket_id: str) -> Sequence[Change]:
        """Return all changes of a ticket, oldest first. Raises GoneError."""
        ...

    async def write(self, update: Update, ticket: HelpdeskTicket) -> None:
        """Write an update to a ticket that was just fetched. Raises GoneError and StaleError."""
        ...

    async def list_changed(self, cursor: str) -> Page:
        """Return tickets that changed since the cursor, oldest change first; an empty cursor means from now on."""
        ...

    async def list_solved(self, cursor: str, *, since: datetime) -> Page:
        """Return tickets for the back-fill that were changed since `since`; tickets that are not solved may be among them."""
        ...

    async def list_macros(self) -> Sequence[Macro]:
        """Return the macros of the helpdesk that are in use; empty where it has none."""
        ...

    async def find_label_field(self) -> str:
        """Return the field that holds the label where the settings name none; empty where there is no such field."""
        ...

    async def close(self) -> None:
        """Close connections."""
        ...


class Clock(Protocol):
    """Where time comes from."""

    def now(self) -> datetime:
        """Return the time in UTC."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Let `seconds` pass."""
        ...


class SystemClock:
    """The machine's time."""

    def now(self) -> datetime:
        """Return the time in UTC."""
        return datetime.now(UTC)

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)
