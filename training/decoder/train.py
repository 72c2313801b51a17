"""Trains a decoder's adapter for classification or summaries: tokens, LoRA, export, proof, calibration.

Knows the order of the stages; each part lives in a module of its own. Writes a work directory that `bot.bundle.seal` can move.
"""

import shutil
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from bot.bundle import ADAPTER_FILE, CALIBRATION_FILE, Manifest, hash_file, write_json
from bot.engine.gguf_file import read_model_head
from bot.engine.protocol import ChoiceSet
from bot.tasks.classification import build_choices
from bot.tasks.summary import build_summary_prompt, split_units
from bot.types import Label, LabelSet
from db.types import MaskedText, ModelKind, TaskKind
from training.decoder.agree import check_agreement, score_choices
from training.decoder.base import get_heads, load_base
from training.decoder.calibrate import fit_calibration
from training.decoder.examples import (
    Prompted,
    check_choices,
    check_summaries,
    fingerprint_choices,
    fingerprint_summaries,
    read_choices,
    read_summaries,
)
from training.decoder.holdout import choose_holdout
from training.decoder.loop import Learner, run_stage
from training.decoder.served import Served, finish_bundle
from training.decoder.settings import DecoderSettings
from training.decoder.tokens import PromptTokens
from training.encoder.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from training.encoder.linear import Targets
from training.encoder.loop import Stage, choose_precision
from training.encoder.prepare import prepare
from training.encoder.settings import EncoderSettings
from training.encoder.types import CancelledError, OnProgress, Progress, RunInfo, ShouldStop, SummaryExample, TrainExample
from training.export import export_lora
from training.qlora import add_lora, build_lora_config, find_linears, get_lora_state

BUNDLE_DIR: Final = "bundle"
PROBE_TEXTS: Final = (
    MaskedText("Hello, I cannot log in since this morning, please help."),
    MaskedText("The invoice shows a charge that I do not recognise."),
)
MAX_PROBE_CHARS: Final = 1_000
"""A longer prompt is probed without its label list, so that no setting of the serving engine cuts it."""
RATE_AT_256: Final = 5e-3
"""Peak learning rate for a model 256 wide: measured; falling to the customary 2e-4 at 2,048."""
RATE_POWER: Final = -1.5
RATE_BOUNDS: Final = (5e-5, 5e-3)
EXAMPLES_SEEN: Final = 3_600
"""Few examples are gone through more often: too few steps cost more than a look too many."""
EPOCH_BOUNDS: Final = (3, 12)
_TRAINING, _TRAINED = 0, 1


@dataclass
class _Run:
    """One training at work."""

    base_path: Path
    base_digest: str
    settings: DecoderSettings
    directory: Path
    on_progress: OnProgress
    should_stop: ShouldStop
    started: float = field(default_factory=time.monotonic)

    def report(self, phase: str, step: int, total: int, *, loss: float | None = None, per_second: float = 0.0) -> None:
        """Say where the run is. Raises CancelledError."""
        eta = (total - step) / per_second if per_second > 0.0 else None
        self.on_progress(Progress(phase, step, total, loss, eta))
        if self.should_stop():
            raise CancelledError("the training was cancelled")


def train_decoder(
    examples: Sequence[TrainExample],
    labels: Sequence[Label],
    *,
    base_gguf: Path,
    settings: DecoderSettings,
    checkpoint_dir: Path,
    on_progress: OnProgress,
    should_stop: ShouldStop,
    run: RunInfo,
) -> Path:
    """Train to choose labels; return the directory with the bundle's files. Takes up a checkpoint of the same data and settings.

    Raises TrainingDataError, CancelledError, ExportError, EngineError; other errors mean a fault. Not to be called from an event loop.
    """
    prepared = prepare(examples, labels, EncoderSettings(seed=settings.seed))
    part = choose_holdout(prepared, examples, share=settings.holdout, seed=settings.seed)
    check_choices(prepared, part)
    job = _start(base_gguf, settings, checkpoint_dir, on_progress, should_stop=should_stop)
    choices = build_choices(LabelSet(name="", version=run.label_set_version, labels=tuple(labels)))
    with PromptTokens(base_gguf, text_tokens=settings.train_tokens) as reader:
        prompted = read_choices(prepared, choices, reader)
    fingerprint = fingerprint_choices(prepared, part, choices=choices, base_digest=job.base_digest, settings=settings)
    rows = tuple(part.learnt.tolist())
    learner = _learn(job, prompted, rows=rows, fingerprint=fingerprint)
    directory = _export(job, learner)
    manifest = _build_manifest(job, run, TaskKind.CLASSIFICATION, n_train=len(rows), labels=prepared.names)
    served = finish_bundle(
        base_gguf,
        directory,
        manifest,
        probe_texts=[_render_probe(choices.prefix, text, choices.suffix) for text in PROBE_TEXTS],
        choices=choices,
        texts=[*PROBE_TEXTS, *(MaskedText(prepared.texts[row]) for row in part.held_out)],
        settings=settings,
        on_step=lambda done, total: job.report("calibrating", done, total),
    )
    if served is not None:
        _calibrate(job, learner, served, directory, targets=prepared.targets.take(part.held_out), choices=choices)
    job.report("done", 1, 1)
    return directory


def train_summary_decoder(
    examples: Sequence[SummaryExample],
    *,
    base_gguf: Path,
    settings: DecoderSettings,
    checkpoint_dir: Path,
    on_progress: OnProgress,
    should_stop: ShouldStop,
    run: RunInfo,
) -> Path:
    """Train to write summaries; return the directory with the bundle's files. The rest is as in `train_decoder`."""
    used = check_summaries(examples)
    job = _start(base_gguf, settings, checkpoint_dir, on_progress, should_stop=should_stop)
    with PromptTokens(base_gguf, text_tokens=settings.train_tokens) as reader:
        prompted = read_summaries(used, reader, answer_tokens=settings.answer_tokens)
    fingerprint = fingerprint_summaries(prompted, base_digest=job.base_digest, settings=settings)
    rows = tuple(row for row, example in enumerate(used) if example.split == "train")
    learner = _learn(job, prompted, rows=rows, fingerprint=fingerprint)
    directory = _export(job, learner)
    prompts = [build_summary_prompt(split_units(text)) for text in PROBE_TEXTS]
    finish_bundle(
        base_gguf,
        directory,
        _build_manifest(job, run, TaskKind.SUMMARY, n_train=len(rows)),
        probe_texts=[_render_probe(prompt.prefix, prompt.text, prompt.suffix) for prompt in prompts],
        choices=None,
        texts=(),
        settings=settings,
        on_step=lambda done, total: job.report("calibrating", done, total),
    )
    job.report("done", 1, 1)
    return directory


def _start(
    base_gguf: Path, settings: DecoderSettings, directory: Path, on_progress: OnProgress, *, should_stop: ShouldStop
) -> _Run:
    torch.set_num_threads(settings.threads)
    directory.mkdir(parents=True, exist_ok=True)
    job = _Run(base_gguf, hash_file(base_gguf), settings, directory, on_progress, should_stop)
    job.report("preparing", 0, 1)
    return job


def build_learner(base_gguf: Path, settings: DecoderSettings) -> Learner:
    """Return the base model with fresh LoRA matrices on all of its linear layers."""
    model = load_base(base_gguf)
    config: Any = model.config
    use_bf16 = choose_precision(settings.precision)
    torch.manual_seed(settings.seed)
    lora = build_lora_config(
        r=settings.r,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        target_modules=find_linears(model),
    )
    with warnings.catch_warnings():
        # PEFT asks transformers under a name that transformers is about to drop: https://github.com/huggingface/peft
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
        wrapped = add_lora(model, mode=settings.mode, config=lora, compute_dtype=torch.bfloat16 if use_bf16 else torch.float32)
    return Learner(wrapped, learning_rate=choose_rate(int(config.hidden_size), settings), settings=settings)


def choose_rate(width: int, settings: DecoderSettings) -> float:
    """Return the peak learning rate for a model of this width."""
    if settings.learning_rate is not None:
        return settings.learning_rate
    return float(np.clip(RATE_AT_256 * (width / 256) ** RATE_POWER, *RATE_BOUNDS))


def _learn(job: _Run, prompted: Prompted, *, rows: tuple[int, ...], fingerprint: str) -> Learner:
    """Return the trained model, from where the checkpoint, if any, stands."""
    settings = job.settings
    learner = build_learner(job.base_path, settings)
    found = load_checkpoint(job.directory, fingerprint)
    first_step = 0
    if found is not None:
        learner.restore(found.tensors)
        if found.stage == _TRAINED:
            return learner
        first_step = found.step
    last_saved = time.monotonic()

    def on_step(step: int, total: int, loss: float, per_second: float) -> bool:
        nonlocal last_saved
        if time.monotonic() - last_saved >= settings.checkpoint_seconds and step < total:
            save_checkpoint(job.directory, Checkpoint(fingerprint, _TRAINING, step, learner.state()))
            last_saved = time.monotonic()
        job.report("training", step, total, loss=loss, per_second=per_second)
        return time.monotonic() - job.started < settings.max_seconds

    epochs = settings.epochs or int(np.clip(round(EXAMPLES_SEEN / len(rows)), *EPOCH_BOUNDS))
    stage = Stage("training", rows, epochs)
    run_stage(
        learner, prompted.prefix, prompted.completions, stage=stage, first_step=first_step, settings=settings, on_step=on_step
    )
    save_checkpoint(job.directory, Checkpoint(fingerprint, _TRAINED, 0, learner.state()))
    return learner


def _export(job: _Run, learner: Learner) -> Path:
    """Start the bundle's directory with the adapter."""
    directory = job.directory / BUNDLE_DIR
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    head = read_model_head(job.base_path)
    export_lora(
        get_lora_state(learner.model),
        directory / ADAPTER_FILE,
        architecture=head.architecture,
        lora_alpha=job.settings.lora_alpha,
        heads=get_heads(learner.model),
        base_tensors={name: info.shape for name, info in head.tensors.items()},
    )
    return directory


def _calibrate(job: _Run, learner: Learner, served: Served, directory: Path, *, targets: Targets, choices: ChoiceSet) -> None:
    """Fit the calibration on the served answers; where the trained weights are the served ones, check that they agree first."""
    n = len(PROBE_TEXTS)
    if job.settings.mode != "nf4":
        with PromptTokens(job.base_path, text_tokens=job.settings.text_tokens) as reader:
            check_agreement(score_choices(learner, reader, choices, PROBE_TEXTS), served.log_probabilities[:n])
    write_json(directory / CALIBRATION_FILE, fit_calibration(served.log_probabilities[n:], served.prior, targets))


def _build_manifest(job: _Run, run: RunInfo, task: TaskKind, *, n_train: int, labels: tuple[str, ...] = ()) -> Manifest:
    return Manifest(
        task=task,
        model_kind=ModelKind.DECODER,
        base_digest=job.base_digest,
        label_set_version=run.label_set_version,
        labels=labels,
        prompt_version=run.prompt_version,
        run_id=run.run_id,
        data_digest=run.data_digest,
        n_train=n_train,
        r=job.settings.r,
        lora_alpha=job.settings.lora_alpha,
        created_at=datetime.now(UTC),
    )


def _render_probe(prefix: str, text: str, suffix: str) -> str:
    whole = f"{prefix}{text}{suffix}"
    return whole if len(whole) <= MAX_PROBE_CHARS else f"{text}{suffix}"
