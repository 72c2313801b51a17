"""Trains an encoder's adapter for classification: LoRA and head, lexical expert, calibration, export, probe.

Knows the order of the stages; each part lives in a module of its own. Writes a work directory that `bot.bundle.seal` can move.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from torch import nn

from bot.bundle import Calibration, hash_file
from bot.engine.head import ZERO_SHOT_SCALE, log_softmax
from bot.engine.protocol import FloatArray
from bot.tasks.classification import describe
from bot.types import Label
from training.encoder.base import load_base
from training.encoder.calibrate import Answers, calibrate_with_lift, estimate_unseen_share
from training.encoder.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from training.encoder.finish import write_bundle
from training.encoder.job import Job, embed_trial, fit_head
from training.encoder.lexical import find_unlike
from training.encoder.loop import Learner, Stage, TrainData, run_stage
from training.encoder.prepare import Prepared, choose_epochs, choose_rate, compute_fingerprint, prepare
from training.encoder.served import ServedEncoder
from training.encoder.settings import EncoderSettings
from training.encoder.types import OnProgress, RunInfo, ShouldStop, TrainExample
from training.qlora import add_lora, build_lora_config, find_linears

TRIAL_FILE: Final = "trial-{number}.safetensors"
PHASE: Final = "training"
PHASE_AFTER_TRIALS: Final = "training on all"
TRIAL_SHARE: Final = 0.5
"""Part of `max_seconds` that the trial runs may take."""
WORTH_LEARNING: Final = 0.1


def train_encoder(
    examples: Sequence[TrainExample],
    labels: Sequence[Label],
    *,
    base_gguf: Path,
    settings: EncoderSettings,
    checkpoint_dir: Path,
    on_progress: OnProgress,
    should_stop: ShouldStop,
    run: RunInfo,
) -> Path:
    """Train and return the directory with the bundle's files. Takes up a checkpoint of the same data and settings where there is one.

    Raises TrainingDataError, CancelledError, ExportError; other errors mean a fault.
    """
    prepared = prepare(examples, labels, settings)
    settings = settings.model_copy(update={"learning_rate": choose_rate(prepared, settings)})
    torch.set_num_threads(settings.threads)
    checkpoint_dir.mkdir(parents=True, exist_ok=True)
    base_digest = hash_file(base_gguf)
    fingerprint = compute_fingerprint(prepared, base_digest=base_digest, settings=settings)
    with ServedEncoder(
        base_gguf, text_tokens=settings.text_tokens, n_threads=settings.threads, merge_limit_mib=settings.merge_limit_mib
    ) as served:
        job = Job(prepared, base_gguf, base_digest, settings, checkpoint_dir, on_progress, should_stop, served, fingerprint)
        job.report("preparing", 0, 1)
        described = served.embed([describe(label) for label in labels])
        learner = _build_learner(job, described)
        _learn(job, learner)
        calibration, lift = calibrate_trials(checkpoint_dir, prepared, has_lexical_expert=settings.has_lexical_expert)
        return write_bundle(job, learner, labels, calibration=calibration, lift=lift, run=run)


def _build_learner(job: Job, described: FloatArray) -> Learner:
    settings = job.settings
    model = load_base(job.base_path)
    torch.manual_seed(settings.seed)
    config = build_lora_config(r=settings.r, lora_alpha=settings.lora_alpha, target_modules=find_linears(model))
    wrapped = add_lora(model, mode=settings.mode, config=config)
    weight = torch.from_numpy(described * np.float32(ZERO_SHOT_SCALE))
    if not settings.has_label_texts:
        weight = nn.Linear(job.served.n_embd, len(described)).weight.detach()
    start = weight, torch.zeros(len(described))
    is_fixed = torch.from_numpy(job.prepared.is_absent)
    return Learner(wrapped, start, is_fixed=is_fixed, pooling=job.served.pooling, settings=settings)


def _plan(job: Job) -> list[Stage]:
    """Return the stages: the trial runs that calibration rests on, then the run that counts, with all examples."""
    prepared, parts = job.prepared, job.prepared.parts
    epochs, contrast_epochs = choose_epochs(prepared, job.settings), job.settings.contrast_epochs
    trials = [
        Stage(f"trial {number} of {len(parts)}", tuple(part.learnt.tolist()), epochs, contrast_epochs)
        for number, part in enumerate(parts, start=1)
    ]
    if len(parts) == 1 and len(parts[0].held_out) < WORTH_LEARNING * len(prepared.texts):
        # so little was held out that the head alone may learn from it
        return [Stage(PHASE, trials[0].rows, epochs, contrast_epochs)]
    everything = tuple(range(len(prepared.texts)))
    return [*trials, Stage(PHASE_AFTER_TRIALS if trials else PHASE, everything, epochs, contrast_epochs)]


def _learn(job: Job, learner: Learner) -> None:
    """Run the stages from where the checkpoint, if any, stands."""
    targets = job.prepared.targets
    data = TrainData(
        sequences=[job.served.tokenize(text, limit=job.settings.train_tokens) for text in job.prepared.texts],
        label=torch.from_numpy(targets.label),
        weight=torch.from_numpy(targets.weight.astype(np.float32)),
        is_negative=torch.from_numpy(targets.is_negative),
    )
    stages = _plan(job)
    initial = learner.state()
    found = load_checkpoint(job.directory, job.fingerprint)
    stage_number, step = 0, 0
    if found is not None:
        learner.restore(found.tensors)
        stage_number, step = found.stage, found.step
    for number in range(stage_number, len(stages)):
        if step == 0:
            learner.restore(initial)  # every stage starts afresh, so that one's calibration holds for the other
        _run_stage(job, learner, data, stages[number], number=number, first_step=step)
        step = 0
        if number < len(job.prepared.parts):
            _answer_held_out(job, learner, number)
        _save(job, learner, number + 1, 0)


def _run_stage(job: Job, learner: Learner, data: TrainData, stage: Stage, *, number: int, first_step: int) -> None:
    n_trials = len(job.prepared.parts)
    is_trial = stage.name not in (PHASE, PHASE_AFTER_TRIALS)
    limit = job.settings.max_seconds * (TRIAL_SHARE * (number + 1) / n_trials if is_trial else 1.0)
    last_saved = time.monotonic()

    def on_step(step: int, total: int, loss: float, per_second: float) -> bool:
        nonlocal last_saved
        if time.monotonic() - last_saved >= job.settings.checkpoint_seconds and step < total:
            _save(job, learner, number, step)
            last_saved = time.monotonic()
        job.report(stage.name, step, total, loss=loss, per_second=per_second)
        return time.monotonic() - job.started < limit

    run_stage(learner, data, stage, number=number, first_step=first_step, settings=job.settings, on_step=on_step)


def _save(job: Job, learner: Learner, stage: int, step: int) -> None:
    save_checkpoint(job.directory, Checkpoint(job.fingerprint, stage, step, learner.state()))


def _answer_held_out(job: Job, learner: Learner, number: int) -> None:
    """Write what both experts of a trial run answer to the rows it did not learn from."""
    prepared, part = job.prepared, job.prepared.parts[number]
    embeddings = embed_trial(job, learner)
    head = fit_head(job, learner, embeddings[part.learnt], part.learnt)
    known, unseen = ([prepared.texts[row] for row in rows] for rows in (part.learnt, part.held_out))
    learnt = prepared.targets.take(part.learnt)
    rows = part.held_out[find_unlike(known, unseen)]
    is_absent = ~np.isin(np.arange(len(prepared.names)), learnt.label[~learnt.is_negative])
    answers: dict[str, np.ndarray[Any, Any]] = {
        "rows": rows,
        "is_absent": is_absent,
        "encoder": log_softmax(embeddings[rows] @ head.weight.T + head.bias),
    }
    if head.lexical is not None and len(rows):
        answers["lexical"] = log_softmax(head.lexical.logits([prepared.texts[row] for row in rows]))
    save_file(answers, job.directory / TRIAL_FILE.format(number=number))


def calibrate_trials(directory: Path, prepared: Prepared, *, has_lexical_expert: bool) -> tuple[Calibration, float]:
    """Return temperature and lexical share, and the lift of labels without examples, fitted on the answers of all trial runs in a work directory."""
    found = [load_file(directory / TRIAL_FILE.format(number=number)) for number in range(len(prepared.parts))]
    has_lexical = has_lexical_expert and all("lexical" in answers for answers in found if len(answers["rows"]))
    rows = np.concatenate([np.empty(0, np.int64), *(answers["rows"] for answers in found)])
    empty = np.empty((0, len(prepared.names)), np.float32)
    held_out = Answers(
        encoder=np.concatenate([empty, *(answers["encoder"] for answers in found)]),
        lexical=np.concatenate([empty, *(answers["lexical"] for answers in found if len(answers["rows"]))])
        if has_lexical
        else None,
        is_absent=np.concatenate([empty > 0, *(np.tile(answers["is_absent"], (len(answers["rows"]), 1)) for answers in found)]),
    )
    share = estimate_unseen_share(prepared.targets, n_absent=int(prepared.is_absent.sum()))
    return calibrate_with_lift(held_out, prepared.targets.take(rows), unseen_share=share)
