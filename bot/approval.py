"""A person's decision on an adapter: promoting one also settles the run that waited for it.

Shared by the manager of the running bot and by the command line, so that both leave the same trail.
"""

from sqlmodel import Session

from db.queries import adapters, runs
from db.tables import Adapter
from db.types import RunStatus


def promote_adapter(session: Session, digest: str, *, actor: str, reason: str) -> Adapter:
    """Activate the adapter of that digest (or a unique beginning of it). Raises the errors of `db.queries.adapters`."""
    row = adapters.resolve_digest(session, digest)
    if row.run_id is not None and runs.get_run(session, row.run_id).status is RunStatus.AWAITING_APPROVAL:
        runs.decide_run(session, row.run_id, is_approved=True, actor=actor, reason=reason)
    return adapters.activate_adapter(session, row.digest, actor=actor, reason=reason)
