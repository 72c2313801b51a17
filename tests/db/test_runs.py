"""Training runs: one at a time, allowed transitions, progress, cancel and verdict; and the lease that protects them."""

import itertools
from datetime import UTC, datetime, timedelta

import pytest

from db.errors import RowNotFoundError, RunConflictError, StateConflictError, TransitionError
from db.queries import audit, leases, runs
from db.session import transaction
from db.types import RUNNING, RunStatus
from tests.support.db_rows import SUMMARY, add_run

QUEUED, PREPARING, TRAINING, EVALUATING = RunStatus.QUEUED, RunStatus.PREPARING, RunStatus.TRAINING, RunStatus.EVALUATING
AWAITING, PROMOTED, REJECTED = RunStatus.AWAITING_APPROVAL, RunStatus.PROMOTED, RunStatus.REJECTED
FAILED, CANCELLED = RunStatus.FAILED, RunStatus.CANCELLED
AT = datetime(2024, 5, 1, tzinfo=UTC)
TTL = timedelta(seconds=30)
BY = {"actor": "trainer"}

MOVE = {
    PREPARING: lambda s, i: runs.start_run(s, i, **BY),
    TRAINING: lambda s, i: runs.advance_run(s, i, status=TRAINING, **BY),
    EVALUATING: lambda s, i: runs.advance_run(s, i, status=EVALUATING, **BY),
    AWAITING: lambda s, i: runs.finish_run(s, i, status=AWAITING, **BY),
    PROMOTED: lambda s, i: runs.finish_run(s, i, status=PROMOTED, **BY),
    REJECTED: lambda s, i: runs.finish_run(s, i, status=REJECTED, **BY),
    FAILED: lambda s, i: runs.fail_run(s, i, error="broken", **BY),
    CANCELLED: lambda s, i: runs.cancel_run(s, i, **BY),
}
WAY = {
    QUEUED: [],
    PREPARING: [PREPARING],
    TRAINING: [PREPARING, TRAINING],
    EVALUATING: [PREPARING, TRAINING, EVALUATING],
    **{end: [PREPARING, TRAINING, EVALUATING, end] for end in (AWAITING, PROMOTED, REJECTED)},
    FAILED: [FAILED],
    CANCELLED: [CANCELLED],
}
ALLOWED = {
    *itertools.product(RUNNING, (FAILED, CANCELLED)),
    *itertools.product((QUEUED, PREPARING, TRAINING, EVALUATING), (PREPARING,)),
    (PREPARING, TRAINING),
    (TRAINING, EVALUATING),
    *itertools.product((EVALUATING,), (AWAITING, PROMOTED, REJECTED)),
    *itertools.product((AWAITING,), (PROMOTED, REJECTED)),
}


def bring_to(session, status):
    run = add_run(session)
    for step in WAY[status]:
        MOVE[step](session, run.id)
    assert run.status is status
    return run


@pytest.mark.parametrize(("before", "after"), list(itertools.product(RunStatus, MOVE)))
def test_each_transition_is_done_or_refused(sqlite_engine, before, after):
    with transaction(sqlite_engine) as session:
        run = bring_to(session, before)
        if (before, after) in ALLOWED:
            MOVE[after](session, run.id)
            assert run.status is after
        else:
            with pytest.raises(TransitionError, match=f"is {before.value} and cannot become {after.value}"):
                MOVE[after](session, run.id)
            assert run.status is before


@pytest.mark.parametrize("status", sorted(RUNNING))
def test_second_run_is_refused_and_the_first_is_named(db_engine, status):
    with transaction(db_engine) as session:
        run = bring_to(session, status)
        with pytest.raises(RunConflictError, match=rf"run {run.id} \(classification\) is {status.value}"):
            add_run(session, task=SUMMARY)
        assert runs.list_runs(session) == [run]


@pytest.mark.parametrize("status", sorted(set(RunStatus) - RUNNING))
def test_next_run_may_be_queued_once_the_first_needs_no_training_process(db_engine, status):
    with transaction(db_engine) as session:
        first = bring_to(session, status)
        second = add_run(session)
        assert runs.get_running(session) is second
        assert runs.list_runs(session) == [second, first]
        assert runs.list_runs(session, task=SUMMARY) == []


def test_run_is_refused_while_a_process_holds_the_training_lease(db_engine):
    with transaction(db_engine) as session:
        leases.acquire(session, leases.TRAINING, holder="host-a:12", ttl=TTL)
        with pytest.raises(RunConflictError, match="host-a:12 is training"):
            add_run(session)
        leases.release(session, leases.TRAINING, holder="host-a:12")
        assert add_run(session).status is QUEUED


def test_expired_training_lease_refuses_nothing(db_engine):
    with transaction(db_engine) as session:
        leases.acquire(session, leases.TRAINING, holder="dead", ttl=TTL, at=AT)
        assert add_run(session).status is QUEUED


def test_interrupted_run_is_taken_up_again_one_attempt_later(db_engine):
    with transaction(db_engine) as session:
        run = bring_to(session, TRAINING)
        started_at = run.started_at
    with transaction(db_engine) as session:
        again = runs.start_run(session, run.id, actor="other")
    assert (again.status, again.attempts, again.started_at) == (PREPARING, 2, started_at)


def test_progress_writes_what_is_given_and_leaves_the_rest(db_engine):
    with transaction(db_engine) as session:
        run_id = bring_to(session, TRAINING).id
        runs.update_progress(
            session, run_id, phase="train", step=3, total_steps=10, loss=0.5, eta_s=12.5, data_counts={"train": 80}
        )
        runs.update_progress(session, run_id, step=4, message="step 4 of 10", curves={"loss": [0.9, 0.5]}, data_digest="d")
    with transaction(db_engine) as session:
        run = runs.get_run(session, run_id)
    assert (run.phase, run.step, run.total_steps, run.loss, run.eta_s) == ("train", 4, 10, 0.5, 12.5)
    assert (run.message, run.data_counts, run.curves, run.data_digest) == (
        "step 4 of 10",
        {"train": 80},
        {"loss": [0.9, 0.5]},
        "d",
    )


@pytest.mark.parametrize("status", [AWAITING, FAILED])
def test_progress_of_an_ended_run_is_final(db_engine, status):
    with transaction(db_engine) as session:
        run = bring_to(session, status)
        with pytest.raises(StateConflictError, match="final"):
            runs.update_progress(session, run.id, step=9)


def test_cancel_ends_a_queued_run_at_once(db_engine):
    with transaction(db_engine) as session:
        run = runs.request_cancel(session, add_run(session).id, actor="ana")
    assert (run.status, run.is_cancel_requested) == (CANCELLED, True)
    assert run.finished_at is not None


def test_cancel_asks_a_going_run_which_sees_it_with_its_next_progress(db_engine):
    with transaction(db_engine) as session:
        run_id = bring_to(session, TRAINING).id
    with transaction(db_engine) as session:
        runs.request_cancel(session, run_id, actor="ana")
    with transaction(db_engine) as session:
        run = runs.update_progress(session, run_id, step=5)
        assert (run.status, run.is_cancel_requested) == (TRAINING, True)
        runs.cancel_run(session, run_id, **BY)
        assert runs.get_running(session) is None


def test_cancel_of_an_ended_run_is_refused(db_engine):
    with transaction(db_engine) as session:
        run = bring_to(session, PROMOTED)
        with pytest.raises(StateConflictError, match="nothing to cancel"):
            runs.request_cancel(session, run.id, actor="ana")


@pytest.mark.parametrize(("is_approved", "status"), [(True, PROMOTED), (False, REJECTED)])
def test_named_person_decides_on_a_run_that_waits(db_engine, is_approved, status):
    with transaction(db_engine) as session:
        run = bring_to(session, AWAITING)
        runs.decide_run(session, run.id, is_approved=is_approved, actor="ana", reason="looks right")
        row = audit.list_audit(session, subject_type="run", limit=1)[0]
    assert run.status is status
    assert (row.actor, row.action, row.detail["reason"]) == ("ana", f"run.{status.value}", "looks right")


def test_approval_of_a_run_that_does_not_wait_is_refused(db_engine):
    with transaction(db_engine) as session:
        run = bring_to(session, EVALUATING)
        with pytest.raises(TransitionError, match="does not wait for approval"):
            runs.decide_run(session, run.id, is_approved=True, actor="ana", reason="r")


def test_failure_keeps_its_reason_and_the_time(db_engine):
    with transaction(db_engine) as session:
        run = runs.fail_run(session, bring_to(session, TRAINING).id, error="out of memory: lower the batch size", **BY)
    assert (run.error, run.message, run.eta_s) == ("out of memory: lower the batch size", run.error, None)
    assert run.finished_at >= run.started_at


def test_finish_records_the_adapter(db_engine):
    with transaction(db_engine) as session:
        run = bring_to(session, EVALUATING)
        runs.finish_run(session, run.id, status=PROMOTED, adapter_digest="d" * 64, message="better by 4 points", **BY)
    assert (run.adapter_digest, run.message) == ("d" * 64, "better by 4 points")


def test_run_ends_only_through_the_functions_for_it(db_engine):
    with transaction(db_engine) as session:
        run = bring_to(session, EVALUATING)
        with pytest.raises(StateConflictError, match="finish_run or fail_run"):
            runs.advance_run(session, run.id, status=PROMOTED, **BY)
        with pytest.raises(StateConflictError, match="fail_run or cancel_run"):
            runs.finish_run(session, run.id, status=FAILED, **BY)


def test_every_transition_is_audited_once(db_engine):
    with transaction(db_engine) as session:
        bring_to(session, PROMOTED)
        actions = [row.action for row in audit.list_audit(session, subject_type="run")][::-1]
    assert actions == ["run.queued", "run.preparing", "run.training", "run.evaluating", "run.promoted"]


def test_unknown_run_raises(db_engine):
    with transaction(db_engine) as session, pytest.raises(RowNotFoundError, match="there is no training run 3"):
        runs.get_run(session, 3)


def test_lease_has_one_holder_until_it_expires(db_engine):
    with transaction(db_engine) as session:
        assert leases.acquire(session, "x", holder="a", ttl=TTL, at=AT)
        assert not leases.acquire(session, "x", holder="b", ttl=TTL, at=AT + TTL - timedelta(microseconds=1))
        assert leases.get_holder(session, "x", at=AT) == "a"
        assert leases.get_holder(session, "x", at=AT + TTL) is None
        assert leases.acquire(session, "x", holder="b", ttl=TTL, at=AT + TTL)
        assert leases.get_holder(session, "x", at=AT + TTL) == "b"


def test_holder_may_acquire_again_and_other_names_are_free(db_engine):
    with transaction(db_engine) as session:
        assert leases.acquire(session, "x", holder="a", ttl=TTL, at=AT)
        assert leases.acquire(session, "x", holder="a", ttl=TTL * 3, at=AT)
        assert leases.get_holder(session, "x", at=AT + TTL) == "a"
        assert leases.acquire(session, "y", holder="b", ttl=TTL, at=AT)


def test_renewing_prolongs_only_what_is_still_ours(db_engine):
    with transaction(db_engine) as session:
        leases.acquire(session, "x", holder="a", ttl=TTL, at=AT)
        assert not leases.renew(session, "x", holder="b", ttl=TTL, at=AT)
        assert leases.renew(session, "x", holder="a", ttl=TTL, at=AT + TTL / 2)
        assert leases.get_holder(session, "x", at=AT + TTL) == "a"
        assert not leases.renew(session, "x", holder="a", ttl=TTL, at=AT + TTL * 2)


def test_only_the_holder_releases(db_engine):
    with transaction(db_engine) as session:
        leases.acquire(session, "x", holder="a", ttl=TTL, at=AT)
        assert not leases.release(session, "x", holder="b")
        assert leases.release(session, "x", holder="a")
        assert leases.get_holder(session, "x", at=AT) is None
