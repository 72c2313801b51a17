"""Chooses the trainer for a run: encoder or decoder by the base model file, classification or summary by the task.

Translates between a run's settings and the trainers' own; trains nothing itself.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, TypedDict

from bot.bundle import Bundle, seal
from bot.engine.factory import choose_kind
from bot.engine.gguf_file import read_model_head
from bot.settings import Settings
from bot.tasks.classification import PROMPT_VERSION
from bot.tasks.summary import SUMMARY_PROMPT_VERSION
from bot.types import LabelSet
from db.types import MaskedText, ModelKind, TaskKind
from training.dataset import Dataset, Item

if TYPE_CHECKING:
    from training.encoder.types import OnProgress, RunInfo, ShouldStop, SummaryExample, TrainExample
    from training.encoder.types import Progress as TrainerProgress

logger = logging.getLogger(__name__)


class Report(Protocol):
    """`training.progress.Progress.report`: may raise to end the run."""

    def __call__(
        self,
        phase: str,
        step: int,
        total_steps: int,
        *,
        loss: float | None = None,
        message: str | None = None,
    ) -> None:
        """Say where the run is."""
        ...


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
    if job.label_set is None:
        return train_turn_head(build_summary_examples(job.dataset), settings=settings, **_get_common(job))
    return train_encoder(build_examples(job.dataset), job.label_set.labels, settings=settings, **_get_common(job))


def _train_decoder(job: TrainJob) -> Path:
    from training.decoder.settings import DecoderSettings
    from training.decoder.train import train_decoder, train_summary_decoder

    training = job.settings.training
    settings = DecoderSettings(
        mode=training.mode,
        r=training.r,
        lora_alpha=training.lora_alpha,
        learning_rate=training.learning_rate,
        epochs=training.epochs,
        text_tokens=job.settings.engine.decoder_text_tokens,
        n_ctx=job.settings.engine.n_ctx,
        max_seconds=training.max_seconds,
        checkpoint_seconds=training.checkpoint_seconds,
        threads=training.threads,
        seed=training.seed,
    )
    if job.label_set is None:
        return train_summary_decoder(build_summary_examples(job.dataset), settings=settings, **_get_common(job))
    return train_decoder(build_examples(job.dataset), job.label_set.labels, settings=settings, **_get_common(job))


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


def build_summary_examples(dataset: Dataset) -> "list[SummaryExample]":
    """Return the train and validation parts as the summary trainer takes them."""
    from training.encoder.types import SummaryExample

    parts: tuple[tuple[Literal["train", "validation"], tuple[Item, ...]], ...] = (
        ("train", dataset.train),
        ("validation", dataset.validation),
    )
    return [
        SummaryExample(text=item.text, summary=MaskedText(item.target), turns=item.turns, weight=item.weight, split=split)
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
