"""Many tickets behind one prompt: tokens, restarted positions and the mask that keeps tickets apart, as the engine's cache does.

Pure functions of tokens; knows neither model nor losses.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from training.decoder.tokens import Completion


@dataclass(frozen=True)
class Pack:
    """One forward pass. `owner[i]` is the completion that token i belongs to, -1 for the shared prefix.

    `outputs` are the places whose logits are wanted, each completion's in a row; `first[c]` is where completion c's begin there.
    """

    tokens: Tensor
    positions: Tensor
    owner: Tensor
    outputs: Tensor
    first: tuple[int, ...]
    completions: tuple[Completion, ...]


def build_packs(prefix: Sequence[int], completions: Sequence[Completion], *, limit: int) -> list[Pack]:
    """Spread completions over as few packs of at most `limit` tokens as first-fit gives; one that is longer has a pack of its own."""
    groups: list[list[Completion]] = []
    rooms: list[int] = []
    for completion in sorted(completions, key=lambda one: -len(one.tokens)):
        need = len(completion.tokens)
        place = next((place for place, room in enumerate(rooms) if room >= need), None)
        if place is None:
            groups.append([])
            rooms.append(limit - len(prefix))
            place = len(groups) - 1
        groups[place].append(completion)
        rooms[place] -= need
    return [build_pack(prefix, group) for group in groups]


def build_pack(prefix: Sequence[int], completions: Sequence[Completion]) -> Pack:
    """Lay completions one after another behind the prefix."""
    tokens, positions, owner = list(prefix), list(range(len(prefix))), [-1] * len(prefix)
    outputs: list[int] = []
    first: list[int] = []
    for number, completion in enumerate(completions):
        start = len(tokens)
        first.append(len(outputs))
        outputs += range(start + completion.start, start + len(completion.tokens))
        tokens += completion.tokens
        positions += range(len(prefix), len(prefix) + len(completion.tokens))
        owner += [number] * len(completion.tokens)
    return Pack(
        tokens=torch.tensor([tokens]),
        positions=torch.tensor([positions]),
        owner=torch.tensor(owner),
        outputs=torch.tensor(outputs),
        first=tuple(first),
        completions=tuple(completions),
    )


def build_mask(pack: Pack, *, window: int | None = None) -> Tensor:
    """Return who may look at whom, boolean, shape (1, 1, n, n): the prefix and one's own ticket, up to oneself, within a window."""
    position, owner = pack.positions[0], pack.owner
    back = position[:, None] - position[None]
    mask = ((owner[None] == -1) | (owner[None] == owner[:, None])) & (back >= 0)
    if window is not None:
        mask &= back < window
    return mask[None, None]
