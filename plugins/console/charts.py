"""Charts as plain numbers for SVG: positions in percent, worked out here, drawn by the templates.

Pure; every chart also carries what its table alternative needs. Percent positions keep text and dots undistorted at any width.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from bot.plugin_api import DryRun
from plugins.console import words

_PLOT_LEFT, _PLOT_RIGHT, _PLOT_TOP, _PLOT_BOTTOM = 7.0, 98.0, 14.0, 88.0  # percent of the picture
MAX_LABELLED_MARKS = 4


@dataclass(frozen=True)
class Comparison:
    """One metric before and after. Positions are percent of the row's width."""

    name: str
    before: str
    after: str
    change: str
    is_up: bool
    is_down: bool
    before_x: float
    after_x: float


@dataclass(frozen=True)
class Point:
    """One bucket of the timeline. `x` and `y` are percent of the picture, `y` from the top."""

    x: float
    y: float
    at: datetime
    share: float
    digest: str


@dataclass(frozen=True)
class Mark:
    """A change of adapter between two points. `text` stands at its top."""

    x: float
    text: str
    digest: str
    at: datetime
    is_left: bool


@dataclass(frozen=True)
class Timeline:
    """Acceptance over time. `path` is the line in a 100 x 100 box; `grid` are (y, words)."""

    points: tuple[Point, ...]
    marks: tuple[Mark, ...]
    grid: tuple[tuple[float, str], ...]
    path: str
    sentence: str


@dataclass(frozen=True)
class Bar:
    """A count with the width of its bar, and where it begins, in percent."""

    name: str
    count: int
    x: float
    width: float


def build_comparisons(pairs: Sequence[tuple[str, float, float]]) -> list[Comparison]:
    """Return the rows of a before/after chart. Shares lie on 0 to 1, other numbers on 0 to the larger of the two."""
    rows: list[Comparison] = []
    for name, before, after in pairs:
        is_share = words.is_share(name, before) and words.is_share(name, after)
        top = 1.0 if is_share else max(abs(before), abs(after)) or 1.0
        change = after - before
        said = f"{change * 100:+.1f} points" if is_share else f"{change:+.3g}"
        rows.append(
            Comparison(
                name=words.say_metric_name(name),
                before=words.say_metric(name, before),
                after=words.say_metric(name, after),
                change=said,
                is_up=change > 0,
                is_down=change < 0,
                before_x=_to_track(before / top),
                after_x=_to_track(after / top),
            )
        )
    return rows


def get_unpaired(numbers: Mapping[str, float]) -> list[tuple[str, str]]:
    """Return the numbers that the before/after chart does not show, as (name, value) in words."""
    names = [name for name, _, _ in words.pair_metrics(numbers)]
    before = {f"active_{name}" if f"active_{name}" in numbers else f"base_{name}" for name in names}
    shown = before | {f"candidate_{name}" for name in names}
    return [(words.say_metric_name(key), words.say_metric(key, value)) for key, value in numbers.items() if key not in shown]


def build_timeline(timeline: Sequence[tuple[datetime, float, str]]) -> Timeline | None:
    """Return the acceptance chart, or None for fewer than two buckets."""
    if len(timeline) < 2:
        return None
    bottom = min(0.9, max(0.0, math.floor(10 * min(share for _, share, _ in timeline) - 0.5) / 10))
    step = (_PLOT_RIGHT - _PLOT_LEFT) / (len(timeline) - 1)

    def place(share: float) -> float:
        return round(_PLOT_BOTTOM - (share - bottom) / (1 - bottom) * (_PLOT_BOTTOM - _PLOT_TOP), 2)

    points = tuple(
        Point(x=round(_PLOT_LEFT + n * step, 2), y=place(share), at=at, share=share, digest=digest)
        for n, (at, share, digest) in enumerate(timeline)
    )
    path = " ".join(f"{'L' if n else 'M'}{point.x} {point.y}" for n, point in enumerate(points))
    shown = (bottom, (1 + bottom) / 2, 1.0)
    first, last = points[0], points[-1]
    sentence = (
        f"Share of suggestions accepted, from {words.say_percent(first.share)} on {words.say_date(first.at)} "
        f"to {words.say_percent(last.share)} on {words.say_date(last.at)}."
    )
    return Timeline(
        points=points,
        marks=_build_marks(points, step),
        grid=tuple((place(share), words.say_percent(share)) for share in shown),
        path=path,
        sentence=sentence,
    )


def build_bars(counts: Mapping[str, int]) -> list[Bar]:
    """Return one bar per name, longest first, scaled to the longest."""
    top = max(counts.values(), default=0) or 1
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    return [Bar(name=name, count=count, x=0.0, width=round(100 * count / top, 2)) for name, count in ordered]


def build_split_bar(dry_run: DryRun) -> list[Bar]:
    """Return the parts of one stacked bar: train, validation, test, golden."""
    counts = {"train": dry_run.n_train, "validation": dry_run.n_validation, "test": dry_run.n_test, "golden": dry_run.n_golden}
    total, x, bars = sum(counts.values()) or 1, 0.0, []
    for name, count in counts.items():
        width = 100 * count / total
        bars.append(Bar(name=name, count=count, x=round(x, 2), width=round(width, 2)))
        x += width
    return bars


def _build_marks(points: Sequence[Point], step: float) -> tuple[Mark, ...]:
    changes = [(old, new) for old, new in itertools.pairwise(points) if old.digest != new.digest]
    is_short = len(changes) <= MAX_LABELLED_MARKS
    marks = []
    for n, (old, new) in enumerate(changes, start=1):
        x = round(old.x + step / 2, 2)
        marks.append(Mark(x=x, text=new.digest[:7] if is_short else str(n), digest=new.digest, at=new.at, is_left=x > 80.0))
    return tuple(marks)


def _to_track(share: float) -> float:
    """Keep dots inside the row: 0 to 1 becomes 2 to 98 percent."""
    return round(2 + 96 * min(1.0, max(0.0, share)), 2)
