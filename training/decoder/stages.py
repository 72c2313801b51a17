"""The stages in which a decoder's weights learn, each taken up where its checkpoint stands: from examples, then from edits.

Knows checkpoints, time limits and what is reported; not texts, nor what follows.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch.nn import functional

from training.decoder.examples import Prompted
from training.decoder.loop import Learner, run_stage
from training.decoder.pack import build_packs
from training.decoder.preference import (
    LogProbabilities,
    compute_log_probabilities,
    describe_preference,
    run_preference,
)
from training.decoder.settings import DecoderSettings
from training.decoder.stopping import EarlyStop, build_measure
from training.decoder.tokens import Pair
from training.encoder.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from training.encoder.loop import Stage
from training.encoder.types import CancelledError, OnProgress, Progress, ShouldStop

OnFigures = Callable[[str, Mapping[str, Any]], None]
"""Gets a name and figures that belong into the run's record; a later call of the same name replaces what the earlier one said."""
PHASE: Final = "training"
PHASE_READING: Final = "reading drafts"
PHASE_PREFERENCE: Final = "learning from edits"
EXAMPLES_SEEN: Final = 3_600
"""Few examples are gone through more often: too few steps cost more than a look too many."""
EPOCH_BOUNDS: Final = (3, 12)
_TRAINING, _TRAINED, _PREFERRING, _PREFERRED = range(4)
_EDITED, _DRAFT = "reference.edited", "reference.draft"


@dataclass
class Job:
    """One training at work."""

    base_path: Path
    base_digest: str
    settings: DecoderSettings
    directory: Path
    on_progress: OnProgress
    should_stop: ShouldStop
    on_figures: OnFigures
    started: float = field(default_factory=time.monotonic)

    def report(self, phase: str, step: int, total: int, *, loss: float | None = None, per_second: float = 0.0) -> None:
        """Say where the run is. Raises CancelledError."""
        eta = (total - step) / per_second if per_second > 0.0 else None
        self.on_progress(Progress(phase, step, total, loss, eta))
        if self.should_stop():
            raise CancelledError("the training was cancelled")

    @property
    def has_time(self) -> bool:
        """Whether `max_seconds` are not over yet."""
        return time.monotonic() - self.started < self.settings.max_seconds


def learn(
    job: Job, learner: Learner, prompted: Prompted, *, rows: tuple[int, ...], held_out: tuple[int, ...], fingerprint: str
) -> None:
    """Let the learner learn from the completions in `rows`, from where the checkpoint, if any, stands.

    It ends with the weights of the pass that answers those in `held_out` best, and early where more passes bring nothing. Raises
    CancelledError.
    """
    stop = EarlyStop(build_measure(learner, prompted, held_out, settings=job.settings), patience=job.settings.patience)
    found = load_checkpoint(job.directory, fingerprint)
    first_step = 0
    if found is not None:
        learner.restore(found.tensors)
        stop.restore(found.tensors)
        first_step = found.step
    epochs = job.settings.epochs or int(np.clip(round(EXAMPLES_SEEN / len(rows)), *EPOCH_BOUNDS))
    if found is not None and found.stage == _TRAINED:
        _report_passes(job, stop, epochs)
        return
    stage = Stage(PHASE, rows, epochs)
    n_steps_a_pass = stage.count_steps(job.settings.batch_size) // epochs
    report = _build_listener(job, PHASE, lambda step: Checkpoint(fingerprint, _TRAINING, step, learner.state() | stop.state()))

    def on_step(step: int, total: int, loss: float, per_second: float) -> bool:
        goes_on = step % n_steps_a_pass != 0 or stop.look(learner)
        return report(step, total, loss, per_second) and goes_on

    if not stop.is_over:  # decided before a kill
        run_stage(
            learner,
            prompted.prefix,
            prompted.completions,
            stage=stage,
            first_step=first_step,
            settings=job.settings,
            on_step=on_step,
        )
    stop.finish(learner)
    save_checkpoint(job.directory, Checkpoint(fingerprint, _TRAINED, 0, learner.state() | stop.state()))
    _report_passes(job, stop, epochs)


def _report_passes(job: Job, stop: EarlyStop, epochs: int) -> None:
    figures = stop.describe(epochs)
    if figures:
        job.on_figures("passes", figures)


def _build_listener(job: Job, phase: str, build: Callable[[int], Checkpoint]) -> Callable[[int, int, float, float], bool]:
    """Return what reports a phase's steps and saves the checkpoint that `build(step)` gives whenever it is time."""
    last_saved = time.monotonic()

    def on_step(step: int, total: int, loss: float, per_second: float) -> bool:
        nonlocal last_saved
        if time.monotonic() - last_saved >= job.settings.checkpoint_seconds and step < total:
            save_checkpoint(job.directory, build(step))
            last_saved = time.monotonic()
        job.report(phase, step, total, loss=loss, per_second=per_second)
        return job.has_time

    return on_step


@dataclass(frozen=True)
class Pairs:
    """Pairs behind one prefix; those in `learnt` are learnt from, those in `held_out` only measured."""

    prefix: tuple[int, ...]
    pairs: tuple[Pair, ...]
    learnt: tuple[int, ...]
    held_out: tuple[int, ...]


def find_obstacle(job: Job, pairs: Pairs) -> str | None:
    """Return why there is no preference step, None where there is one."""
    settings = job.settings
    if not settings.preference_epochs:
        return "off: preference_epochs is 0"
    if len(pairs.learnt) < settings.preference_min_pairs:
        return f"{len(pairs.learnt)} pairs of draft and edit, and it needs {settings.preference_min_pairs}"
    return None


def prefer(job: Job, learner: Learner, pairs: Pairs, *, found: Checkpoint | None, fingerprint: str) -> None:
    """Let a trained learner learn from edits, from where the checkpoint `found`, if any, stands, and report the figures.

    The reference is the learner as it comes in: the step starts at no difference, and is held to what the examples taught rather than
    to the bare base, which writes no summary of this team's kind. Its log-probabilities are computed once and lie in every checkpoint,
    so that no second model is ever in memory. Raises CancelledError.
    """
    if found is None:
        reference = _measure(job, learner, pairs)
        learner.begin_stage()
    else:
        learner.restore(found.tensors)
        reference = LogProbabilities(found.tensors[_EDITED], found.tensors[_DRAFT])

    def build(step: int, stage: int = _PREFERRING) -> Checkpoint:
        tensors = learner.state() | {_EDITED: reference.edited, _DRAFT: reference.draft}
        return Checkpoint(fingerprint, stage, step, tensors)

    stage = Stage(PHASE_PREFERENCE, pairs.learnt, job.settings.preference_epochs)
    n_steps = stage.count_steps(job.settings.batch_size)
    if found is None or found.stage == _PREFERRING:
        if found is None:
            save_checkpoint(job.directory, build(0))
        run_preference(
            learner,
            pairs.prefix,
            pairs.pairs,
            reference=reference,
            stage=stage,
            first_step=found.step if found is not None else 0,
            settings=job.settings,
            on_step=_build_listener(job, PHASE_PREFERENCE, build),
        )
        save_checkpoint(job.directory, build(n_steps, _PREFERRED))
    _report(job, pairs, reference, _measure(job, learner, pairs))


def _measure(job: Job, learner: Learner, pairs: Pairs) -> LogProbabilities:
    return compute_log_probabilities(
        learner,
        pairs.prefix,
        pairs.pairs,
        limit=learner.pack_tokens,
        on_step=lambda done, total: job.report(PHASE_READING, done, total),
    )


def _report(job: Job, pairs: Pairs, before: LogProbabilities, after: LogProbabilities) -> None:
    settings = job.settings
    figures: dict[str, Any] = {
        "n_pairs": len(pairs.learnt),
        "n_held_out": len(pairs.held_out),
        "beta": settings.preference_beta,
        "epochs": settings.preference_epochs,
        **describe_preference(before, after, rows=pairs.learnt, beta=settings.preference_beta),
    }
    held_out = describe_preference(before, after, rows=pairs.held_out, beta=settings.preference_beta)
    job.on_figures("preference", figures | {f"held_out_{name}": value for name, value in held_out.items()})


def compute_written_loss(learner: Learner, prompted: Prompted, rows: Sequence[int]) -> float | None:
    """Return the loss of writing the answers in `rows` in nats per token, the mean over answers; None for no rows."""
    if not rows:
        return None
    losses = []
    was_training = learner.model.training
    learner.model.eval()
    with torch.no_grad():
        packs = build_packs(prompted.prefix, [prompted.completions[row] for row in rows], limit=learner.pack_tokens)
        for pack in packs:
            logits = learner.compute_logits(pack)
            for completion, first in zip(pack.completions, pack.first, strict=True):
                answer = torch.tensor(completion.answer, device=logits.device)
                losses.append(float(functional.cross_entropy(logits[first : first + len(answer)], answer)))
    learner.model.train(was_training)
    return float(np.mean(losses))
