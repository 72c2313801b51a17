"""Adapters: allowed transitions, what is live, roll-back and history."""

import itertools
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy.exc import IntegrityError

from db.errors import InvalidValueError, NothingToRollBackError, RowNotFoundError, TransitionError
from db.queries import adapters, audit
from db.session import transaction
from db.types import AdapterStatus
from tests.support.db_rows import CLASSIFICATION, SUMMARY, add_adapter

CANDIDATE, SHADOW, ACTIVE = AdapterStatus.CANDIDATE, AdapterStatus.SHADOW, AdapterStatus.ACTIVE
RETIRED, REJECTED = AdapterStatus.RETIRED, AdapterStatus.REJECTED
BY = {"actor": "ana", "reason": "because"}
ALLOWED = {
    (CANDIDATE, SHADOW),
    (CANDIDATE, ACTIVE),
    (CANDIDATE, REJECTED),
    (SHADOW, ACTIVE),
    (SHADOW, REJECTED),
    (ACTIVE, RETIRED),
    (RETIRED, ACTIVE),
}
TO = {SHADOW: adapters.shadow_adapter, ACTIVE: adapters.activate_adapter, REJECTED: adapters.reject_adapter}


def bring_to(session, adapter, status):
    if status in (ACTIVE, RETIRED):
        adapters.activate_adapter(session, adapter.digest, **BY)
    if status is RETIRED:
        adapters.deactivate_to_base(session, adapter.task, **BY)
    if status in (SHADOW, REJECTED):
        TO[status](session, adapter.digest, **BY)
    assert adapter.status is status


def test_table_of_transitions_is_the_documented_one():
    assert {(before, after) for before, following in adapters.TRANSITIONS.items() for after in following} == ALLOWED
    assert set(adapters.TRANSITIONS) == set(AdapterStatus)


@pytest.mark.parametrize(("before", "after"), [pair for pair in itertools.product(AdapterStatus, TO) if pair != (ACTIVE, ACTIVE)])
def test_each_transition_is_done_or_refused_as_the_table_says(db_engine, before, after):
    with transaction(db_engine) as session:
        adapter = add_adapter(session)
        bring_to(session, adapter, before)
        if (before, after) in ALLOWED:
            TO[after](session, adapter.digest, **BY)
            assert adapter.status is after
        else:
            with pytest.raises(TransitionError, match=f"is {before.value} and cannot become {after.value}"):
                TO[after](session, adapter.digest, **BY)
            assert adapter.status is before


def test_registering_the_same_digest_again_changes_nothing(db_engine):
    with transaction(db_engine) as session:
        adapter = add_adapter(session, metrics={"accuracy": 0.7})
        adapters.reject_adapter(session, adapter.digest, **BY)
        assert add_adapter(session, adapter.digest) is adapter
        assert (adapter.status, adapter.metrics) == (REJECTED, {"accuracy": 0.7})


def test_activation_retires_the_one_before_in_the_same_task_only(db_engine):
    with transaction(db_engine) as session:
        first, second, other = add_adapter(session), add_adapter(session), add_adapter(session, task=SUMMARY)
        for adapter in (first, other, second):
            adapters.activate_adapter(session, adapter.digest, **BY)
    with transaction(db_engine) as session:
        assert adapters.get_active(session, CLASSIFICATION).digest == second.digest
        assert adapters.get_active(session, SUMMARY).digest == other.digest
        assert adapters.get_adapter(session, first.digest).status is RETIRED
    assert first.retired_at >= first.activated_at
    assert (second.reason, second.retired_at) == ("because", None)


def test_activating_what_is_live_changes_nothing(db_engine):
    with transaction(db_engine) as session:
        adapter = add_adapter(session)
        for _ in range(2):
            adapters.activate_adapter(session, adapter.digest, **BY)
        assert len(adapters.list_activations(session, CLASSIFICATION)) == 1


def test_database_refuses_a_second_active_adapter(db_engine):
    with transaction(db_engine) as session:
        first, second = add_adapter(session), add_adapter(session)
        adapters.activate_adapter(session, first.digest, **BY)
    with pytest.raises(IntegrityError), transaction(db_engine) as session:
        adapters.get_adapter(session, second.digest).status = ACTIVE


def test_rollback_walks_back_to_the_base_and_then_says_so(db_engine):
    with transaction(db_engine) as session:
        digests = [add_adapter(session).digest for _ in range(3)]
        for digest in digests:
            adapters.activate_adapter(session, digest, **BY)
        assert adapters.rollback(session, CLASSIFICATION, **BY).digest == digests[1]
        assert adapters.rollback(session, CLASSIFICATION, **BY).digest == digests[0]
        assert adapters.rollback(session, CLASSIFICATION, **BY) is None
        assert adapters.get_active(session, CLASSIFICATION) is None
        with pytest.raises(NothingToRollBackError):
            adapters.rollback(session, CLASSIFICATION, **BY)
        assert {row.status for row in adapters.list_adapters(session)} == {RETIRED}


def test_rollback_after_a_new_activation_returns_to_what_was_live_then(db_engine):
    with transaction(db_engine) as session:
        a, b, c = (add_adapter(session).digest for _ in range(3))
        adapters.activate_adapter(session, a, **BY)
        adapters.activate_adapter(session, b, **BY)
        adapters.rollback(session, CLASSIFICATION, **BY)
        adapters.activate_adapter(session, c, **BY)
        assert adapters.rollback(session, CLASSIFICATION, **BY).digest == a


def test_rollback_of_a_switch_to_base_brings_the_adapter_back(db_engine):
    with transaction(db_engine) as session:
        adapter = add_adapter(session)
        adapters.activate_adapter(session, adapter.digest, **BY)
        assert adapters.deactivate_to_base(session, CLASSIFICATION, **BY) is adapter
        assert adapters.deactivate_to_base(session, CLASSIFICATION, **BY) is None
        assert adapters.rollback(session, CLASSIFICATION, **BY) is adapter
        assert adapter.status is ACTIVE


def test_rollback_where_nothing_was_ever_live_raises(db_engine):
    with transaction(db_engine) as session:
        add_adapter(session)
        with pytest.raises(NothingToRollBackError, match="nothing to roll back to"):
            adapters.rollback(session, CLASSIFICATION, **BY)


def test_what_was_live_at_each_moment_is_told_by_the_history(db_engine):
    start = datetime.now(UTC) - timedelta(seconds=1)
    with transaction(db_engine) as session:
        a, b = add_adapter(session).digest, add_adapter(session).digest
        adapters.activate_adapter(session, a, **BY)
        adapters.activate_adapter(session, b, **BY)
        adapters.rollback(session, CLASSIFICATION, **BY)
        adapters.deactivate_to_base(session, CLASSIFICATION, **BY)
        history = adapters.list_activations(session, CLASSIFICATION)[::-1]
        live = [adapters.what_was_live(session, row.at, task=CLASSIFICATION) for row in history]
        assert adapters.what_was_live(session, start, task=CLASSIFICATION) is None
        assert adapters.what_was_live(session, history[1].at, task=SUMMARY) is None
    assert live == [a, b, a, None]
    assert [row.previous_digest for row in history] == [None, a, b, a]


def test_every_change_of_what_is_live_is_audited_with_actor_and_reason(db_engine):
    with transaction(db_engine) as session:
        adapter = add_adapter(session)
        adapters.activate_adapter(session, adapter.digest, **BY)
        adapters.rollback(session, CLASSIFICATION, actor="bo", reason="worse")
        rows = audit.list_audit(session, subject_type="adapter")[::-1]
    assert [(row.action, row.actor, row.subject_id, row.detail["reason"]) for row in rows] == [
        ("adapter.register", "trainer", adapter.digest, ""),
        ("adapter.activate", "ana", adapter.digest, "because"),
        ("adapter.rollback", "bo", "base", "worse"),
    ]


def test_digest_is_found_by_eight_or_more_characters_in_any_case(db_engine):
    digest = "abcdef0123456789" * 4
    with transaction(db_engine) as session:
        adapter = add_adapter(session, digest)
        for prefix in ("abcdef01", " ABCDEF0123 ", digest):
            assert adapters.resolve_digest(session, prefix) is adapter


@pytest.mark.parametrize(
    ("prefix", "error", "reason"),
    [
        ("abcdef0", InvalidValueError, "at least 8 characters"),
        ("abcdef00", RowNotFoundError, "no adapter whose digest begins with abcdef00"),
        ("abcdef01", InvalidValueError, "several adapters begin with abcdef01"),
        ("abcdef%%", RowNotFoundError, "no adapter"),
        ("________", RowNotFoundError, "no adapter"),
    ],
)
def test_unclear_digest_is_refused_with_what_to_do(db_engine, prefix, error, reason):
    with transaction(db_engine) as session:
        add_adapter(session, "abcdef01" * 8)
        add_adapter(session, "abcdef01" + "0" * 56)
        with pytest.raises(error, match=reason):
            adapters.resolve_digest(session, prefix)


def test_list_filters_by_task_and_status_newest_first(db_engine):
    with transaction(db_engine) as session:
        first, second, third = add_adapter(session), add_adapter(session, task=SUMMARY), add_adapter(session)
        adapters.reject_adapter(session, third.digest, **BY)
        assert adapters.list_adapters(session) == [third, second, first]
        assert adapters.list_adapters(session, task=CLASSIFICATION) == [third, first]
        assert adapters.list_adapters(session, status=CANDIDATE, limit=1) == [second]


def test_unknown_digest_raises(db_engine):
    with transaction(db_engine) as session, pytest.raises(RowNotFoundError):
        adapters.activate_adapter(session, "f" * 64, **BY)
