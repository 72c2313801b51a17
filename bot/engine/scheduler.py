"""Picks what the engine computes next: pure decisions from what waits, without ctypes, clock or thread.

Knows tokens, priorities, order of arrival and which LoRA weights an item needs; not what an item computes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from bot.engine.protocol import Priority

BULK_TURN: Final = 8
"""Every so many steps bulk work goes first, so that a steady interactive load cannot starve it."""

MIXED_TOKENS: Final = 64
"""Tokens up to which bulk work fills a batch while interactive work waits; the encoder computes that many in any case."""

HOLD_FROM: Final = 4
"""Fewer prompts than these are never held back."""
HOLD_SHARE: Final = 0.5


@dataclass(frozen=True, slots=True)
class Item:
    """Something that waits. `group` names the LoRA weights it needs; `order` is its place in line: lower goes first."""

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


def choose_waiting(items: Sequence[Item], *, turn: int, n_running: Mapping[str, int]) -> int:
    """Return the index of the item to admit next: of the most urgent, one of the group with the fewest running, then the oldest.

    `turn` counts admissions; every BULK_TURN-th one belongs to bulk work, which an interactive load can so delay but not starve.
    `n_running[group]` counts what a group has running. `items` must not be empty.
    """
    urgent = _most_urgent(items, step=turn)
    waiting = [index for index, item in enumerate(items) if item.priority == urgent]
    return min(waiting, key=lambda index: (n_running.get(items[index].group, 0), items[index].order))


def share_tokens(wants: Sequence[int], *, room: int, limit: int) -> list[int]:
    """Return how many tokens each of a batch's members gets, in the order of who goes first; the sum is at most `room`.

    Nobody gets more than `limit` before everybody had a share, so that one long prompt does not hold up the short ones behind it; what is
    then left goes to the first.
    """
    shares = []
    for want in wants:
        shares.append(min(want, limit, room))
        room -= shares[-1]
    for index, want in enumerate(wants):
        more = min(want - shares[index], room)
        shares[index] += more
        room -= more
    return shares


def count_held(n_prompts: int, *, n_branching: int, share_branching: float) -> int:
    """Return how many of the prompts that could be read now wait a step, so that a step of branches alone is not needed after them.

    Where most tickets need a second step (`share_branching`) and none is at it now (`n_branching`), all would need it at the same time:
    a small step, dear for what it does. Half of them then go a step later, and from there on prompts and branches share batches.
    """
    is_lockstep = n_branching == 0 and n_prompts >= HOLD_FROM and share_branching > HOLD_SHARE
    return n_prompts // 2 if is_lockstep else 0


def pick_batch(
    items: Sequence[Item],
    *,
    step: int,
    last_served: Mapping[str, int],
    budget_tokens: int,
    max_items: int,
    mixed_tokens: int = MIXED_TOKENS,
) -> list[int]:
    """Return indices into `items` to run together: one group, at most `max_items`, at most `budget_tokens` tokens in sum.

    The oldest of the most urgent items of the group whose turn it is always runs, even where it alone exceeds the budget. The rest
    is filled in order of urgency and age with what still fits. While interactive items wait, bulk ones only fill a batch up to
    `mixed_tokens`, so that nobody waits long for a step of bulk work. An empty list means that nothing waits.
    """
    if not items:
        return []
    group = choose_group(items, step=step, last_served=last_served)
    urgent = _most_urgent(items, step=step)
    is_mixed = any(item.priority == Priority.INTERACTIVE for item in items)
    members = [index for index, item in enumerate(items) if item.group == group]
    members.sort(key=lambda index: (items[index].priority != urgent, items[index].priority, items[index].order))
    picked = members[:1]
    used = items[picked[0]].n_tokens
    for index in members[1:]:
        if len(picked) >= max_items or used >= budget_tokens:
            break
        item = items[index]
        limit = min(mixed_tokens, budget_tokens) if is_mixed and item.priority == Priority.BULK else budget_tokens
        if used + item.n_tokens <= limit:
            picked.append(index)
            used += item.n_tokens
    return picked


def _most_urgent(items: Sequence[Item], *, step: int) -> Priority:
    priorities = {item.priority for item in items}
    return max(priorities) if is_bulk_turn(step) else min(priorities)
