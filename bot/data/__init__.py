"""Bundled data for the demo and the first start, and its loaders; README.md beside this file names sources and licences.

Knows nothing of models, masking or the database.
"""

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from bot.tasks.labels import parse_label_set
from bot.types import LabelSet, Turn


@dataclass(frozen=True)
class DemoTicket:
    """A real IT ticket with the label its operators chose. Near-duplicates share a `group`."""

    id: str
    text: str
    label: str
    group: str


@dataclass(frozen=True)
class DemoTickets:
    """Tickets to work through and tickets that are never shown before the final score; no group is in both."""

    stream: tuple[DemoTicket, ...]
    unseen: tuple[DemoTicket, ...]


@dataclass(frozen=True)
class DemoDialogue:
    """The first turns of a service dialogue and, as its reference summary, the brief that the customer was given."""

    id: str
    turns: tuple[Turn, ...]
    summary: str


@dataclass(frozen=True)
class SampleTicket:
    """An invented ticket for the console's first start. `text` is the first message; `turns` the conversation where there is one."""

    id: str
    subject: str
    text: str
    turns: tuple[Turn, ...]


def _read_bytes(name: str) -> bytes:
    return files(__name__).joinpath(name).read_bytes()


def _read_rows(name: str) -> Iterator[dict[str, Any]]:
    for line in gzip.decompress(_read_bytes(name)).decode("utf-8").splitlines():
        yield json.loads(line)


def load_demo_tickets() -> DemoTickets:
    """Return the demo's tickets: 2,200 to work through and 1,900 unseen ones, in fixed random order."""
    stream, unseen = (
        tuple(DemoTicket(**row) for row in _read_rows(f"it_tickets_{part}.jsonl.gz")) for part in ("stream", "unseen")
    )
    return DemoTickets(stream=stream, unseen=unseen)


def load_demo_dialogues() -> tuple[DemoDialogue, ...]:
    """Return the dialogues of the summary loop, in fixed random order."""
    return tuple(
        DemoDialogue(id=row["id"], turns=_build_turns(row["turns"]), summary=row["summary"])
        for row in _read_rows("dialogues.jsonl.gz")
    )


def load_sample_tickets() -> tuple[SampleTicket, ...]:
    """Return the invented tickets of the first start. Names, addresses and numbers in them are made up."""
    rows = json.loads(_read_bytes("sample_tickets.json"))
    return tuple(_build_sample(row) for row in rows)


def demo_label_set() -> LabelSet:
    """Return the bundled IT helpdesk label set."""
    return parse_label_set(_read_bytes("it_tickets.yaml").decode("utf-8"), source="it_tickets.yaml")


def _build_turns(rows: list[list[str]]) -> tuple[Turn, ...]:
    return tuple(Turn(speaker=speaker, text=text) for speaker, text in rows)


def _build_sample(row: dict[str, Any]) -> SampleTicket:
    turns = _build_turns(row["turns"])
    return SampleTicket(id=row["id"], subject=row["subject"], text=turns[0].text, turns=turns if len(turns) > 1 else ())
