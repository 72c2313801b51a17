"""Tries ranks and learning rates within a time budget before a run trains: nearest to the best so far first, none of them twice.

Knows points, seconds, scores and the ledger that survives a kill; how one trial trains and what it scores is handed in.
"""

import hashlib
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from bot.engine.protocol import EngineError
from training.encoder.types import CancelledError, OnProgress, Progress, ShouldStop
from training.errors import TrainingError
from training.progress import Report

PHASE: Final = "sweep"
LEDGER_FILE: Final = "sweep.json"
RANK_STEP: Final = 1.5
"""A step of rank is further off than a step of learning rate, which changes more."""
WORTH: Final = 0.02
"""Nats by which another point must beat the run's own settings: smaller leads did not carry over to tickets outside the sweep."""
LEARNING: Final = "training"
"""The phase in which a trainer learns what it will serve; trial runs of an encoder's own are called otherwise."""
_SAVE_S: Final = 2.0
_MAX_LOSSES: Final = 200
_MEASURED, _FAILED, _UNFINISHED = "measured", "failed", "not finished"


@dataclass(frozen=True)
class Point:
    """What a trial trains with. `learning_rate` is the peak."""

    r: int
    learning_rate: float

    @property
    def name(self) -> str:
        """The name of the trial's folder."""
        return f"r{self.r}-lr{self.learning_rate:g}"


@dataclass(frozen=True)
class Trial:
    """What came of a point: mean log loss in nats on `n` held-out examples, accuracy where there is one, seconds, how it ended."""

    r: int
    learning_rate: float
    outcome: str
    seconds: float
    log_loss: float | None = None
    accuracy: float | None = None
    n: int = 0
    note: str = ""
    losses: Sequence[Sequence[float]] = ()
    """(step, steps in all, loss) of what the run would train itself if it did not go on from here, thinned."""

    @property
    def point(self) -> Point:
        """The point that was tried."""
        return Point(self.r, self.learning_rate)


Measure = Callable[[Point, Path, OnProgress, ShouldStop], Mapping[str, float]]
"""Trains a point in a folder, from the checkpoint that may lie there, and returns `log_loss`, `n` and, where there is one, `accuracy`.

Raises CancelledError where `should_stop` said so, TrainingError or EngineError where these settings bring no adapter that works.
"""


@dataclass(frozen=True)
class SweepPlan:
    """What a deployment asks for. `identity` names data, base and settings: what was found for another one is not used."""

    budget_s: float
    ranks: tuple[int, ...]
    rates: tuple[float, ...]
    directory: Path
    identity: str
    report: Report
    clock: Callable[[], float] = time.monotonic


@dataclass
class _Ledger:
    """What a sweep has found so far, on disk after every change."""

    path: Path
    fingerprint: str
    trials: list[Trial] = field(default_factory=list)
    spent_s: float = 0.0
    open_s: dict[str, float] = field(default_factory=dict)
    """Seconds by name of what trials took that were begun and not ended, if any."""
    is_done: bool = False

    def load(self) -> None:
        """Take over what an earlier attempt left, if it was the same sweep."""
        try:
            found = json.loads(self.path.read_text(encoding="utf-8"))
            if found["fingerprint"] != self.fingerprint:
                return
            self.trials = [Trial(**trial) for trial in found["trials"]]
            self.spent_s, self.is_done = float(found["spent_s"]), bool(found["is_done"])
            self.open_s = {str(name): float(seconds) for name, seconds in found["open_s"].items()}
        except (OSError, ValueError, KeyError, TypeError):
            return  # a damaged ledger costs time, not the run

    def save(self) -> None:
        """Replace the file atomically."""
        rest = {"fingerprint": self.fingerprint, "spent_s": self.spent_s, "open_s": self.open_s, "is_done": self.is_done}
        part = self.path.with_name(f".{self.path.name}.part")
        part.write_text(json.dumps({**rest, "trials": [asdict(trial) for trial in self.trials]}), encoding="utf-8")
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(self.path)


def build_grid(start: Point, *, ranks: Sequence[int], rates: Sequence[float]) -> list[list[Point]]:
    """Return the points by rank (rows) and learning rate (columns), both rising; the starting point is one of them."""
    factors = sorted({1.0, *rates})
    learning_rates = [start.learning_rate if factor == 1.0 else _round(start.learning_rate * factor) for factor in factors]
    return [[Point(r, learning_rate) for learning_rate in learning_rates] for r in sorted({start.r, *ranks})]


def _round(value: float) -> float:
    return float(f"{value:.4g}")


def choose_next(grid: Sequence[Sequence[Point]], start: Point, trials: Sequence[Trial]) -> Point | None:
    """Return the point to try next: the start, then the untried one nearest to the best so far; None where all have been tried."""
    place = {point: (row, column) for row, points in enumerate(grid) for column, point in enumerate(points)}
    tried = {trial.point for trial in trials}
    centre = choose_best(trials) or start

    def distance(point: Point, other: Point) -> float:
        (row, column), (other_row, other_column) = place[point], place[other]
        return RANK_STEP * abs(row - other_row) + abs(column - other_column)

    left = [point for point in place if point not in tried]
    return min(left, key=lambda point: (distance(point, centre), distance(point, start), place[point]), default=None)


def choose_best(trials: Sequence[Trial]) -> Point | None:
    """Return the point of least log loss, of equal ones the first that was tried; None where none was measured."""
    measured = [trial for trial in trials if trial.log_loss is not None]
    return min(measured, key=lambda trial: trial.log_loss or 0.0).point if measured else None


def choose_final(start: Point, trials: Sequence[Trial]) -> Point:
    """Return what the run trains with: the start, unless another point is better by what is worth a change, or the start did not train."""
    best = choose_best(trials) or start
    scores = {trial.point: trial.log_loss for trial in trials if trial.log_loss is not None}
    if start in scores and scores[start] - scores[best] <= WORTH:
        return start
    return best


def run_sweep(start: Point, plan: SweepPlan, measure: Measure) -> tuple[Point, Path]:
    """Return the best point within the budget and the folder with its checkpoint, from which the run goes on.

    A sweep that was killed goes on where it stood: finished trials are not repeated, spent seconds count. Where the budget is over
    before anything was measured, the start and its checkpoint come back. Raises what `plan.report` raises.
    """
    work = _Work(build_grid(start, ranks=plan.ranks, rates=plan.rates), start, plan, measure)
    work.ledger.load()
    if not work.ledger.is_done:
        work.try_points()
        work.ledger.is_done = True
        work.ledger.save()
    work.report()
    best = choose_final(start, work.ledger.trials)
    for trial in work.ledger.trials:
        for step, total, loss in trial.losses if trial.point == best else ():
            plan.report(LEARNING, round(step), round(total), loss=loss)  # the run learns these steps no more: the curve is here
    return best, plan.directory / best.name


class _Work:
    """One sweep at work."""

    def __init__(self, grid: list[list[Point]], start: Point, plan: SweepPlan, measure: Measure) -> None:
        self._grid, self._start, self._plan, self._measure = grid, start, plan, measure
        text = json.dumps([plan.identity, asdict(start), [[asdict(point) for point in row] for row in grid]])
        plan.directory.mkdir(parents=True, exist_ok=True)
        self.ledger = _Ledger(plan.directory / LEDGER_FILE, hashlib.sha256(text.encode()).hexdigest())

    def report(self) -> None:
        """Put what is known so far into the run's record."""
        figures = build_figures(self.ledger.trials, self._start, budget_s=self._plan.budget_s, spent_s=self.ledger.spent_s)
        message = f"sweep: {len(self.ledger.trials)} trials in {self.ledger.spent_s:.0f} s"
        self._plan.report(PHASE, *self._place(), message=message, figures={PHASE: figures})

    def _place(self) -> tuple[int, int]:
        total = max(round(self._plan.budget_s), 1)
        return min(round(self.ledger.spent_s), total), total

    def try_points(self) -> None:
        """Try points until all have been, or the budget is over."""
        ledger = self.ledger
        while (point := choose_next(self._grid, self._start, ledger.trials)) is not None:
            quickest = min((trial.seconds for trial in ledger.trials if trial.outcome == _MEASURED), default=0.0)
            needed = max(quickest - ledger.open_s.get(point.name, 0.0), 0.0)
            if self._plan.budget_s - ledger.spent_s <= needed:
                return  # what cannot be finished is not begun
            trial = self._try_point(point, self._plan.directory / point.name)
            ledger.trials.append(trial)
            ledger.open_s.pop(point.name, None)
            ledger.save()
            self._clean()
            self.report()
            if trial.outcome == _UNFINISHED:
                return

    def _try_point(self, point: Point, directory: Path) -> Trial:
        """Measure one point, or as much of it as the budget allows."""
        plan, ledger, begun, spent = self._plan, self.ledger, self._plan.clock(), self.ledger.spent_s
        earlier, number, saved = ledger.open_s.get(point.name, 0.0), len(ledger.trials) + 1, -math.inf
        losses: list[tuple[float, float, float]] = []

        def count() -> float:
            seconds = plan.clock() - begun
            ledger.spent_s, ledger.open_s[point.name] = spent + seconds, earlier + seconds
            return seconds

        def on_progress(progress: Progress) -> None:
            nonlocal saved
            seconds = count()
            if seconds - saved >= _SAVE_S:
                ledger.save()
                saved = seconds
            if progress.phase == LEARNING and progress.loss is not None and math.isfinite(progress.loss):
                losses.append((progress.step, progress.total_steps, progress.loss))
            if len(losses) > _MAX_LOSSES:
                del losses[1:-1:2]
            text = f"{progress.phase} {progress.step} of {progress.total_steps}"
            message = f"sweep, trial {number} (r {point.r}, learning rate {point.learning_rate:g}): {text}"
            plan.report(PHASE, *self._place(), message=message)

        trial = Trial(point.r, point.learning_rate, _UNFINISHED, 0.0, note="the time was over")
        try:
            found = self._measure(point, directory, on_progress, lambda: spent + plan.clock() - begun >= plan.budget_s)
            trial = _score(trial, found)
        except CancelledError:
            ledger.is_done = True  # the budget is what cancels a trial; a person's cancel is an exception of the report
        except (TrainingError, EngineError) as error:  # diverged, learnt nothing, or cannot be served: others may do better
            trial = replace(trial, outcome=_FAILED, note=str(error))
        return replace(trial, seconds=round(earlier + count(), 1), losses=losses)

    def _clean(self) -> None:
        """Keep no folder but the best trial's and what the run would go on from now; an unfinished one's where nothing else is known."""
        kept = {choose_best(self.ledger.trials) or self._start, choose_final(self._start, self.ledger.trials)}
        for trial in self.ledger.trials:
            if trial.point not in kept:
                shutil.rmtree(self._plan.directory / trial.point.name, ignore_errors=True)


def _score(trial: Trial, found: Mapping[str, float]) -> Trial:
    if not math.isfinite(found["log_loss"]):
        return replace(trial, outcome=_FAILED, note="the log loss is no number")
    log_loss, accuracy = round(found["log_loss"], 4), found.get("accuracy")
    return replace(trial, outcome=_MEASURED, log_loss=log_loss, accuracy=accuracy, n=int(found["n"]), note="")


def build_figures(trials: Sequence[Trial], start: Point, *, budget_s: float, spent_s: float) -> dict[str, Any]:
    """Return what the run's record keeps of a sweep; `chosen` is what the run trains with, `start` what it would have had."""
    is_measured = choose_best(trials) is not None
    return {
        "budget_s": budget_s,
        "spent_s": round(spent_s, 1),
        "start": asdict(start),
        "chosen": asdict(choose_final(start, trials)),
        "is_measured": is_measured,
        "trials": [{name: value for name, value in asdict(trial).items() if name != "losses"} for trial in trials],
    }
