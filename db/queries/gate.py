"""The gate's reports, kept with every number. The decision itself is made in `training`."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlmodel import Session, col, select

from db.queries.audit import record_audit
from db.tables import GateReport


def record_gate_report(
    session: Session,
    *,
    run_id: int,
    adapter_digest: str,
    is_passed: bool,
    reasons: Sequence[str],
    numbers: Mapping[str, Any],
    actor: str,
) -> GateReport:
    """Append a report. Audited. `numbers` is JSON without NaN or infinity, which PostgreSQL refuses."""
    row = GateReport(
        run_id=run_id, adapter_digest=adapter_digest, is_passed=is_passed, reasons=list(reasons), numbers=dict(numbers)
    )
    session.add(row)
    session.flush()
    detail = {"run_id": run_id, "is_passed": is_passed, "reasons": list(reasons)}
    record_audit(session, actor=actor, action="gate.decide", subject_type="adapter", subject_id=adapter_digest, detail=detail)
    return row


def get_gate_report(session: Session, *, run_id: int | None = None, adapter_digest: str | None = None) -> GateReport | None:
    """Return the newest report of that run, of that adapter or of both, or None."""
    query = select(GateReport).order_by(col(GateReport.id).desc()).limit(1)
    if run_id is not None:
        query = query.where(col(GateReport.run_id) == run_id)
    if adapter_digest is not None:
        query = query.where(col(GateReport.adapter_digest) == adapter_digest)
    return session.exec(query).one_or_none()
