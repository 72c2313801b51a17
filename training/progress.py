"""Tells the database how far a run is, at most four times a second, and learns from it whether to stop.

Knows nothing of what is trained; the trainer calls `report` after each step and may be told to end by an exception.
"""

import math
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from sqlalchemy import Engine as DbEngine
from sqlmodel import Session

from db.queries import runs
from db.session import retry_transaction
from db.tables import TrainingRun

INTERVAL_S = 0.25
MAX_POINTS = 400
TOTAL = 1000
"""The bar's length: a run's `step` counts thousandths of the whole, so that it only ever grows; the message has the phase's own steps."""

SHARES = {
    "preparing": (0.0, 0.05),
    "reading summaries": (0.05, 0.86),
    "sweep": (0.05, 0.05),
    "trial 1 of 1": (0.05, 0.43),
    "trial 1 of 2": (0.05, 0.24),
    "trial 2 of 2": (0.24, 0.43),
    "training on all": (0.43, 0.82),
    "training": (0.05, 0.7),
    "reading drafts": (0.7, 0.71),
    "learning from edits": (0.71, 0.8),
    "calibrating": (0.7, 0.82),
    "fitting the head": (0.82, 0.86),
    "evaluating": (0.86, 0.99),
    "deciding": (0.99, 1.0),
}
"""Where on the bar each phase begins and ends; one that is not named here leaves the bar where it is."""
CURVES = {"learning from edits": "preference_loss"}
"""Phases whose loss is another one than that of learning from the examples."""


class RunCancelledError(Exception):
    """Somebody asked for the run to stop."""


class RunStoppedError(Exception):
    """The process was asked to end (SIGTERM). The run stays as it is and is taken up again by the next process."""


class Curves:
    """Named series of (step, value), thinned so that a long run stays a small row."""

    def __init__(self) -> None:
        self.series: dict[str, list[list[float]]] = {}

    def add(self, name: str, step: int, value: float) -> None:
        """Append a point; values that are no numbers are left out, as JSON has none."""
        if not math.isfinite(value):
            return
        points = self.series.setdefault(name, [])
        points.append([float(step), float(value)])
        if len(points) > MAX_POINTS:
            del points[1:-1:2]


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
        figures: Mapping[str, Any] | None = None,
    ) -> None:
        """Say where the run is; `figures` go into its record."""
        ...


class Progress:
    """The one writer of a run's progress."""

    def __init__(
        self,
        db_engine: DbEngine,
        run_id: int,
        *,
        check_lease: Callable[[], None],
        stop: threading.Event,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._db_engine = db_engine
        self._run_id = run_id
        self._check_lease = check_lease
        self._stop = stop
        self._clock = clock
        self._last_write = -math.inf
        self._phase = ""
        self._fraction = 0.0
        self._begun: tuple[float, float] | None = None
        self.curves = Curves()

    def report(
        self,
        phase: str,
        step: int,
        total_steps: int,
        *,
        loss: float | None = None,
        message: str | None = None,
        figures: Mapping[str, Any] | None = None,
    ) -> None:
        """Say where the run is. Raises RunCancelledError, RunStoppedError or LeaseLostError where it has to end here.

        `figures` go into the run's counts under their names, at once; they replace what stood there under the same names.
        """
        if loss is not None and not phase.startswith("trial"):  # a trial run is thrown away; the curve is that of what is served
            self.curves.add(CURVES.get(phase, "loss"), step, loss)
        self._check_lease()
        if self._stop.is_set():
            message = "the training process was asked to end; the run goes on when it is started again"
            raise RunStoppedError(message)
        is_new_phase = phase != self._phase
        if not is_new_phase and not figures and self._clock() - self._last_write < INTERVAL_S and step < total_steps:
            return
        self._phase, self._last_write = phase, self._clock()
        self._advance(phase, step / total_steps if total_steps else 0.0)
        text = message or f"{phase}: {step} of {total_steps}" + (f", loss {loss:.3f}" if loss is not None else "")
        if self._write(text, loss=loss if loss is not None and math.isfinite(loss) else None, figures=figures):
            message = f"run {self._run_id} was cancelled"
            raise RunCancelledError(message)

    def _write(self, text: str, *, loss: float | None, figures: Mapping[str, Any] | None) -> bool:
        """Write where the run is, and return whether somebody asked for it to stop."""
        eta_s = self._estimate()

        def write(session: Session) -> TrainingRun:
            counts = {**runs.get_run(session, self._run_id).data_counts, **figures} if figures else None
            return runs.update_progress(
                session,
                self._run_id,
                phase=self._phase,
                step=round(TOTAL * self._fraction),
                total_steps=TOTAL,
                loss=loss,
                eta_s=eta_s,
                message=text,
                curves=self.curves.series,
                data_counts=counts,
            )

        return retry_transaction(self._db_engine, write).is_cancel_requested

    def _advance(self, phase: str, part: float) -> None:
        start, end = SHARES.get(phase, (self._fraction, self._fraction))
        self._fraction = max(self._fraction, start + (end - start) * min(part, 1.0))

    def _estimate(self) -> float | None:
        """Return the seconds left at the pace since training began, None before there is one."""
        if self._begun is None:
            if self._phase != "preparing":
                self._begun = (self._clock(), self._fraction)
            return None
        at, fraction = self._begun
        done = self._fraction - fraction
        return (self._clock() - at) * (1.0 - self._fraction) / done if done > 0.02 else None
