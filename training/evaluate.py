"""`understudy evaluate`: trains an adapter on one file of labelled tickets and scores it on another, through the engine that serves.

Knows files and figures. The same masked texts go to the adapter, the bare model and the simple baselines.
"""

import asyncio
import gzip
import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from bot.bundle import Bundle, seal
from bot.engine.factory import build_engine, choose_kind
from bot.engine.gguf_file import read_model_head
from bot.engine.protocol import Engine, Priority, ScoreRequest, Scores
from bot.engine.settings import EngineSettings
from bot.errors import UserError
from bot.jsonl import read_jsonl
from bot.masking import MaskingError
from bot.settings import Settings
from bot.tasks.classification import PROMPT_VERSION, build_choices
from bot.tasks.labels import load_label_set
from bot.types import BASE, LabelSet
from db.types import MaskedText, ModelKind, TaskKind
from training.encoder.settings import build_encoder_settings
from training.encoder.types import OnProgress, Progress, RunInfo, TrainExample
from training.metrics import compute_accuracy, compute_expected_calibration_error, compute_gain, compute_macro_f1, compute_mcnemar

AT_ONCE: Final = 16
Mask = Callable[[str], MaskedText]
Embed = Callable[[Sequence[str]], NDArray[np.floating]]


@dataclass(frozen=True)
class Row:
    """One line of a file, masked."""

    text: MaskedText
    label: int


@dataclass(frozen=True)
class Scored:
    """Answers of one contender, shape (n, n_labels), how fast they came, and the embeddings they came from, shape (n, n_embd)."""

    probabilities: NDArray[np.float64]
    tokens_per_second: float
    embeddings: NDArray[np.float32] | None = None


def evaluate_files(
    labels: Path,
    train: Path,
    test: Path,
    *,
    settings: Settings,
    home: Path | None = None,
    mask: Mask | None = None,
    on_progress: OnProgress | None = None,
) -> dict[str, Any]:
    """Train on one file, score on the other, and return the figures that docs/training-study.md explains. Raises UserError and others.

    `mask` takes the place of the deployment's masker; `home` that of its folder.
    """
    work = prepare_work(labels, train, test, settings=settings, home=home, mask=mask, on_progress=on_progress)
    return evaluate_rows(work.learn, work)


@dataclass(frozen=True)
class Work:
    """Files as masked rows, and what is needed to train on one and judge by the other. `folder` is where work directories go."""

    learn: list[Row]
    judge: list[Row]
    label_set: LabelSet
    base_path: Path
    folder: Path
    settings: Settings
    report: OnProgress


def prepare_work(
    labels: Path,
    train: Path,
    test: Path,
    *,
    settings: Settings,
    home: Path | None = None,
    mask: Mask | None = None,
    on_progress: OnProgress | None = None,
) -> Work:
    """Read and mask both files. Raises UserError and others."""
    from training.source import resolve_base

    home, report = home or settings.home, on_progress or _ignore
    label_set = load_label_set(labels)
    raw = [read_rows(path, label_set) for path in (train, test)]
    learn, judge = _mask_all(raw, mask or build_mask(settings), report)
    base_path = resolve_base(settings, TaskKind.CLASSIFICATION)
    home.mkdir(parents=True, exist_ok=True)
    return Work(learn, judge, label_set, base_path, home, settings, report)


def evaluate_rows(learn: Sequence[Row], work: Work) -> dict[str, Any]:
    """Train on some of the rows, score on the test rows, and return the figures of `evaluate_files`."""
    settings, label_set, report = work.settings, work.label_set, work.report
    with tempfile.TemporaryDirectory(dir=work.folder, prefix=".evaluate-") as folder:
        started = time.monotonic()
        bundle = _train(learn, label_set, base_path=work.base_path, settings=settings, folder=Path(folder), report=report)
        train_seconds = time.monotonic() - started
        engine_settings = settings.engine.model_copy(update={"n_threads": settings.training.threads})
        report(Progress("scoring", 0, 1))
        base, adapter = asyncio.run(
            _score_both(work.base_path, bundle, work.judge, label_set=label_set, settings=engine_settings)
        )
        report(Progress("scoring the baselines", 0, 1))
        n_labels = len(label_set.labels)
        baselines = _score_baselines(learn, work.judge, work.base_path, bare=base, n_labels=n_labels, settings=engine_settings)
    figures = build_figures(learn, work.judge, base=base, adapter=adapter, baselines=baselines, seed=settings.training.seed)
    return {
        **figures,
        "n_labels": len(label_set.labels),
        "label_set_version": label_set.version,
        "base_digest": bundle.manifest.base_digest,
        "adapter_digest": bundle.digest,
        "temperature": bundle.calibration.temperature,
        "lexical_weight": bundle.calibration.lexical_weight,
        "train_seconds": round(train_seconds, 2),
        "tokens_per_second": round(adapter.tokens_per_second, 1),
    }


def _ignore(_: Progress) -> None:
    """Take progress nobody asked for."""


@dataclass(frozen=True)
class RawRow:
    """One line of a file as it came; `where` names file and line."""

    where: str
    text: str
    label: int


def read_rows(path: Path, label_set: LabelSet) -> list[RawRow]:
    """Return the lines of a file. Raises UserError, which names file and line and quotes no text."""
    place_of = {name: place for place, name in enumerate(label_set.names)}
    parsed = list(read_jsonl(path, required=("id", "text", "label")))
    rows = []
    for number, row in zip(_number_lines(path), parsed, strict=True):
        where = f"{path}, line {number}"
        if row["label"] not in place_of:
            raise UserError(
                f"{where}: the label '{row['label']}' is not in the label set '{label_set.name}'; add it there or correct the line"
            )
        rows.append(RawRow(where, row["text"], place_of[row["label"]]))
    if not rows:
        raise UserError(f"{path} holds no examples; each line is a JSON object with id, text and label")
    return rows


def _number_lines(path: Path) -> list[int]:
    """Return the numbers of the lines that hold anything."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as file:
        return [number for number, line in enumerate(file, start=1) if line.strip()]


def build_mask(settings: Settings) -> Mask:
    """Return the deployment's masker as a function. Loads it."""
    from bot.masking import Masker

    masker = Masker(settings.masking)
    return lambda text: masker.mask(text).text


def _mask_all(files: Sequence[Sequence[RawRow]], mask: Mask, report: OnProgress) -> list[list[Row]]:
    total, done = sum(map(len, files)), 0
    masked: list[list[Row]] = []
    for rows in files:
        masked.append([])
        for row in rows:
            try:
                text = mask(row.text)
            except MaskingError as error:
                raise UserError(f"{row.where}: the text cannot be masked: {error}") from None
            masked[-1].append(Row(text, row.label))
            done += 1
            report(Progress("masking", done, total))
    return masked


def _train(
    rows: Sequence[Row], label_set: LabelSet, *, base_path: Path, settings: Settings, folder: Path, report: OnProgress
) -> Bundle:
    from training.encoder.train import train_encoder

    if choose_kind(read_model_head(base_path)) is not ModelKind.ENCODER:
        raise UserError(f"{base_path.name} is a decoder; `evaluate` trains encoders: set model.classification to one")
    directory = train_encoder(
        [TrainExample(row.text, label_set.names[row.label]) for row in rows],
        label_set.labels,
        base_gguf=base_path,
        settings=build_encoder_settings(settings.training, settings.engine),
        checkpoint_dir=folder / "work",
        on_progress=report,
        should_stop=lambda: False,
        run=RunInfo(prompt_version=PROMPT_VERSION, label_set_version=label_set.version),
    )
    return seal(directory, folder / "adapters")


async def _score_both(
    base_path: Path, bundle: Bundle, rows: Sequence[Row], *, label_set: LabelSet, settings: EngineSettings
) -> tuple[Scored, Scored]:
    """Let the bare model and the adapter answer, as served."""
    engine = build_engine(base_path, settings=settings)
    await engine.start()
    try:
        digest = await engine.load(bundle.directory)
        return await _score(engine, rows, label_set, pin=BASE), await _score(engine, rows, label_set, pin=digest)
    finally:
        await engine.stop()


async def _score(engine: Engine, rows: Sequence[Row], label_set: LabelSet, *, pin: str) -> Scored:
    choices = build_choices(label_set)
    limit = asyncio.Semaphore(AT_ONCE)

    async def ask(row: Row) -> Scores:
        async with limit:
            return await engine.score(
                ScoreRequest(task=TaskKind.CLASSIFICATION, choices=choices, text=row.text, priority=Priority.BULK, adapter=pin)
            )

    await ask(rows[0])  # label descriptions are embedded once, outside the measured time
    started = time.monotonic()
    answers = await asyncio.gather(*(ask(row) for row in rows))
    seconds = max(time.monotonic() - started, 1e-9)
    return Scored(
        np.stack([np.asarray(answer.probabilities, np.float64) for answer in answers]),
        sum(answer.n_tokens for answer in answers) / seconds,
        np.stack([answer.embedding for answer in answers if answer.embedding is not None]),
    )


def _score_baselines(
    learn: Sequence[Row], judge: Sequence[Row], base_path: Path, *, bare: Scored, n_labels: int, settings: EngineSettings
) -> dict[str, NDArray[np.float64]]:
    """Train and ask the baselines; the tickets' bare embeddings are those that the bare model answered from."""
    from training.baselines import compute_baselines
    from training.encoder.served import ServedEncoder

    with ServedEncoder(
        base_path, text_tokens=settings.text_tokens, n_threads=settings.n_threads, merge_limit_mib=settings.merge_limit_mib
    ) as served:

        def embed(texts: Sequence[str]) -> NDArray[np.floating]:
            is_judged = len(texts) == len(judge) and all(text == row.text for text, row in zip(texts, judge, strict=True))
            return bare.embeddings if is_judged and bare.embeddings is not None else served.embed(texts)

        return compute_baselines(
            [row.text for row in learn],
            np.array([row.label for row in learn], np.int64),
            [row.text for row in judge],
            n_labels=n_labels,
            embed=embed,
        )


def build_figures(
    learn: Sequence[Row],
    judge: Sequence[Row],
    *,
    base: Scored,
    adapter: Scored,
    baselines: Mapping[str, NDArray[np.float64]],
    seed: int,
) -> dict[str, Any]:
    """Return accuracies, macro-F1, calibration errors and the paired 95 % intervals of the adapter's gains."""
    gold = np.array([row.label for row in judge], np.int64)
    contenders = {"base": base.probabilities, "adapter": adapter.probabilities, **baselines}
    known = {row.text for row in learn}
    figures: dict[str, Any] = {
        "n_train": len(learn),
        "n_test": len(judge),
        "n_test_texts_seen_in_train": sum(row.text in known for row in judge),
    }
    best = {name: np.asarray(rows.argmax(axis=1), np.int64) for name, rows in contenders.items()}
    for name, rows in contenders.items():
        figures[f"accuracy_{name}"] = round(compute_accuracy(gold, best[name]), 4)
        figures[f"macro_f1_{name}"] = round(compute_macro_f1(gold, best[name]), 4)
        figures[f"ece_{name}"] = round(compute_expected_calibration_error(rows, gold), 4)
    for name in ("base", "tfidf", "frozen"):
        gain, low, high = compute_gain(best[name] == gold, best["adapter"] == gold, seed=seed)
        figures[f"gain_over_{name}"] = round(gain, 4)
        figures[f"gain_over_{name}_ci95"] = [round(low, 4), round(high, 4)]
        figures[f"mcnemar_p_{name}"] = compute_mcnemar(best[name] == gold, best["adapter"] == gold)
    return figures


def write_figures(path: Path, figures: Mapping[str, Any]) -> None:
    """Write the figures as JSON. Raises UserError where the file cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(figures, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from None
