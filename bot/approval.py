"""A person's decision on an adapter: promoting one also settles the run that waited for it, once as many people approve as are needed.

Shared by the manager of the running bot and by the command line, so that both leave the same trail.
"""

from sqlmodel import Session

from db.queries import adapters, runs
from db.queries.approvals import describe_missing, list_approvers, record_approval
from db.tables import Adapter
from db.types import AdapterStatus, RunStatus

WAITING = frozenset({AdapterStatus.CANDIDATE, AdapterStatus.SHADOW})


def promote_adapter(session: Session, digest: str, *, actor: str, reason: str, approvers_needed: int = 1) -> Adapter:
    """Approve the adapter of that digest (or a unique beginning of it), and activate it where that is enough.

    A candidate needs `approvers_needed` different people; until then it stays one, and the reason of the row returned says who is missing.
    What has been live before takes one. Raises the errors of `db.queries.adapters` and `db.queries.approvals`.
    """
    row = adapters.resolve_digest(session, digest)
    adapters.check_can_activate(row)
    if row.status in WAITING and not record_approval(session, row, actor=actor, reason=reason, needed=approvers_needed):
        approvers = list_approvers(session, row.digest)
        row.reason = f"approved by {', '.join(approvers)}: {describe_missing(approvers, needed=approvers_needed)}"
        session.flush()
        return row
    if row.run_id is not None and runs.get_run(session, row.run_id).status is RunStatus.AWAITING_APPROVAL:
        runs.decide_run(session, row.run_id, is_approved=True, actor=actor, reason=reason)
    return adapters.activate_adapter(session, row.digest, actor=actor, reason=reason)


def reject_adapter(session: Session, digest: str, *, actor: str, reason: str) -> Adapter:
    """Turn down a candidate for good; the run that waited for it is rejected with it. One person is enough to say no."""
    row = adapters.resolve_digest(session, digest)
    rejected = adapters.reject_adapter(session, row.digest, actor=actor, reason=reason)
    if row.run_id is not None and runs.get_run(session, row.run_id).status is RunStatus.AWAITING_APPROVAL:
        runs.decide_run(session, row.run_id, is_approved=False, actor=actor, reason=reason)
    return rejected
