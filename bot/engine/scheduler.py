"""Picks what the engine computes next: pure decisions from what waits, without ctypes, clock or thread.

Knows tokens, priorities, order of arrival and which LoRA weights an item needs; not what an item computes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from bot.engine.protocol import Priority

BULK_TURN: Final = 8
"""Every so many steps bulk work goes first, so that a steady interactive load cannot starve it."""


@dataclass(frozen=True, slots=True)
class Item:
    """Something that waits. `group` names the LoRA weights it needs; `order` is its place of arrival, unique and rising."""

    n_tokens: int
    group: str
    order: int
    priority: Priority = Priority.INTERACTIVE


def is_bulk_turn(step: int) -> bool:
    """Whether bulk work goes first at this step."""
    return step % BULK_TURN == BULK_TURN - 1


def choose_group(items: Sequence[Item], *, step: int, last_served: Mapping[str, int]) -> str:
    """Return the group whose turn it is: of those with the most urgent work, the one served longest ago, then the oldest.

    `step` counts steps; `last_served[group]` is the step at which a group ran last. `items` must not be empty.
    """
    urgent = _most_urgent(items, step=step)
    waiting = [item for item in items if item.priority == urgent]
    return min(waiting, key=lambda item: (last_served.get(item.group, -1), item.order)).group


def pick_batch(
    items: Sequence[Item], *, step: int, last_served: Mapping[str, int], budget_tokens: int, max_items: int
) -> list[int]:
    """Return indices into `items` to run together: one group, at most `max_items`, at most `budget_tokens` tokens in sum.

    The oldest of the most urgent items of the group whose turn it is always runs, even where it alone exceeds the budget. The rest
    is filled in order of urgency and age with what still fits. An empty list means that nothing waits.
    """
    if not items:
        return []
    group = choose_group(items, step=step, last_served=last_served)
    urgent = _most_urgent(items, step=step)
    members = [index for index, item in enumerate(items) if item.group == group]
    members.sort(key=lambda index: (items[index].priority != urgent, items[index].priority, items[index].order))
    picked = members[:1]
    room = budget_tokens - items[picked[0]].n_tokens
    for index in members[1:]:
        if len(picked) >= max_items or room <= 0:
            break
        if items[index].n_tokens <= room:
            picked.append(index)
            room -= items[index].n_tokens
    return picked


def _most_urgent(items: Sequence[Item], *, step: int) -> Priority:
    priorities = {item.priority for item in items}
    return max(priorities) if is_bulk_turn(step) else min(priorities)
