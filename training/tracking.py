"""Records a finished run in MLflow or Weights & Biases, for teams that have them. Ours are the records that count; these are copies.

Sends counts, settings, figures and the written pages, never a ticket. The libraries are extras, loaded only where they are asked for.
"""

import importlib
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bot.training_settings import TrainingSettings
from training.errors import TrainingError
from training.notes import RunRecord
from training.notes_training import get_trained_settings

PAGES = (
    "notes.md",
    "notes.html",
    "card.md",
    "dataset.md",
    "dataset.json",
    "loss.png",
    "labels.png",
    "confusion.png",
    "reliability.png",
)
_PACKAGES = {"mlflow": "mlflow-skinny", "wandb": "wandb"}


@dataclass(frozen=True)
class Tracked:
    """What is recorded of a run: names to values, curves of (step, value), and files."""

    name: str
    tags: Mapping[str, str]
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    curves: Mapping[str, list[tuple[int, float]]]
    files: tuple[Path, ...]


def build_tracked(record: RunRecord, directory: Path) -> Tracked:
    """Return what is sent about a run."""
    run, report = record.run, record.report
    numbers = report.numbers if report else {}
    counts = {key: value for key, value in run.data_counts.items() if isinstance(value, int)}
    tags = {
        "task": run.task.value,
        "status": run.status.value,
        "trigger": run.trigger.value,
        "adapter": run.adapter_digest or "",
        "data": run.data_digest or "",
        "base": str(run.data_counts.get("base_digest", "")),
        "label_set": str(run.data_counts.get("label_set_version", "")),
    }
    return Tracked(
        name=f"run {run.id}",
        tags={f"understudy.{key}": value for key, value in tags.items() if value},
        params={key: str(value) for key, value in get_trained_settings(run.data_counts).items()},
        metrics={**counts, **{key: float(value) for key, value in numbers.items() if _is_number(value)}},
        curves={name: [(int(step), float(value)) for step, value in points] for name, points in run.curves.items()},
        files=tuple(path for path in (directory / name for name in PAGES) if path.exists()),
    )


def track_run(record: RunRecord, directory: Path, *, settings: TrainingSettings, home: Path) -> None:
    """Send the run to where the settings say. Raises TrainingError where the library is missing or refuses."""
    if settings.tracking == "none":
        return
    library = _load(settings.tracking)
    send = _send_to_mlflow if settings.tracking == "mlflow" else _send_to_wandb
    try:
        send(library, build_tracked(record, directory), settings=settings, home=home)
    except Exception as error:
        message = f"run {record.run.id} was not recorded in {settings.tracking}: {type(error).__name__}; see its log"
        raise TrainingError(message) from error


def _load(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        message = (
            f"training.tracking is '{name}' and its library is missing: run `pip install {_PACKAGES[name]}`, or set it to 'none'"
        )
        raise TrainingError(message) from None


def _send_to_mlflow(mlflow: Any, tracked: Tracked, *, settings: TrainingSettings, home: Path) -> None:
    if not settings.tracking_uri:
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # newer releases refuse a plain folder without it
    # A client of its own: the fluent interface keeps its run and its store in globals of the process.
    client = mlflow.MlflowClient(tracking_uri=settings.tracking_uri or (home / "mlruns").resolve().as_uri())
    known = client.get_experiment_by_name(settings.tracking_project)
    experiment_id = known.experiment_id if known is not None else client.create_experiment(settings.tracking_project)
    run_id = client.create_run(experiment_id, run_name=tracked.name, tags=dict(tracked.tags)).info.run_id
    for key, text in tracked.params.items():
        client.log_param(run_id, key, text)
    for name, value, step in _iterate(tracked):
        client.log_metric(run_id, name, value, step=step)
    for path in tracked.files:
        client.log_artifact(run_id, str(path))
    client.set_terminated(run_id)


def _send_to_wandb(wandb: Any, tracked: Tracked, *, settings: TrainingSettings, home: Path) -> None:
    config = {**tracked.params, **tracked.tags}
    with wandb.init(project=settings.tracking_project, name=tracked.name, config=config, dir=str(home)) as run:
        for name, points in tracked.curves.items():
            run.define_metric(name, step_metric=f"{name}_step")
            for step, value in points:
                run.log({name: value, f"{name}_step": step})
        run.summary.update(dict(tracked.metrics))
        for path in tracked.files:
            run.save(str(path), base_path=str(path.parent), policy="now")


def _iterate(tracked: Tracked) -> Iterator[tuple[str, float, int]]:
    yield from ((name, value, 0) for name, value in tracked.metrics.items())
    for name, points in tracked.curves.items():
        yield from ((name, value, step) for step, value in points if math.isfinite(value))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
