"""The time line: what was live on a day, trained on what, passed by which verdict, approved by whom."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlmodel import select

from bot.approval import promote_adapter, reject_adapter
from db.errors import StateConflictError, TransitionError
from db.queries import adapters, gate, runs
from db.queries.approvals import list_approvers
from db.queries.timeline import build_timeline
from db.session import transaction
from db.tables import Activation
from db.types import AdapterStatus, RunStatus
from tests.support.db_rows import CLASSIFICATION, SUMMARY, add_adapter, add_run

DAY = datetime(2126, 11, 1, 12, tzinfo=UTC)
"""Later than the approvals, which carry the time of the test."""


def add_waiting(session, *, actor="ana"):
    """A candidate that has passed the gate and waits."""
    run = add_run(session, actor=actor)
    runs.start_run(session, run.id, actor="t")
    runs.update_progress(session, run.id, data_digest="d" * 64, data_counts={"n_train": 80, "n_test": 20, "settings": {}})
    for status in (RunStatus.TRAINING, RunStatus.EVALUATING):
        runs.advance_run(session, run.id, status=status, actor="t")
    adapter = add_adapter(session, run_id=run.id, label_set_version="v1", metrics={"candidate_accuracy": 0.9})
    gate.record_gate_report(
        session, run_id=run.id, adapter_digest=adapter.digest, is_passed=True, reasons=["better"], numbers={}, actor="t"
    )
    runs.finish_run(session, run.id, status=RunStatus.AWAITING_APPROVAL, actor="t", adapter_digest=adapter.digest)
    return adapter


def set_times(session):
    """Spread the activations over days, the first one on the day."""
    for place, row in enumerate(session.exec(select(Activation).order_by(Activation.id))):
        row.at = DAY + timedelta(days=place)
    session.flush()


def test_each_period_tells_what_was_live_what_it_learned_from_and_who_let_it(db_engine):
    with transaction(db_engine) as session:
        first, second = add_waiting(session), add_waiting(session)
        promote_adapter(session, first.digest, actor="bo", reason="looks fine")
        promote_adapter(session, second.digest, actor="cy", reason="better still")
        adapters.rollback(session, CLASSIFICATION, actor="bo", reason="worse on refunds")
        set_times(session)
        periods = build_timeline(session, task=CLASSIFICATION)
        assert [period.digest for period in periods] == [None, first.digest, second.digest, first.digest]
        assert [period.is_rollback for period in periods] == [False, False, False, True]
        assert [period.until for period in periods] == [DAY, DAY + timedelta(days=1), DAY + timedelta(days=2), None]
        (live,) = build_timeline(session, task=CLASSIFICATION, at=DAY + timedelta(days=1, hours=1))
        assert live.digest == second.digest
        assert (live.actor, live.approved_by, live.reason) == ("cy", ("cy",), "better still")
        assert (live.run_id, live.run_actor, live.data_digest) == (second.run_id, "ana", "d" * 64)
        assert live.data_counts == {"n_train": 80, "n_test": 20}
        assert (live.is_passed, live.verdict) == (True, ("better",))
        assert (live.base_digest, live.label_set_version) == ("b" * 64, "v1")
        assert live.metrics == {"candidate_accuracy": 0.9}


def test_a_moment_belongs_to_one_period_and_before_the_first_one_the_base_was_live(db_engine):
    with transaction(db_engine) as session:
        adapter = add_adapter(session)
        adapters.activate_adapter(session, adapter.digest, actor="training", reason="r")
        set_times(session)
        before, exactly = build_timeline(session, at=DAY - timedelta(seconds=1)), build_timeline(session, at=DAY)
        assert [(period.task, period.digest) for period in before] == [(CLASSIFICATION, None), (SUMMARY, None)]
        assert [period.digest for period in exactly] == [adapter.digest, None]
        assert exactly[0].approved_by == ()
        with pytest.raises(ValueError, match="with a zone"):
            build_timeline(session, at=DAY.replace(tzinfo=None))


def test_two_people_are_needed_and_the_same_one_counts_once(db_engine):
    with transaction(db_engine) as session:
        adapter = add_waiting(session, actor="ana")
        row = promote_adapter(session, adapter.digest, actor="ana", reason="mine", approvers_needed=2)
        assert row.status is AdapterStatus.CANDIDATE
        assert row.reason == "approved by ana: 1 of 2 approvals, 1 more from another person is needed"
        with pytest.raises(StateConflictError, match=r"Ana has approved adapter \w+ already"):
            promote_adapter(session, adapter.digest, actor="cli:Ana", reason="again", approvers_needed=2)
        assert adapters.get_active(session, CLASSIFICATION) is None
        row = promote_adapter(session, adapter.digest, actor="bo", reason="agreed", approvers_needed=2)
        assert row.status is AdapterStatus.ACTIVE
        assert runs.get_run(session, adapter.run_id).status is RunStatus.PROMOTED
        assert list(list_approvers(session, adapter.digest)) == ["ana", "bo"]
        assert build_timeline(session, task=CLASSIFICATION)[-1].approved_by == ("ana", "bo")


@pytest.mark.parametrize("actor", ["training", "schedule", "", "cli:"])
def test_a_machine_or_nobody_cannot_approve(db_engine, actor):
    with transaction(db_engine) as session:
        adapter = add_waiting(session)
        with pytest.raises(StateConflictError, match="needs the approval of a named person"):
            promote_adapter(session, adapter.digest, actor=actor, reason="r", approvers_needed=1)


def test_one_person_may_say_no_and_a_rejected_candidate_is_not_approved_any_more(db_engine):
    with transaction(db_engine) as session:
        adapter = add_waiting(session)
        reject_adapter(session, adapter.digest[:12], actor="bo", reason="not on refunds")
        assert adapter.status is AdapterStatus.REJECTED
        assert runs.get_run(session, adapter.run_id).status is RunStatus.REJECTED
        with pytest.raises(TransitionError, match="is rejected and cannot become active"):
            promote_adapter(session, adapter.digest, actor="cy", reason="r")
        assert list(list_approvers(session, adapter.digest)) == []


def test_what_was_live_before_is_promoted_by_one_person(db_engine):
    with transaction(db_engine) as session:
        adapter = add_waiting(session)
        for actor in ("bo", "cy"):
            promote_adapter(session, adapter.digest, actor=actor, reason="r", approvers_needed=2)
        adapters.rollback(session, CLASSIFICATION, actor="bo", reason="r")
        assert promote_adapter(session, adapter.digest, actor="bo", reason="r", approvers_needed=2).status is AdapterStatus.ACTIVE
