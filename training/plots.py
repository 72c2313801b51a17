"""The plots of release notes: loss, F1 per label before and after, confusion, reliability. Each draws what it is given, or nothing for no data.

Knows no table. Uses matplotlib without a display and leaves its global state alone.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

BEFORE, AFTER = "#9aa5b1", "#1f6feb"
MAX_LABELS = 40
MAX_NUMBERED = 20


def _start(width: float, height: float) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def plot_loss(curves: Mapping[str, Sequence[Sequence[float]]], path: Path) -> Path | None:
    """Draw each curve of (step, value) over the steps."""
    drawn = {name: points for name, points in curves.items() if points}
    if not drawn:
        return None
    figure, axes = _start(7, 4)
    for name, points in drawn.items():
        axes.plot([point[0] for point in points], [point[1] for point in points], label=name.replace("_", " "))
    axes.set(xlabel="step", ylabel="loss", title="Training")
    axes.legend(frameon=False)
    figure.savefig(path, dpi=120)
    return path


def plot_labels(per_label: Mapping[str, Mapping[str, float]], path: Path) -> Path | None:
    """Draw F1 before and after for each label, the commonest on top."""
    labels = sorted(per_label, key=lambda label: -per_label[label]["support"])[:MAX_LABELS]
    if not labels:
        return None
    figure, axes = _start(7, 1.2 + 0.45 * len(labels))
    places = range(len(labels))
    axes.barh(
        [place - 0.2 for place in places], [per_label[label]["before_f1"] for label in labels], 0.38, color=BEFORE, label="before"
    )
    axes.barh(
        [place + 0.2 for place in places], [per_label[label]["after_f1"] for label in labels], 0.38, color=AFTER, label="after"
    )
    axes.set_yticks(list(places), [f"{label} ({per_label[label]['support']:.0f})" for label in labels])
    axes.set(xlabel="F1 on test tickets", xlim=(0, 1), title="Per label")
    axes.invert_yaxis()
    axes.legend(frameon=False)
    figure.savefig(path, dpi=120)
    return path


def plot_reliability(reliability: Mapping[str, Sequence[Sequence[float]]], path: Path) -> Path | None:
    """Draw the share right over the confidence, before and after; on the diagonal confidence can be taken at its word."""
    if not any(reliability.values()):
        return None
    figure, axes = _start(5, 5)
    axes.plot([0, 1], [0, 1], color="#cccccc", linestyle="--", label="as it should be")
    for name, color in (("before", BEFORE), ("after", AFTER)):
        points = reliability.get(name, [])
        axes.plot([point[0] for point in points], [point[1] for point in points], marker="o", color=color, label=name)
    axes.set(xlabel="confidence", ylabel="share right", xlim=(0, 1), ylim=(0, 1), title="Reliability")
    axes.legend(frameon=False)
    figure.savefig(path, dpi=120)
    return path


def plot_confusion(confusion: Sequence[Sequence[int]], labels: Sequence[str], path: Path) -> Path | None:
    """Draw how often each label (row) was answered with which (column), as shares of the row; the commonest labels first.

    `confusion` holds [label, answered label, tickets] as indices into `labels`.
    """
    totals: dict[int, int] = {}
    for label, _, count in confusion:
        totals[label] = totals.get(label, 0) + count
    shown = sorted(totals, key=lambda label: -totals[label])[:MAX_LABELS]
    if not shown:
        return None
    place = {label: number for number, label in enumerate(shown)}
    shares = [[0.0] * len(shown) for _ in shown]
    for label, answer, count in confusion:
        if label in place and answer in place:
            shares[place[label]][place[answer]] = count / totals[label]
    figure, axes = _start(2.5 + 0.42 * len(shown), 2 + 0.42 * len(shown))
    axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0)
    names = [labels[label] for label in shown]
    axes.set_xticks(range(len(shown)), names, rotation=60, ha="right")
    axes.set_yticks(range(len(shown)), [f"{name} ({totals[label]})" for name, label in zip(names, shown, strict=True)])
    if len(shown) <= MAX_NUMBERED:
        for row, values in enumerate(shares):
            for column, value in enumerate(values):
                if value:
                    color = "white" if value > 0.5 else "black"
                    axes.text(column, row, f"{100 * value:.0f}", ha="center", va="center", fontsize=8, color=color)
    axes.set(xlabel="answered", ylabel="people's choice", title="Confusion (% of the row)")
    figure.savefig(path, dpi=120)
    return path
