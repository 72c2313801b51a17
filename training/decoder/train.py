"""Trains a decoder's adapter for classification or summaries: tokens, LoRA, export, proof, calibration.

Knows the order of the stages; each part lives in a module of its own. Writes a work directory that `bot.bundle.seal` can move.
"""

import shutil
import warnings
from collections.abc import Mapping, Sequence
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
from training.decoder.calibrate import fit_calibration, measure_answers
from training.decoder.examples import (
    Prompted,
    check_choices,
    check_summaries,
    fingerprint_choices,
    fingerprint_pairs,
    fingerprint_summaries,
    read_choices,
    read_pairs,
    read_summaries,
)
from training.decoder.holdout import choose_holdout
from training.decoder.loop import Learner
from training.decoder.memory import fit_memory
from training.decoder.served import Served, finish_bundle
from training.decoder.settings import DecoderSettings
from training.decoder.stages import Job, OnFigures, Pairs, compute_written_loss, find_obstacle, learn, prefer
from training.decoder.tokens import Pair, PromptTokens
from training.encoder.checkpoint import load_checkpoint
from training.encoder.linear import Targets
from training.encoder.loop import choose_precision
from training.encoder.prepare import prepare
from training.encoder.settings import EncoderSettings
from training.encoder.types import OnProgress, RunInfo, ShouldStop, SummaryExample, TrainExample
from training.export import export_lora
from training.export_peft import export_peft
from training.qlora import add_lora, build_lora_config, describe_holding, find_linears, get_lora_state

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


def _ignore_figures(name: str, figures: Mapping[str, Any]) -> None:
    """Keep nothing."""


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
    on_figures: OnFigures = _ignore_figures,
) -> Path:
    """Train to choose labels; return the directory with the bundle's files. Takes up a checkpoint of the same data and settings.

    Raises TrainingDataError, CancelledError, ExportError, EngineError; other errors mean a fault. Not to be called from an event loop.
    """
    prepared = prepare(examples, labels, EncoderSettings(seed=settings.seed))
    part = choose_holdout(prepared, examples, share=settings.holdout, seed=settings.seed)
    check_choices(prepared, part)
    job = _start(Job(base_gguf, hash_file(base_gguf), settings, checkpoint_dir, on_progress, should_stop, on_figures))
    choices = build_choices(LabelSet(name="", version=run.label_set_version, labels=tuple(labels)))
    with PromptTokens(base_gguf, text_tokens=settings.train_tokens) as reader:
        prompted = read_choices(prepared, choices, reader)
    fingerprint = fingerprint_choices(prepared, part, choices=choices, base_digest=job.base_digest, settings=settings)
    rows = tuple(part.learnt.tolist())
    learner = _build_learner(job)
    learn(job, learner, prompted, rows=rows, held_out=tuple(part.held_out.tolist()), fingerprint=fingerprint)
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
    on_figures: OnFigures = _ignore_figures,
) -> Path:
    """Train to write summaries; return the directory with the bundle's files. The rest is as in `train_decoder`."""
    used = check_summaries(examples)
    job = _start(Job(base_gguf, hash_file(base_gguf), settings, checkpoint_dir, on_progress, should_stop, on_figures))
    with PromptTokens(base_gguf, text_tokens=settings.train_tokens) as reader:
        prompted = read_summaries(used, reader, answer_tokens=settings.answer_tokens)
        pairs = read_pairs(used, prompted, reader, answer_tokens=settings.answer_tokens)
    rows = tuple(row for row, example in enumerate(used) if example.split == "train")
    learner = _build_learner(job)
    _learn_to_write(job, learner, prompted, rows=rows, pairs=pairs)
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


def _learn_to_write(job: Job, learner: Learner, prompted: Prompted, *, rows: tuple[int, ...], pairs: Mapping[int, Pair]) -> None:
    """Learn from the examples in `rows`, then from the edits among them, and report how well the other examples' summaries are written."""
    settings, learnt = job.settings, set(rows)
    others = [row for row in range(len(prompted.completions)) if row not in learnt]
    numbers = {place: number for number, place in enumerate(pairs)}
    parted = Pairs(
        prompted.prefix,
        tuple(pairs.values()),
        learnt=tuple(number for place, number in numbers.items() if place in learnt),
        held_out=tuple(number for place, number in numbers.items() if place not in learnt),
    )
    fingerprint = fingerprint_summaries(prompted, base_digest=job.base_digest, settings=settings)
    obstacle = find_obstacle(job, parted)
    if obstacle is not None:
        job.on_figures("preference", {"n_pairs": len(parted.learnt), "skipped": obstacle})
        learn(job, learner, prompted, rows=rows, held_out=tuple(others), fingerprint=fingerprint)
    else:
        preferred = fingerprint_pairs(fingerprint, pairs, settings=settings)
        found = load_checkpoint(job.directory, preferred)
        if found is None:
            learn(job, learner, prompted, rows=rows, held_out=tuple(others), fingerprint=fingerprint)
        prefer(job, learner, parted, found=found, fingerprint=preferred)
    loss = compute_written_loss(learner, prompted, others)
    if loss is not None:
        job.on_figures("validation", {"n": len(others), "log_loss": round(loss, 4)})


def _start(job: Job) -> Job:
    torch.set_num_threads(job.settings.threads)
    job.directory.mkdir(parents=True, exist_ok=True)
    job.report("preparing", 0, 1)
    return job


def _build_learner(job: Job) -> Learner:
    """Return the learner, and let the run's record say how its base is held: `faithful` is two holdings, by the size of the base."""
    learner = build_learner(job.base_path, job.settings)
    job.on_figures("holding", {**describe_holding(learner.model), "pack_tokens": learner.pack_tokens})
    return learner


def build_learner(base_gguf: Path, settings: DecoderSettings) -> Learner:
    """Return the base model with fresh LoRA matrices on all of its linear layers, fitted to the memory that is free."""
    model = load_base(base_gguf, limit_mib=None if settings.mode == "full" else settings.faithful_limit_mib)
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
    learner = Learner(wrapped, learning_rate=choose_rate(int(config.hidden_size), settings), settings=settings)
    fit_memory(learner)
    return learner


def choose_rate(width: int, settings: DecoderSettings) -> float:
    """Return the peak learning rate for a model of this width."""
    if settings.learning_rate is not None:
        return settings.learning_rate
    return float(np.clip(RATE_AT_256 * (width / 256) ** RATE_POWER, *RATE_BOUNDS))


def _export(job: Job, learner: Learner) -> Path:
    """Start the bundle's directory with the adapter."""
    directory = job.directory / BUNDLE_DIR
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    head = read_model_head(job.base_path)
    lora = get_lora_state(learner.model)
    export_peft(lora, directory, lora_alpha=job.settings.lora_alpha)
    export_lora(
        lora,
        directory / ADAPTER_FILE,
        architecture=head.architecture,
        lora_alpha=job.settings.lora_alpha,
        heads=get_heads(learner.model),
        base_tensors={name: info.shape for name, info in head.tensors.items()},
    )
    return directory


def _calibrate(job: Job, learner: Learner, served: Served, directory: Path, *, targets: Targets, choices: ChoiceSet) -> None:
    """Fit the calibration on the served answers; where the trained weights are the served ones, check that they agree first."""
    n = len(PROBE_TEXTS)
    if job.settings.mode != "nf4":
        with PromptTokens(job.base_path, text_tokens=job.settings.text_tokens) as reader:
            check_agreement(score_choices(learner, reader, choices, PROBE_TEXTS), served.log_probabilities[:n])
    answers = served.log_probabilities[n:]
    calibration = fit_calibration(answers, served.prior, targets)
    write_json(directory / CALIBRATION_FILE, calibration)
    if len(targets):
        job.on_figures("validation", measure_answers(answers, served.prior, targets, calibration=calibration))


def _build_manifest(job: Job, run: RunInfo, task: TaskKind, *, n_train: int, labels: tuple[str, ...] = ()) -> Manifest:
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
