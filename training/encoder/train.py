"""Trains an encoder's adapter for classification: LoRA and head, lexical expert, calibration, export, probe.

Knows the order of the stages; each part lives in a module of its own. Writes a work directory that `bot.bundle.seal` can move.
"""

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np
import torch

from bot.bundle import (
    ADAPTER_FILE,
    CALIBRATION_FILE,
    MANIFEST_FILE,
    PROBE_FILE,
    Calibration,
    Manifest,
    Probe,
    hash_file,
    write_json,
)
from bot.engine.gguf_file import read_model_head
from bot.engine.head import ZERO_SHOT_SCALE, EncoderHead, log_softmax
from bot.engine.protocol import FloatArray
from bot.tasks.classification import describe
from bot.types import Label
from db.types import ModelKind, TaskKind
from training.encoder.base import build_batch, embed, load_base
from training.encoder.calibrate import calibrate
from training.encoder.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from training.encoder.lexical import find_unlike, fit_expert
from training.encoder.linear import Int, fit_softmax
from training.encoder.loop import Learner, Stage, TrainData, run_stage
from training.encoder.prepare import Prepared, choose_epochs, choose_rate, compute_fingerprint, prepare
from training.encoder.served import ServedEncoder
from training.encoder.settings import EncoderSettings
from training.encoder.types import CancelledError, OnProgress, Progress, RunInfo, ShouldStop, TrainExample
from training.export import ExportError, export_lora
from training.qlora import add_lora, build_lora_config, find_linears, get_lora_state

BUNDLE_DIR: Final = "bundle"
FIRST_SHARE: Final = 0.4
"""Part of `max_seconds` after which the first stage ends."""
WORTH_LEARNING: Final = 0.1
REFIT_INVERSE_STRENGTH: Final = 100.0
MIN_AGREEMENT: Final = 0.99
"""Cosine that served and trained embeddings must at least have; measured 0.9995."""
PROBE_TEXTS: Final = (
    "Hello, I cannot log in since this morning, please help.",
    "Could you order a new laptop for a colleague who starts next week?",
    "The invoice shows a charge that I do not recognise.",
    "How do I change the address on my account?",
)


@dataclass
class _Run:
    """One training at work."""

    prepared: Prepared
    base_path: Path
    base_digest: str
    settings: EncoderSettings
    directory: Path
    on_progress: OnProgress
    should_stop: ShouldStop
    served: ServedEncoder
    fingerprint: str
    notes: dict[str, object] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)

    def report(self, phase: str, step: int, total: int, *, loss: float | None = None, per_second: float = 0.0) -> None:
        """Say where the run is. Raises CancelledError."""
        eta = (total - step) / per_second if per_second > 0.0 else None
        self.on_progress(Progress(phase, step, total, loss, eta))
        if self.should_stop():
            raise CancelledError("the training was cancelled")


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
    with ServedEncoder(base_gguf, text_tokens=settings.text_tokens, n_threads=settings.threads) as served:
        job = _Run(prepared, base_gguf, base_digest, settings, checkpoint_dir, on_progress, should_stop, served, fingerprint)
        job.report("preparing", 0, 1)
        described = served.embed([describe(label) for label in labels])
        learner = _build_learner(job, described)
        _learn(job, learner)
        return _write_bundle(job, learner, labels, run)


def _build_learner(job: _Run, described: FloatArray) -> Learner:
    settings = job.settings
    model = load_base(job.base_path)
    torch.manual_seed(settings.seed)
    config = build_lora_config(r=settings.r, lora_alpha=settings.lora_alpha, target_modules=find_linears(model))
    wrapped = add_lora(model, mode=settings.mode, config=config)
    start = torch.from_numpy(described * np.float32(ZERO_SHOT_SCALE)), torch.zeros(len(described))
    is_fixed = torch.from_numpy(job.prepared.is_absent)
    return Learner(wrapped, start, is_fixed=is_fixed, pooling=job.served.pooling, settings=settings)


def _plan(job: _Run) -> list[Stage]:
    """Return the stages: without the held-out rows first; then, calibration fitted on these, the same anew with all rows."""
    prepared = job.prepared
    first = Stage("training", tuple(prepared.learnt.tolist()), choose_epochs(len(prepared.learnt), job.settings))
    if len(prepared.held_out) < WORTH_LEARNING * len(prepared.texts):
        return [first]  # nothing, or so little of so many that the head alone may learn from it
    return [first, Stage("training on all", tuple(range(len(prepared.texts))), first.epochs)]


def _learn(job: _Run, learner: Learner) -> None:
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
        stage_number, step, job.notes = found.stage, found.step, found.notes
    for number in range(stage_number, len(stages)):
        if step == 0:
            learner.restore(initial)  # every stage starts afresh, so that one's calibration holds for the other
        _run_stage(job, learner, data, stages[number], number=number, first_step=step)
        step = 0
        if number == 0:
            job.notes["calibration"] = _calibrate(job, learner).model_dump()
        _save(job, learner, number + 1, 0)


def _run_stage(job: _Run, learner: Learner, data: TrainData, stage: Stage, *, number: int, first_step: int) -> None:
    limit = job.settings.max_seconds * (FIRST_SHARE if number == 0 else 1.0)
    last_saved = time.monotonic()

    def on_step(step: int, total: int, loss: float, per_second: float) -> bool:
        nonlocal last_saved
        if time.monotonic() - last_saved >= job.settings.checkpoint_seconds and step < total:
            _save(job, learner, number, step)
            last_saved = time.monotonic()
        job.report(stage.name, step, total, loss=loss, per_second=per_second)
        return time.monotonic() - job.started < limit

    run_stage(learner, data, stage, number=number, first_step=first_step, settings=job.settings, on_step=on_step)


def _save(job: _Run, learner: Learner, stage: int, step: int) -> None:
    save_checkpoint(job.directory, Checkpoint(job.fingerprint, stage, step, learner.state(), job.notes))


def _export(job: _Run, learner: Learner, target: Path) -> None:
    shapes = {name: info.shape for name, info in read_model_head(job.base_path).tensors.items()}
    export_lora(
        get_lora_state(learner.model), target, architecture="bert", lora_alpha=job.settings.lora_alpha, base_tensors=shapes
    )


def _fit_head(job: _Run, learner: Learner, embeddings: FloatArray, rows: Int) -> EncoderHead:
    """Return the uncalibrated head: the learnt layer averaged with one refitted to the final embeddings, and the lexical expert."""
    prepared = job.prepared
    targets = prepared.targets.take(rows)
    weight, bias = (part.numpy().astype(np.float64) for part in learner.head)
    seen = targets.label[~targets.is_negative]
    is_fixed = prepared.is_absent | ~np.isin(np.arange(len(bias)), seen)
    refitted = fit_softmax(
        embeddings.astype(np.float64),
        targets,
        start=(np.where(is_fixed[:, None], weight, 0.0), np.where(is_fixed, bias, 0.0)),
        l2=1.0 / (REFIT_INVERSE_STRENGTH * len(rows)),
        is_fixed=is_fixed,
    )
    lexical = None
    if job.settings.has_lexical_expert:
        lexical = fit_expert([prepared.texts[row] for row in rows], targets, is_absent=is_fixed)
    return EncoderHead(
        labels=prepared.names,
        weight=((weight + refitted[0]) / 2).astype(np.float32),
        bias=((bias + refitted[1]) / 2).astype(np.float32),
        calibration=Calibration(),
        lexical=lexical,
    )


def _calibrate(job: _Run, learner: Learner) -> Calibration:
    """Return temperature and lexical share, fitted on what the held-out rows get before anything has learnt from them."""
    prepared = job.prepared
    empty = np.empty((0, len(prepared.names)), np.float32)
    if len(prepared.held_out) == 0:
        return calibrate(empty, empty if job.settings.has_lexical_expert else None, prepared.targets.take(prepared.held_out))
    target = job.directory / f".{ADAPTER_FILE}"
    _export(job, learner, target)
    embeddings = job.served.embed(prepared.texts, lora=target, on_step=lambda done, total: job.report("calibrating", done, total))
    target.unlink()
    head = _fit_head(job, learner, embeddings[prepared.learnt], prepared.learnt)
    known, unseen = ([prepared.texts[row] for row in rows] for rows in (prepared.learnt, prepared.held_out))
    rows = prepared.held_out[find_unlike(known, unseen)]
    encoder = log_softmax(embeddings[rows] @ head.weight.T + head.bias)
    lexical = log_softmax(head.lexical.logits([prepared.texts[row] for row in rows])) if head.lexical is not None else None
    return calibrate(encoder, lexical, prepared.targets.take(rows))


def _write_bundle(job: _Run, learner: Learner, labels: Sequence[Label], run: RunInfo) -> Path:
    directory = job.directory / BUNDLE_DIR
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    adapter = directory / ADAPTER_FILE
    _export(job, learner, adapter)
    prepared = job.prepared
    embeddings = job.served.embed(
        prepared.texts, lora=adapter, on_step=lambda done, total: job.report("fitting the head", done, total)
    )
    head = _fit_head(job, learner, embeddings, np.arange(len(prepared.texts)))
    calibration = Calibration.model_validate(job.notes["calibration"])
    if head.lexical is None:
        calibration = calibration.model_copy(update={"lexical_weight": 0.0})
    head.save(directory)
    write_json(directory / CALIBRATION_FILE, calibration)
    manifest = Manifest(
        task=TaskKind.CLASSIFICATION,
        model_kind=ModelKind.ENCODER,
        base_digest=job.base_digest,
        label_set_version=run.label_set_version,
        labels=prepared.names,
        prompt_version=run.prompt_version,
        run_id=run.run_id,
        data_digest=run.data_digest,
        n_train=len(prepared.texts),
        r=job.settings.r,
        lora_alpha=job.settings.lora_alpha,
        created_at=datetime.now(UTC),
    )
    write_json(directory / PROBE_FILE, _build_probe(job, learner, EncoderHead.load(directory, manifest), labels))
    write_json(directory / MANIFEST_FILE, manifest)
    job.report("done", 1, 1)
    return directory


def _build_probe(job: _Run, learner: Learner, head: EncoderHead, labels: Sequence[Label]) -> Probe:
    """Return made-up texts with what the served adapter answers. Raises ExportError where it does not compute what was trained."""
    texts = (*PROBE_TEXTS, *(describe(label) for label in labels[:4]))
    adapter = job.directory / BUNDLE_DIR / ADAPTER_FILE
    bare, adapted = job.served.embed(texts), job.served.embed(texts, lora=adapter)
    if job.settings.mode != "nf4":
        trained = _embed_trained(job, learner, texts)
        agreement = float((trained * adapted).sum(axis=1).min())
        if agreement < MIN_AGREEMENT:
            raise ExportError(f"the exported adapter computes other embeddings than were trained (cosine {agreement:.3f})")
    expected, base = (np.exp(head.log_probabilities(rows, texts)).astype(float) for rows in (adapted, bare))
    return Probe(texts=texts, expected=tuple(map(tuple, expected.tolist())), base=tuple(map(tuple, base.tolist())))


def _embed_trained(job: _Run, learner: Learner, texts: Sequence[str]) -> FloatArray:
    rows = []
    with torch.inference_mode():
        for text in texts:
            tokens, mask = (part.to(learner.device) for part in build_batch([job.served.tokenize(text)]))
            rows.append(embed(learner.model, tokens, mask, pooling=job.served.pooling).cpu().numpy()[0])
    return np.stack(rows)
