"""Chooses the trainer for a run: encoder or decoder by the base model file, classification or summary by the task.

Translates between a run's settings and the trainers' own; trains nothing itself.
"""

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from pydantic import BaseModel

from bot.bundle import Bundle, hash_file, seal
from bot.engine.factory import choose_kind
from bot.engine.gguf_file import read_model_head
from bot.settings import Settings
from bot.tasks.classification import PROMPT_VERSION
from bot.tasks.summary import SUMMARY_PROMPT_VERSION
from bot.types import LabelSet
from db.types import MaskedText, ModelKind, TaskKind
from training.dataset import Dataset, Item
from training.progress import Report

if TYPE_CHECKING:
    from training.decoder.stages import OnFigures
    from training.encoder.types import OnProgress, RunInfo, ShouldStop, SummaryExample, TrainExample
    from training.encoder.types import Progress as TrainerProgress
    from training.sweep import SweepPlan

logger = logging.getLogger(__name__)
_FREE = {"threads", "checkpoint_seconds", "max_seconds", "preference_epochs", "preference_beta"}
"""Settings that decide nothing about what a sweep's trials come to."""


@dataclass(frozen=True)
class TrainJob:
    """What a trainer needs. Checkpoints go to `work_dir`, where a run that is taken up again finds them."""

    run_id: int
    base_path: Path
    dataset: Dataset
    label_set: LabelSet | None
    settings: Settings
    work_dir: Path
    report: Report


def get_prompt_version(task: TaskKind) -> str:
    """Return the version of the prompt that the task is asked with."""
    return PROMPT_VERSION if task is TaskKind.CLASSIFICATION else SUMMARY_PROMPT_VERSION


def train(job: TrainJob) -> Bundle:
    """Train, and return the sealed bundle in the adapters folder. Raises TrainingError, or what `report` raises."""
    kind = choose_kind(read_model_head(job.base_path))
    work = _train_encoder if kind is ModelKind.ENCODER else _train_decoder
    return seal(work(job), job.settings.adapters_dir)


def _train_encoder(job: TrainJob) -> Path:
    from training.encoder.settings import build_encoder_settings
    from training.encoder.summary import train_turn_head
    from training.encoder.train import train_encoder

    settings = build_encoder_settings(job.settings.training, job.settings.engine)
    common = _get_common(job)
    if job.label_set is None:
        if job.settings.training.sweep_minutes:
            reason = "the head that picks lines has neither rank nor learning rate"
            job.report("sweep", 1, 1, message=f"no sweep: {reason}", figures={"sweep": {"skipped": reason}})
        return train_turn_head(build_summary_examples(job.dataset), settings=settings, **common)
    examples, labels = build_examples(job.dataset), job.label_set.labels
    if job.settings.training.sweep_minutes:
        from training.sweep_trials import sweep_encoder

        settings, directory = sweep_encoder(
            examples, labels, base_gguf=job.base_path, settings=settings, plan=_build_plan(job, settings), run=common["run"]
        )
        common["checkpoint_dir"] = directory or common["checkpoint_dir"]
    return train_encoder(examples, labels, settings=settings, **common)


def _train_decoder(job: TrainJob) -> Path:
    from training.decoder.settings import DecoderSettings
    from training.decoder.train import train_decoder, train_summary_decoder

    training = job.settings.training
    settings = DecoderSettings(
        mode=training.mode,
        faithful_limit_mib=training.faithful_limit_mib,
        r=training.r,
        lora_alpha=training.lora_alpha,
        learning_rate=training.learning_rate,
        epochs=training.epochs,
        preference_epochs=training.preference_epochs,
        preference_beta=training.preference_beta,
        text_tokens=job.settings.engine.decoder_text_tokens,
        n_ctx=job.settings.engine.n_ctx,
        max_seconds=training.max_seconds,
        checkpoint_seconds=training.checkpoint_seconds,
        threads=training.threads,
        seed=training.seed,
    )
    common = _get_common(job)
    if job.label_set is None:
        summaries = build_summary_examples(job.dataset, has_drafts=job.settings.training.preference_epochs > 0)
        if training.sweep_minutes:
            from training.sweep_trials import sweep_summary_decoder

            settings, directory = sweep_summary_decoder(
                summaries, base_gguf=job.base_path, settings=settings, plan=_build_plan(job, settings), run=common["run"]
            )
            common["checkpoint_dir"] = directory or common["checkpoint_dir"]
        return train_summary_decoder(summaries, settings=settings, on_figures=_build_recorder(job), **common)
    examples, labels = build_examples(job.dataset), job.label_set.labels
    if training.sweep_minutes:
        from training.sweep_trials import sweep_decoder

        settings, directory = sweep_decoder(
            examples, labels, base_gguf=job.base_path, settings=settings, plan=_build_plan(job, settings), run=common["run"]
        )
        common["checkpoint_dir"] = directory or common["checkpoint_dir"]
    return train_decoder(examples, labels, settings=settings, on_figures=_build_recorder(job), **common)


class _Common(TypedDict):
    """What every trainer takes alike."""

    base_gguf: Path
    checkpoint_dir: Path
    on_progress: "OnProgress"
    should_stop: "ShouldStop"
    run: "RunInfo"


def _get_common(job: TrainJob) -> _Common:
    from training.encoder.types import RunInfo

    run = RunInfo(
        prompt_version=get_prompt_version(job.dataset.task),
        label_set_version=job.label_set.version if job.label_set is not None else "",
        run_id=job.run_id,
        data_digest=job.dataset.digest,
    )
    return {
        "base_gguf": job.base_path,
        "checkpoint_dir": job.work_dir,
        "on_progress": _build_listener(job),
        "should_stop": _never,
        "run": run,
    }


def _build_plan(job: TrainJob, settings: BaseModel) -> "SweepPlan":
    """Return what the run's settings ask a sweep for; `settings` is the recipe."""
    from training.sweep import SweepPlan

    training = job.settings.training
    version = job.label_set.version if job.label_set is not None else ""
    recipe = settings.model_dump_json(exclude=_FREE)
    parts = (job.dataset.digest, hash_file(job.base_path), get_prompt_version(job.dataset.task), version, recipe)
    return SweepPlan(
        budget_s=60.0 * training.sweep_minutes,
        ranks=training.sweep_r,
        rates=training.sweep_rates,
        directory=job.work_dir / "sweep",
        identity=hashlib.sha256("\n".join(parts).encode()).hexdigest(),
        report=job.report,
    )


def _build_recorder(job: TrainJob) -> "OnFigures":
    """Return what writes a trainer's figures into the run's record."""

    def record(name: str, figures: Mapping[str, Any]) -> None:
        message = f"{name}: {figures.get('skipped', 'measured')}"
        job.report(name, 1, 1, message=message, figures={name: dict(figures)})

    return record


def build_examples(dataset: Dataset) -> "list[TrainExample]":
    """Return the train and validation parts as the encoder's trainer takes them."""
    from training.encoder.types import TrainExample

    examples = [
        TrainExample(text=item.text, label=item.target, weight=item.weight, is_negative=item.is_negative)
        for item in dataset.train
    ]
    return examples + [
        TrainExample(text=item.text, label=item.target, weight=item.weight, split="validation") for item in dataset.validation
    ]


def build_summary_examples(dataset: Dataset, *, has_drafts: bool = False) -> "list[SummaryExample]":
    """Return the train and validation parts as the summary trainer takes them, drafts only where they are learnt from."""
    from training.encoder.types import SummaryExample

    parts: tuple[tuple[Literal["train", "validation"], tuple[Item, ...]], ...] = (
        ("train", dataset.train),
        ("validation", dataset.validation),
    )
    return [
        SummaryExample(
            text=item.text,
            summary=MaskedText(item.target),
            turns=item.turns,
            weight=item.weight,
            split=split,
            draft=MaskedText(item.draft) if has_drafts and item.draft else None,
        )
        for split, items in parts
        for item in items
    ]


def _build_listener(job: TrainJob) -> "OnProgress":
    """Return what passes the trainer's progress on, and logs where a run that was taken up again goes on."""
    seen: set[str] = set()

    def listen(progress: "TrainerProgress") -> None:
        if progress.phase not in seen:
            seen.add(progress.phase)
            logger.info("run %d: %s from step %d of %d", job.run_id, progress.phase, progress.step, progress.total_steps)
        job.report(progress.phase, progress.step, progress.total_steps, loss=progress.loss)

    return listen


def _never() -> bool:
    """The trainer is stopped by an exception from its progress instead."""
    return False
