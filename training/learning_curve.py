"""`understudy evaluate --learning-curve`: the same evaluation with more and more of the training examples, to see whether more labels help.

Knows sizes and which rows; what one evaluation is, is `training.evaluate`'s business.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np

from bot.errors import UserError
from bot.settings import Settings
from training.encoder.types import OnProgress, Progress
from training.evaluate import Mask, Work, evaluate_rows, prepare_work

T = TypeVar("T")
FIRST_SIZE: Final = 50
CONTENDERS: Final = ("base", "adapter", "tfidf", "frozen", "knn")
POINT_KEYS: Final = (
    *(f"{figure}_{name}" for figure in ("accuracy", "macro_f1") for name in CONTENDERS),
    "ece_adapter",
    *(f"gain_over_{name}{end}" for name in ("base", "tfidf", "frozen") for end in ("", "_ci95")),
    "adapter_digest",
    "train_seconds",
)
"""What of an evaluation's figures a point of the curve keeps, beside `n_train`."""
SHARED_KEYS: Final = ("n_test", "n_labels", "label_set_version", "base_digest")


def parse_sizes(text: str) -> tuple[int, ...]:
    """Return the sizes in `50,100,200`. Raises UserError."""
    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise UserError(f"--sizes '{text}' cannot be read; give whole numbers with commas between, such as 50,100,200") from None


def choose_sizes(wanted: Sequence[int], n_rows: int) -> tuple[int, ...]:
    """Return the sizes in rising order: those wanted, or else 50, 100, 200 and so on, and all rows. Raises UserError."""
    if not wanted:
        doubled = [FIRST_SIZE << step for step in range(n_rows.bit_length()) if FIRST_SIZE << step < n_rows]
        return (*doubled, n_rows)
    sizes = tuple(sorted(set(wanted)))
    if sizes[0] < 2:
        raise UserError(f"--sizes holds {sizes[0]}; an adapter needs at least two examples")
    if sizes[-1] > n_rows:
        raise UserError(f"--sizes asks for {sizes[-1]} examples, and the training file holds {n_rows}; give no more than that")
    return sizes


def draw_nested(rows: Sequence[T], sizes: Sequence[int], *, seed: int) -> list[list[T]]:
    """Return one subset per size, drawn at random; each holds all of the smaller ones. The same for the same seed."""
    order = np.random.default_rng(seed).permutation(len(rows))
    return [[rows[int(place)] for place in order[:size]] for size in sizes]


def evaluate_curve(
    labels: Path,
    train: Path,
    test: Path,
    *,
    settings: Settings,
    sizes: Sequence[int] = (),
    home: Path | None = None,
    mask: Mask | None = None,
    on_progress: OnProgress | None = None,
) -> dict[str, Any]:
    """Evaluate with each size of training examples and return the curve that docs/training-study.md explains.

    Raises UserError and what `evaluate_files` raises.
    """
    work = prepare_work(labels, train, test, settings=settings, home=home, mask=mask, on_progress=on_progress)
    seed = settings.training.seed
    points: list[dict[str, Any]] = []
    figures: dict[str, Any] = {}
    chosen = choose_sizes(sizes, len(work.learn))
    for rows in draw_nested(work.learn, chosen, seed=seed):
        figures = evaluate_rows(rows, _name_size(work, len(rows)))
        points.append({"n_train": len(rows), **{key: figures[key] for key in POINT_KEYS}})
    return {
        "learning_curve": points,
        "seed": seed,
        **{key: figures[key] for key in SHARED_KEYS},
        "gain_per_doubling": compute_gain_per_doubling(points),
    }


def _name_size(work: Work, size: int) -> Work:
    """Return the work with reports that say which point of the curve they are from."""

    def report(progress: Progress) -> None:
        work.report(replace(progress, phase=f"{size} examples, {progress.phase}"))

    return replace(work, report=report)


def compute_gain_per_doubling(points: Sequence[dict[str, Any]]) -> float | None:
    """Return the adapter's accuracy gained per doubling of examples between the last two points; None for a single point."""
    pairs = list(pairwise(points))
    if not pairs:
        return None
    before, after = pairs[-1]
    doublings = float(np.log2(after["n_train"] / before["n_train"]))
    return round(float(after["accuracy_adapter"] - before["accuracy_adapter"]) / doublings, 4)


def plot_curve(figures: dict[str, Any], path: Path) -> None:
    """Draw accuracy against the number of examples as PNG. Raises UserError where the file cannot be written."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = dict(zip(CONTENDERS, ("bare model", "adapter", "TF-IDF", "frozen embeddings", "kNN"), strict=True))
    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    points = figures["learning_curve"]
    sizes = [point["n_train"] for point in points]
    for key, name in names.items():
        width = 2.5 if key == "adapter" else 1.2
        axes.plot(sizes, [point[f"accuracy_{key}"] for point in points], marker="o", linewidth=width, label=name)
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.set(xlabel="training examples", ylabel="accuracy", title=f"Learning curve, {figures['n_test']} test tickets")
    axes.legend(frameon=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=120, format="png")
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from None
