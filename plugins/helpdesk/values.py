"""Frozen values of a helpdesk: tickets, changes of their history, macros, and what is to be written.

Knows neither HTTP nor the bot's decisions; every helpdesk's own words are translated into these by its client.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from bot.plugin_api import Turn


class TicketState(StrEnum):
    """Where a ticket stands, in the words all helpdesks share. Owner: the helpdesk."""

    OPEN = "open"
    SOLVED = "solved"
    CLOSED = "closed"  # nothing can be written any more
    MERGED = "merged"  # lives on in another ticket
    DELETED = "deleted"


class Author(StrEnum):
    """Who changed a ticket. Only what a person of the support team did is feedback."""

    PERSON = "person"
    CUSTOMER = "customer"
    OURSELVES = "ourselves"
    RULE = "rule"  # a trigger, an automation, a workflow
    BULK = "bulk"  # a batch job, an import, a merge


@dataclass(frozen=True)
class HelpdeskTicket:
    """A ticket as it stands now. Texts are raw: they go to the bot and nowhere else.

    `fields` holds the values of all fields under the helpdesk's own names or numbers, as text. `turns` are public messages, oldest first.
    `scopes` say where the ticket belongs, such as {"brand": "12", "form": "7"}. `customer` ties a customer's tickets together.
    """

    ticket_id: str
    state: TicketState
    subject: str = ""
    turns: tuple[Turn, ...] = ()
    fields: Mapping[str, str] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    scopes: Mapping[str, str] = field(default_factory=dict)
    customer: str = ""
    updated_at: datetime | None = None
    created_at: datetime | None = None
    is_ignored: bool = False
    """Whether it is no ticket of a customer, such as one made by a side conversation."""


@dataclass(frozen=True)
class Change:
    """One entry of a ticket's history. `fields` are the new values of what it changed ("" where a value was removed).

    `change_id` is the helpdesk's own and never used twice; `actor` is the author's number there, no name. `macro` is the name of a
    macro that was applied. `state` is the state it brought the ticket into, None where it changed none. `marker` is what we left there.
    """

    change_id: str
    at: datetime
    author: Author
    actor: str = ""
    fields: Mapping[str, str] = field(default_factory=dict)
    macro: str = ""
    state: TicketState | None = None
    marker: str = ""


@dataclass(frozen=True)
class Macro:
    """A canned answer or action of the helpdesk. `text` is what it writes and says; it is searched, never shown."""

    macro_id: str
    title: str
    text: str = ""


@dataclass(frozen=True)
class TicketRef:
    """A ticket that changed. `version` differs whenever the ticket does."""

    ticket_id: str
    version: str


@dataclass(frozen=True)
class Page:
    """Some of the tickets that changed since a cursor. `cursor` goes on where this page ends; `is_last` says that no more wait."""

    tickets: tuple[TicketRef, ...]
    cursor: str
    is_last: bool


@dataclass(frozen=True)
class Update:
    """What is written to a ticket in one request. `note` is seen by support agents alone; empty means none.

    `marker` names this update in the ticket's history. The client refuses with StaleError where the ticket is newer than `seen_at`.
    """

    ticket_id: str
    marker: str
    fields: Mapping[str, str] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    note: str = ""
    seen_at: datetime | None = None
    is_decision: bool = False
    """Whether a person decided it, elsewhere."""


FRESH = timedelta(seconds=5)


def build_version(updated_at: datetime, now: datetime) -> str:
    """Return a ticket's version from a time in whole seconds. A very fresh one gets a version of its own, so that it is looked at once more:
    a second change within the same second would otherwise go unseen.
    """
    return updated_at.isoformat() + ("/fresh" if now - updated_at < FRESH else "")
