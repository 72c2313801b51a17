"""The few-shot contender: the bare decoder with a few of the team's examples in its prompt, which costs no training at all.

Builds the prompt; the engine answers it like any other.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from bot.engine.protocol import ChoiceSet
from training.dataset import Item

N_SHOTS = 8
MAX_LABELS = 24
MAX_CHARS = 300


def build_few_shot(choices: ChoiceSet, items: Sequence[Item]) -> ChoiceSet | None:
    """Return the choices with examples before the ticket, or None where a short prompt cannot hold them.

    One short example per label, the newest one, up to `N_SHOTS` of them, spread over the labels by how often they occur.
    """
    if len(choices.names) > MAX_LABELS:
        return None
    counts: dict[str, int] = {}
    newest: dict[str, Item] = {}
    for item in items:
        if item.is_negative or item.target not in choices.names or not item.text.strip() or len(item.text) > MAX_CHARS:
            continue
        counts[item.target] = counts.get(item.target, 0) + 1
        known = newest.get(item.target)
        if known is None or item.created_at >= known.created_at:
            newest[item.target] = item
    if not newest:
        return None
    chosen = sorted(newest, key=lambda label: (-counts[label], label))[:N_SHOTS]
    shots = "".join(
        f"{newest[label].text.strip()}{choices.suffix}{choices.answers[choices.names.index(label)]}\nTicket:\n"
        for label in chosen
    )
    content = hashlib.sha256(shots.encode()).hexdigest()[:12]
    return replace(choices, key=f"{choices.key}:few-shot-{content}", prefix=choices.prefix + shots)
