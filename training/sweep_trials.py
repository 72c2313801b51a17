"""What one trial of a sweep trains and how it is scored: by the held-out log loss that the model kind's calibration is fitted on.

Calls the trainers as a run does and stops them where they have answered; a run that goes on in a trial's folder repeats nothing.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
from safetensors.numpy import load_file

from bot.engine.gguf_file import read_model_head
from bot.engine.head import mix_experts
from bot.types import Label
from training.decoder.holdout import choose_holdout
from training.decoder.settings import DecoderSettings
from training.decoder.train import choose_rate as choose_rate_by_width
from training.decoder.train import train_decoder, train_summary_decoder
from training.encoder.calibrate import Answers
from training.encoder.linear import compute_loss
from training.encoder.prepare import Prepared, choose_rate, prepare
from training.encoder.settings import EncoderSettings
from training.encoder.train import PHASE_AFTER_TRIALS, TRIAL_FILE, calibrate_trials, train_encoder
from training.encoder.types import (
    CancelledError,
    OnProgress,
    Progress,
    RunInfo,
    ShouldStop,
    SummaryExample,
    TrainExample,
    TrainingDataError,
)
from training.sweep import PHASE, Measure, Point, SweepPlan, run_sweep

S = TypeVar("S", EncoderSettings, DecoderSettings)
_ANSWERED: Final = (PHASE_AFTER_TRIALS, "fitting the head")
"""Phases that begin once every trial run of an encoder has answered for what it did not learn from, and its checkpoint lies there."""
NOTHING_HELD_OUT: Final = "too few examples to hold any out: there is nothing to judge a trial by"


def sweep_encoder(
    examples: Sequence[TrainExample],
    labels: Sequence[Label],
    *,
    base_gguf: Path,
    settings: EncoderSettings,
    plan: SweepPlan,
    run: RunInfo,
) -> tuple[EncoderSettings, Path | None]:
    """Return the best settings found and the folder that the run goes on in, None where there was nothing to judge trials by.

    Raises what `plan.report` raises.
    """
    prepared = prepare(examples, labels, settings)
    if not prepared.parts:
        return _skip(plan, settings), None

    def measure(point: Point, directory: Path, on_progress: OnProgress, should_stop: ShouldStop) -> Mapping[str, float]:
        phase = ""

        def listen(progress: Progress) -> None:
            nonlocal phase
            phase = progress.phase
            on_progress(progress)

        try:
            train_encoder(
                examples,
                labels,
                base_gguf=base_gguf,
                settings=apply_point(settings, point),
                checkpoint_dir=directory,
                on_progress=listen,
                should_stop=lambda: phase in _ANSWERED or should_stop(),
                run=run,
            )
        except CancelledError:
            if phase not in _ANSWERED:
                raise
        return read_trials(directory, prepared, has_lexical_expert=settings.has_lexical_expert)

    point, best = run_sweep(Point(settings.r, choose_rate(prepared, settings)), plan, measure)
    return apply_point(settings, point), best


def read_trials(directory: Path, prepared: Prepared, *, has_lexical_expert: bool) -> dict[str, float]:
    """Return log loss and accuracy of an encoder's trial runs on what they did not learn from, calibrated as the run would be.

    Raises TrainingDataError where nothing was held out.
    """
    calibration, lift = calibrate_trials(directory, prepared, has_lexical_expert=has_lexical_expert)
    found = [load_file(directory / TRIAL_FILE.format(number=number)) for number in range(len(prepared.parts))]
    found = [answers for answers in found if len(answers["rows"])]
    if not found:
        raise TrainingDataError(NOTHING_HELD_OUT)
    mixed = []
    for answers in found:
        lexical = answers["lexical"] if calibration.lexical_weight > 0.0 else None
        is_absent = np.tile(answers["is_absent"], (len(answers["rows"]), 1))
        held_out = Answers(answers["encoder"], lexical, is_absent).lift(lift)
        mixed.append(mix_experts(held_out.encoder, held_out.lexical, calibration))
    rows = np.concatenate(mixed).astype(np.float64)
    targets = prepared.targets.take(np.concatenate([answers["rows"] for answers in found]))
    return {
        "log_loss": float(compute_loss(rows, targets)[0] / targets.weight.sum()),
        "accuracy": round(float((rows.argmax(axis=1) == targets.label).mean()), 4),
        "n": len(targets),
    }


def sweep_decoder(
    examples: Sequence[TrainExample],
    labels: Sequence[Label],
    *,
    base_gguf: Path,
    settings: DecoderSettings,
    plan: SweepPlan,
    run: RunInfo,
) -> tuple[DecoderSettings, Path | None]:
    """As `sweep_encoder`, for a decoder that chooses labels; judged by what the served adapter answers to the held-out tickets."""
    prepared = prepare(examples, labels, EncoderSettings(seed=settings.seed))
    if not len(choose_holdout(prepared, examples, share=settings.holdout, seed=settings.seed).held_out):
        return _skip(plan, settings), None

    def measure(point: Point, directory: Path, on_progress: OnProgress, should_stop: ShouldStop) -> Mapping[str, float]:
        found: dict[str, Mapping[str, Any]] = {}
        train_decoder(
            examples,
            labels,
            base_gguf=base_gguf,
            settings=apply_point(settings, point),
            checkpoint_dir=directory,
            on_progress=on_progress,
            should_stop=should_stop,
            run=run,
            on_figures=found.__setitem__,
        )
        return found["validation"]

    return _sweep_decoder(base_gguf, settings, plan, measure=measure)


def sweep_summary_decoder(
    examples: Sequence[SummaryExample], *, base_gguf: Path, settings: DecoderSettings, plan: SweepPlan, run: RunInfo
) -> tuple[DecoderSettings, Path | None]:
    """As `sweep_encoder`, for a decoder that writes summaries; judged by the loss of writing the validation part's, per token.

    Trials leave out the preference step: it follows once, from the best trial's weights.
    """
    if not any(example.split == "validation" and example.weight > 0.0 and example.summary.strip() for example in examples):
        return _skip(plan, settings), None

    def measure(point: Point, directory: Path, on_progress: OnProgress, should_stop: ShouldStop) -> Mapping[str, float]:
        found: dict[str, Mapping[str, Any]] = {}
        train_summary_decoder(
            examples,
            base_gguf=base_gguf,
            settings=apply_point(settings, point).model_copy(update={"preference_epochs": 0}),
            checkpoint_dir=directory,
            on_progress=on_progress,
            should_stop=should_stop,
            run=run,
            on_figures=found.__setitem__,
        )
        return found["validation"]

    return _sweep_decoder(base_gguf, settings, plan, measure=measure)


def _sweep_decoder(
    base_gguf: Path, settings: DecoderSettings, plan: SweepPlan, *, measure: Measure
) -> tuple[DecoderSettings, Path | None]:
    width = read_model_head(base_gguf).get_int("embedding_length")
    point, directory = run_sweep(Point(settings.r, choose_rate_by_width(width, settings)), plan, measure)
    return apply_point(settings, point), directory


def apply_point(settings: S, point: Point) -> S:
    """Return the settings with a point's rank and learning rate; lora_alpha moves with the rank, so that the update's scale stays."""
    alpha = settings.lora_alpha * point.r / settings.r
    return settings.model_copy(update={"r": point.r, "lora_alpha": alpha, "learning_rate": point.learning_rate})


def _skip(plan: SweepPlan, settings: S) -> S:
    plan.report(PHASE, 1, 1, message=f"no sweep: {NOTHING_HELD_OUT}", figures={PHASE: {"skipped": NOTHING_HELD_OUT}})
    return settings
