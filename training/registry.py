"""Enters a candidate into the database and carries out the gate's decision, in one transaction per step.

The only place of training that changes what is live. Knows no model: it is handed a bundle and a decision.
"""

import math
from collections.abc import Mapping

from sqlmodel import Session

from bot.bundle import Bundle
from bot.training_settings import TrainingSettings
from db.queries import adapters, gate, runs
from db.queries.wanted import want_run
from db.types import AdapterStatus, RunStatus, RunTrigger
from training.contest import GateDecision
from training.erased import mark_if_erased

ACTOR = "training"
_METRICS = (
    "n_test",
    "base_accuracy",
    "active_accuracy",
    "candidate_accuracy",
    "candidate_macro_f1",
    "candidate_ece",
    "base_overlap",
    "active_overlap",
    "candidate_overlap",
    "gain",
    "gain_low",
    "gain_high",
)


def clean_numbers(value: object) -> object:
    """Return the same with None in place of NaN and infinities, which PostgreSQL's JSON refuses, and plain numbers for NumPy's."""
    if isinstance(value, Mapping):
        return {str(key): clean_numbers(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [clean_numbers(item) for item in value]
    if isinstance(value, bool | str | int) or value is None:
        return value
    number = float(value)  # type: ignore[arg-type]  # what is left are floats and NumPy's scalars
    return number if math.isfinite(number) else None


def conclude_run(
    session: Session, run_id: int, *, bundle: Bundle, decision: GateDecision, settings: TrainingSettings
) -> RunStatus:
    """Register the candidate, record the report, and promote, reject or ask for approval. Returns what became of the run."""
    manifest = bundle.manifest
    numbers = clean_numbers(decision.numbers)
    if not isinstance(numbers, dict):
        message = "the gate's numbers must be a mapping"
        raise TypeError(message)
    adapter = adapters.register_adapter(
        session,
        digest=bundle.digest,
        task=manifest.task,
        model_kind=manifest.model_kind,
        base_digest=manifest.base_digest,
        prompt_version=manifest.prompt_version,
        path=bundle.directory.name,
        actor=ACTOR,
        label_set_version=manifest.label_set_version,
        run_id=run_id,
        metrics={name: float(numbers[name]) for name in _METRICS if isinstance(numbers.get(name), int | float)},
        reason=f"trained by run {run_id}",
    )
    gate.record_gate_report(
        session,
        run_id=run_id,
        adapter_digest=bundle.digest,
        is_passed=decision.is_passed,
        reasons=decision.reasons,
        numbers=numbers,
        actor=ACTOR,
    )
    n_erased = mark_if_erased(session, adapter, run_id=run_id, actor=ACTOR)
    status, message = _apply(session, run_id, digest=bundle.digest, status=adapter.status, decision=decision, settings=settings)
    if n_erased:
        reason = f"{n_erased} of its examples were erased while it was trained"
        message = f"{message}; {reason}"
        if status is RunStatus.PROMOTED:
            text = f"the live adapter {bundle.digest[:12]}: {reason}"
            want_run(session, manifest.task, trigger=RunTrigger.ERASURE, reason=text)
    runs.finish_run(session, run_id, status=status, actor=ACTOR, adapter_digest=bundle.digest, message=message)
    return status


def refuse_run(session: Session, run_id: int, *, reason: str) -> None:
    """End a run that brought no candidate at all as rejected: it learned nothing, which is a verdict and no failure."""
    if runs.get_run(session, run_id).status is RunStatus.TRAINING:
        runs.advance_run(session, run_id, status=RunStatus.EVALUATING, actor=ACTOR)
    gate.record_gate_report(session, run_id=run_id, adapter_digest="", is_passed=False, reasons=[reason], numbers={}, actor=ACTOR)
    runs.finish_run(session, run_id, status=RunStatus.REJECTED, actor=ACTOR, adapter_digest=None, message=reason)


def _apply(
    session: Session, run_id: int, *, digest: str, status: AdapterStatus, decision: GateDecision, settings: TrainingSettings
) -> tuple[RunStatus, str]:
    first = decision.reasons[0] if decision.reasons else "no reason given"
    if not decision.is_passed:
        if status in {AdapterStatus.CANDIDATE, AdapterStatus.SHADOW}:
            adapters.reject_adapter(session, digest, actor=ACTOR, reason=first)
        return RunStatus.REJECTED, f"the gate refused it: {first}"
    better = next((check.sentence for check in decision.checks if check.name in {"better", "not_worse"}), first)
    if settings.policy == "approval" or settings.approvers_needed > 1:
        who = "two different people" if settings.approvers_needed > 1 else "approval"
        return RunStatus.AWAITING_APPROVAL, f"passed the gate and waits for {who}: {better}"
    adapters.activate_adapter(session, digest, actor=ACTOR, reason=f"run {run_id} passed the gate: {better}")
    return RunStatus.PROMOTED, f"promoted: {better}"
