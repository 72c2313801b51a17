"""What goes into an encoder's training and what comes back while it runs.

Frozen values and errors; knows neither torch nor the database.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from bot.types import Turn
from db.types import MaskedText
from training.errors import TrainingError


class TrainingDataError(TrainingError):
    """Examples that cannot be trained on. The message says which, without quoting their text."""


class CancelledError(TrainingError):
    """`should_stop` said so. The checkpoint is kept, so that the run can be taken up again."""


@dataclass(frozen=True)
class TrainExample:
    """One labelled ticket. `is_negative` says that `label` is what the ticket is *not*; `weight` scales its part of the loss.

    `split` "validation" keeps it away from the weights until calibration has been fitted on it.
    """

    text: MaskedText
    label: str
    weight: float = 1.0
    is_negative: bool = False
    split: Literal["train", "validation"] = "train"


@dataclass(frozen=True)
class SummaryExample:
    """One ticket and the summary that a person accepted or wrote; `draft` is what the person had changed, if anything."""

    text: MaskedText
    summary: MaskedText
    turns: tuple[Turn, ...] = ()
    weight: float = 1.0
    split: Literal["train", "validation"] = "train"
    draft: MaskedText | None = None


@dataclass(frozen=True)
class Progress:
    """How far a training run is. `eta_s` is the estimate for the phase's remaining steps, None before there is a rate."""

    phase: str
    step: int
    total_steps: int
    loss: float | None = None
    eta_s: float | None = None


OnProgress = Callable[[Progress], None]
ShouldStop = Callable[[], bool]


@dataclass(frozen=True)
class RunInfo:
    """What a bundle's manifest says of the run that made it."""

    prompt_version: str
    label_set_version: str = ""
    run_id: int | None = None
    data_digest: str = ""
