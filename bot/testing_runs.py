"""What the fake manager's runs look like along their way: queued, in a phase, ended; invented but consistent figures.

Part of `bot.testing`; pure functions of a run, a share of its time and an outcome.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from bot.plugin_api import RunInfo, RunStatus, RunTrigger, TaskKind

PHASES = (RunStatus.PREPARING, RunStatus.TRAINING, RunStatus.EVALUATING)
RUNNING = frozenset({RunStatus.QUEUED, *PHASES})


def new_run(run_id: int, task: TaskKind, *, actor: str, trigger: RunTrigger, created_at: datetime) -> RunInfo:
    """Return a run that has just been queued."""
    return RunInfo(
        run_id=run_id,
        task=task,
        status=RunStatus.QUEUED,
        trigger=trigger,
        actor=actor,
        phase="queued",
        step=0,
        total_steps=120,
        fraction=0.0,
        loss=None,
        eta_s=None,
        message="Waiting for the training process.",
        created_at=created_at,
        finished_at=None,
        adapter_digest=None,
        verdict=(),
    )


def progress_run(run: RunInfo, fraction: float, run_s: float) -> RunInfo:
    """Return a run that is this share of the way to its verdict; `run_s` is the whole way in seconds."""
    if fraction < 0.05:
        return run
    status = PHASES[0] if fraction < 0.15 else PHASES[1] if fraction < 0.85 else PHASES[2]
    step = round(run.total_steps * min(1.0, max(0.0, (fraction - 0.15) / 0.7)))
    messages = {
        RunStatus.PREPARING: "Building the dataset and masking it again.",
        RunStatus.TRAINING: f"Training, step {step} of {run.total_steps}.",
        RunStatus.EVALUATING: "Comparing the candidate with what is live.",
    }
    return replace(
        run,
        status=status,
        phase=status.value,
        step=step,
        fraction=round(fraction, 3),
        loss=round(1.9 - 1.3 * step / run.total_steps, 3) if step else None,
        eta_s=round(run_s * (1 - fraction), 1),
        message=messages[status],
    )


def end_run(run: RunInfo, status: RunStatus, digest: str, *, now: datetime) -> RunInfo:
    """Return a run that has ended so, with the figures and sentences that go with it."""
    is_better = status is not RunStatus.REJECTED
    after: Mapping[str, float] = (
        {"candidate_accuracy": 0.872, "candidate_macro_f1": 0.855, "candidate_ece": 0.024, "gain": 0.049}
        if is_better
        else {"candidate_accuracy": 0.829, "candidate_macro_f1": 0.781, "candidate_ece": 0.052, "gain": 0.006}
    )
    before = {"n_test": 320.0, "base_accuracy": 0.612, "active_accuracy": 0.823, "active_macro_f1": 0.796, "active_ece": 0.034}
    better = ("Accuracy rose from 82.3 % to 87.2 % (interval +2.1 to +7.7 points).", "No label lost more than 1 point.")
    worse = ("Recall of Security incident fell from 96 % to 88 %; at most 1 point is allowed.",)
    return replace(
        run,
        status=status,
        phase=status.value,
        step=run.total_steps,
        fraction=1.0,
        eta_s=None,
        message={RunStatus.PROMOTED: "Promoted and live.", RunStatus.REJECTED: "Rejected by the gate."}.get(
            status, "Waits for an approver."
        ),
        finished_at=now,
        adapter_digest=digest,
        verdict=better if is_better else worse,
        before_after={**before, **after},
    )
