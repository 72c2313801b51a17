"""What is asked in the benches: real tickets that ship with the demo, and a label set of 77 labels.

Knows texts and prompts, not who answers them. The labels are banking77's where that data lies beside the checkout (it is not shipped);
elsewhere 77 made-up names of the same kind, with the same number of words, stand in.
"""

import gzip
import json
import random
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from benches.paths import ROOT
from bot.data import load_demo_dialogues, load_demo_tickets
from bot.engine.protocol import ChoiceSet
from bot.tasks.classification import build_choices
from bot.tasks.summary import SummaryPrompt, build_summary_prompt, split_units
from bot.types import Label, LabelSet
from db.types import MaskedText

BANKING77: Final = ROOT.parent / "shared" / "data" / "classification" / "banking77.jsonl.gz"
N_LABELS: Final = 77
_SUBJECTS: Final = (
    "card payment transfer top_up account balance refund exchange_rate cash_withdrawal identity pin passcode".split()
)
_MATTERS: Final = (
    "not_working not_recognised still_pending was_declined fee_charged wrong_amount limit_reached how_to_change arriving_late "
    "lost_or_stolen why_needed supported_countries reverted_by_itself"
).split()
_SEED: Final = 77


@dataclass(frozen=True)
class Labels:
    """A label set and where its names are from."""

    choices: ChoiceSet
    source: str


@cache
def load_labels() -> Labels:
    """Return 77 labels: banking77's, or made-up ones."""
    if BANKING77.exists():
        names, source = sorted({str(row["label"]) for row in _read_banking77()}), "banking77"
    else:
        names, source = _make_names(), "made up (banking77 is not beside this checkout)"
    label_set = LabelSet(name=source, version="bench-1", labels=tuple(Label(name=name, description="") for name in names))
    return Labels(build_choices(label_set), source)


def load_tickets(count: int) -> tuple[MaskedText, ...]:
    """Return that many real IT tickets in a fixed random order: 49 tokens on average, half of them under 28, one in twenty over 190."""
    texts = [ticket.text for ticket in (*load_demo_tickets().unseen, *load_demo_tickets().stream)]
    random.Random(_SEED).shuffle(texts)  # noqa: S311 - an order, not a secret
    return tuple(MaskedText(text) for text in texts[:count])


def load_short_tickets(count: int) -> tuple[MaskedText, ...]:
    """Return banking77's own one-line tickets (12 tokens on average); none where the data is not there."""
    if not BANKING77.exists():
        return ()
    texts = [str(row["text"]) for row in _read_banking77() if row["split"] == "test"]
    random.Random(_SEED).shuffle(texts)  # noqa: S311
    return tuple(MaskedText(text) for text in texts[:count])


def load_summary_prompts(count: int) -> tuple[SummaryPrompt, ...]:
    """Return prompts over real service dialogues."""
    dialogues = load_demo_dialogues()[:count]
    return tuple(build_summary_prompt(split_units("", dialogue.turns)) for dialogue in dialogues)


@cache
def _read_banking77() -> tuple[dict[str, object], ...]:
    with gzip.open(Path(BANKING77), "rt", encoding="utf-8") as file:
        return tuple(json.loads(line) for line in file)


def _make_names() -> list[str]:
    names = [f"{subject}_{matter}" for matter in _MATTERS for subject in _SUBJECTS]
    return sorted(names[:N_LABELS])
