"""Fits a learner's packs to the memory that is free: whole ones, then recomputed activations, then smaller ones.

Knows what a forward pass keeps for the way back and what the machine has left; not data, losses or weights.
"""

import ctypes
import logging
import math
import sys
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from training.decoder.loop import Learner
from training.decoder.pack import build_pack
from training.decoder.tokens import Completion

logger = logging.getLogger(__name__)
SHARE: Final = 0.6
"""Of what is free: gradients on the way back, and whoever else needs memory, take the rest."""
LEAST_TOKENS: Final = 64
PROBES: Final = (32, 96)
"""Tokens of the two forward passes that are measured: what is kept grows with the tokens, and with eager attention with their square."""
ANSWERS: Final = 0.5
"""Share of the tokens, at most, that are answers to learn, each with its row of logits."""
COPIES: Final = 3
"""Of those rows: as computed, as log-probabilities, and their gradient."""
_M_MMAP_THRESHOLD: Final = -3
"""Of glibc's malloc.h."""
_CGROUP: Final = Path("/sys/fs/cgroup")


def fit_memory(learner: Learner) -> None:
    """Let the learner recompute activations, and read fewer tokens at once, where what it keeps would not fit; else change nothing.

    A step's gradient is the sum over its packs, so that only rounding depends on this.
    """
    room = find_room(learner.device)
    if room is None:
        return
    config: Any = learner.model.config
    outputs = ANSWERS * COPIES * 4.0 * config.vocab_size
    linear, square = measure_kept(learner)
    if _evaluate(linear + outputs, square, learner.pack_tokens) <= room:
        return
    learner.recompute_activations()
    if learner.device == "cpu":
        _return_freed_memory()
    n_layers, inputs = int(config.num_hidden_layers), 4.0 * config.num_hidden_layers * config.hidden_size
    linear, square = inputs + 2 * linear / n_layers, 2 * square / n_layers  # each layer's input, and one layer on its way back
    if _evaluate(linear + outputs, square, learner.pack_tokens) > room:
        learner.pack_tokens = min(learner.pack_tokens, max(LEAST_TOKENS, _solve(linear + outputs, square, room)))
    logger.info(
        "activations are recomputed and packs hold %d tokens: %.0f MiB are free for them", learner.pack_tokens, room / 2**20
    )


def _return_freed_memory() -> None:
    """Let the C library hand large tensors back to the system when they are freed: kept for reuse, their gaps take three times what is used."""
    set_option = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if set_option is not None:
        set_option(_M_MMAP_THRESHOLD, 1 << 20)


def find_room(device: str) -> float | None:
    """Return the bytes that may be used, None where the machine does not tell."""
    if device == "cuda":
        return SHARE * float(torch.cuda.mem_get_info()[0])
    if sys.platform != "linux":
        return None
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    free = [1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
    limit, used = _CGROUP / "memory.max", _CGROUP / "memory.current"
    if limit.exists() and used.exists() and (most := limit.read_text(encoding="ascii").strip()) != "max":
        free.append(max(0, int(most) - int(used.read_text(encoding="ascii"))))
    return SHARE * min(free) if free else None


def measure_kept(learner: Learner) -> tuple[float, float]:
    """Return bytes per token and per squared token that a forward pass keeps, without what its answers keep."""
    small, large = PROBES
    kept_small, kept_large = (_measure(learner, n) for n in PROBES)
    square = max(0.0, (kept_large / large - kept_small / small) / (large - small))
    return max(0.0, kept_large / large - square * large), square


def _measure(learner: Learner, n_tokens: int) -> float:
    held = {value.untyped_storage().data_ptr() for value in learner.model.parameters()}
    kept: dict[int, int] = {}

    def keep(value: Tensor) -> Tensor:
        storage = value.untyped_storage()
        if storage.data_ptr() not in held:
            kept[storage.data_ptr()] = storage.nbytes()
        return value.detach()  # the value itself would tie the graph into a ring that nobody frees

    completion = Completion(tokens=(0,) * n_tokens, start=n_tokens - 1, answer=(0,))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
        logits = learner.compute_logits(build_pack((), [completion]))
        loss = torch.log_softmax(logits, dim=-1).sum()
    total = float(sum(kept.values()))
    del loss, logits
    return total


def _evaluate(linear: float, square: float, n_tokens: int) -> float:
    return linear * n_tokens + square * n_tokens**2


def _solve(linear: float, square: float, room: float) -> int:
    """Return how many tokens take `room` bytes."""
    if square <= 0.0:
        return int(room / linear)
    return int((math.sqrt(linear**2 + 4 * square * room) - linear) / (2 * square))
