"""When a decoder's supervised passes end early: it keeps the weights of the pass that answers held-out examples best.

Knows losses and tensors; not what the examples are, nor where checkpoints lie.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

import torch
from torch import Tensor

from training.decoder.examples import Prompted
from training.decoder.loop import Learner, compute_loss
from training.decoder.pack import build_packs
from training.decoder.settings import DecoderSettings

MOST_MEASURED: Final = 100
"""Held-out examples that are looked at after each pass: enough to see a loss turn, few enough to cost little."""
_BEST: Final = "best."
_LOSSES: Final = "held_out.losses"


class EarlyStop:
    """Looks at the held-out loss after each pass. Its tensors belong into every checkpoint, so that a killed run decides alike."""

    def __init__(self, measure: Callable[[], float] | None, *, patience: int) -> None:
        self._measure = measure if patience else None
        self._patience = patience
        self._losses: list[float] = []
        self._best: dict[str, Tensor] = {}

    def look(self, learner: Learner) -> bool:
        """Measure after a pass; False where `patience` passes have brought nothing."""
        if self._measure is None:
            return True
        loss = self._measure()
        if loss < min(self._losses, default=math.inf):
            self._best = learner.weights()
        self._losses.append(loss)
        return not self.is_over

    @property
    def is_over(self) -> bool:
        """Whether the last `patience` passes have brought nothing."""
        return bool(self._losses) and len(self._losses) - 1 - self._best_place >= self._patience

    @property
    def _best_place(self) -> int:
        return self._losses.index(min(self._losses))

    def finish(self, learner: Learner) -> None:
        """Give the learner the weights of the best pass, where one was measured."""
        if self._best:
            learner.restore(self._best)

    def state(self) -> dict[str, Tensor]:
        """Return what a checkpoint has to hold."""
        if not self._losses:
            return {}
        return {_LOSSES: torch.tensor(self._losses, dtype=torch.float64)} | {
            f"{_BEST}{name}": value for name, value in self._best.items()
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state` gave, if anything."""
        if _LOSSES in state:
            self._losses = state[_LOSSES].tolist()
            self._best = {name.removeprefix(_BEST): value for name, value in state.items() if name.startswith(_BEST)}

    def describe(self, n_passes: int) -> dict[str, Any]:
        """Return the figures for the run's record; none where nothing was measured."""
        if not self._losses:
            return {}
        return {
            "n_planned": n_passes,
            "n_done": len(self._losses),
            "n_kept": self._best_place + 1,
            "held_out_losses": [round(loss, 4) for loss in self._losses],
        }


def build_measure(
    learner: Learner, prompted: Prompted, rows: tuple[int, ...], *, settings: DecoderSettings
) -> Callable[[], float] | None:
    """Return what computes the training's own loss on held-out rows, None where there are none."""
    if not rows:
        return None
    chosen = rows[:: math.ceil(len(rows) / MOST_MEASURED)]

    def measure() -> float:
        was_training = learner.model.training
        learner.model.eval()
        total = 0.0
        with torch.no_grad():
            packs = build_packs(prompted.prefix, [prompted.completions[row] for row in chosen], limit=learner.pack_tokens)
            for pack in packs:
                total += float(compute_loss(learner.compute_logits(pack), pack, settings=settings))
        learner.model.train(was_training)
        return total / len(chosen)

    return measure
