"""Requests that the engine tests share: a label set with difficult names, and texts that repeat exactly."""

import pytest

from bot.engine.protocol import ChoiceSet, ScoreRequest
from db.types import MaskedText, TaskKind

LABELS = ("Hardware", "Hard", "HR Support", "Access", "Access rights", "Purchase", "Storage")
"""Two labels are the beginning of another; three begin with the same letters."""
CHOICES = ChoiceSet(
    key="it-1",
    names=LABELS,
    descriptions=tuple(f"{name.lower()} requests" for name in LABELS),
    prefix=f"label the ticket: {', '.join(LABELS).lower()}\nticket: ",
    suffix="\nlabel:",
    answers=tuple(f" {name.lower()}" for name in LABELS),
)
WORDS = "the printer on second floor is out of toner my password has expired account locked vpn code shared drive denied".split()


def make_text(number: int) -> str:
    """A text of 3 to 30 words that differs for every number."""
    return " ".join(WORDS[(number * 7 + step * (1 + number % 5)) % len(WORDS)] for step in range(3 + number % 28)) + f" {number}"


def ask(number: int, *, choices: ChoiceSet = CHOICES, **changes) -> ScoreRequest:
    """A classification request."""
    return ScoreRequest(TaskKind.CLASSIFICATION, choices, MaskedText(make_text(number)), **changes)


both_kinds = pytest.mark.parametrize("model_path", ["encoder", "encoder-beside", "decoder"], indirect=True)
"""Runs a test on an engine of either kind, an encoder with adapters merged and beside the base."""
