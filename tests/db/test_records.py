"""Label sets, licence notes, gate reports, the audit trail, shared state and the console's figures."""

from datetime import UTC, datetime, timedelta

import pytest

from db.errors import InvalidValueError, RowNotFoundError
from db.queries import adapters, audit, gate, labelsets, licences, overview, state, tickets
from db.session import transaction
from db.types import FeedbackKind, TicketStatus
from tests.support.db_rows import CLASSIFICATION, SUMMARY, add_adapter, add_feedback, add_inference, add_run, add_ticket

NOTE = {
    "base_digest": "b" * 64,
    "model_name": "m",
    "source": "s",
    "revision": "r",
    "licence": "Apache-2.0",
    "noted_on": "2024-05-01",
}
PIECE = timedelta(microseconds=1)


def test_label_set_version_is_stored_once_and_never_rewritten(db_engine):
    with transaction(db_engine) as session:
        first = labelsets.store_label_set(session, version="v1", name="it", content_yaml="a", actor="ana")
        again = labelsets.store_label_set(session, version="v1", name="other", content_yaml="b", actor="ana")
        second = labelsets.store_label_set(session, version="v2", name="it", content_yaml="c", actor="ana")
        assert again is first
        assert first.content_yaml == "a"
        assert labelsets.get_label_set(session, "v2") is second
        assert labelsets.get_label_set(session, "v3") is None
        assert labelsets.list_label_sets(session) == [second, first]
        assert len(audit.list_audit(session, subject_type="label_set")) == 2


def test_label_set_without_a_version_is_refused(db_engine):
    with transaction(db_engine) as session, pytest.raises(InvalidValueError):
        labelsets.store_label_set(session, version="", name="n", content_yaml="", actor="a")


def test_approval_of_a_licence_names_who_and_when(db_engine):
    with transaction(db_engine) as session:
        assert licences.upsert_licence(session, actor="ana", **NOTE).approved_by is None
        row = licences.approve_licence(session, NOTE["base_digest"], actor="bo")
        assert licences.list_licences(session) == [row]
        assert [entry.action for entry in audit.list_audit(session, subject_type="model")] == ["licence.approve", "licence.note"]
    assert (row.approved_by, row.approved_at.tzinfo) == ("bo", UTC)


def test_unchanged_licence_note_keeps_its_approval_and_a_changed_one_loses_it(db_engine):
    with transaction(db_engine) as session:
        licences.upsert_licence(session, actor="ana", **NOTE)
        licences.approve_licence(session, NOTE["base_digest"], actor="bo")
        assert licences.upsert_licence(session, actor="ana", **NOTE).approved_by == "bo"
        changed = licences.upsert_licence(session, actor="ana", **(NOTE | {"licence": "MIT"}))
        assert (changed.licence, changed.approved_by, changed.approved_at) == ("MIT", None, None)


def test_approval_without_a_note_raises(db_engine):
    with transaction(db_engine) as session, pytest.raises(RowNotFoundError, match="add one first"):
        licences.approve_licence(session, "c" * 64, actor="bo")


def test_newest_gate_report_is_found_by_run_and_by_adapter(db_engine):
    with transaction(db_engine) as session:
        run = add_run(session)
        for is_passed in (False, True):
            gate.record_gate_report(
                session,
                run_id=run.id,
                adapter_digest="d",
                is_passed=is_passed,
                reasons=["r"],
                numbers={"ece": 0.03},
                actor="gate",
            )
        report = gate.get_gate_report(session, run_id=run.id)
        assert gate.get_gate_report(session, adapter_digest="d") is report
        assert gate.get_gate_report(session, run_id=run.id + 1) is None
    assert (report.is_passed, report.reasons, report.numbers) == (True, ["r"], {"ece": 0.03})


def test_audit_is_listed_newest_first_and_by_each_filter(db_engine):
    with transaction(db_engine) as session:
        a = audit.record_audit(session, actor="ana", action="x.do", subject_type="ticket", subject_id=1, detail={"n": 1})
        b = audit.record_audit(session, actor="bo", action="x.undo", subject_type="ticket", subject_id=2)
        c = audit.record_audit(session, actor="bo", action="x.do", subject_type="run", subject_id=1)
        assert audit.list_audit(session) == [c, b, a]
        assert audit.list_audit(session, action="x.do") == [c, a]
        assert audit.list_audit(session, subject_type="ticket", subject_id=1) == [a]
        assert audit.list_audit(session, limit=1) == [c]
        assert audit.list_audit(session, since=b.at, until=b.at + PIECE) == [b]
        assert a.detail == {"n": 1}


def test_state_keeps_the_last_value_per_key(db_engine):
    with transaction(db_engine) as session:
        assert state.get_state(session, "k") is None
        state.set_state(session, "k", value={"a": 1})
        state.set_state(session, "k", value={"b": [1, None]})
        state.set_state(session, "other", value={})
        assert state.get_state(session, "k") == {"b": [1, None]}


def test_pause_and_resume_are_remembered_and_audited(db_engine):
    with transaction(db_engine) as session:
        assert not state.is_paused(session)
        state.set_paused(session, is_paused=True, actor="ana")
        assert state.is_paused(session)
        state.set_paused(session, is_paused=False, actor="bo")
        assert not state.is_paused(session)
        rows = audit.list_audit(session, subject_type="state")
    assert [(row.action, row.actor) for row in rows] == [("suggestions.resume", "bo"), ("suggestions.pause", "ana")]


def test_daemon_heartbeat_is_the_last_time_it_was_recorded(db_engine):
    with transaction(db_engine) as session:
        assert state.get_daemon_heartbeat(session) is None
        before = datetime.now(UTC)
        state.record_daemon_heartbeat(session, holder="a", run_id=None)
        state.record_daemon_heartbeat(session, holder="a", run_id=None)
        assert before <= state.get_daemon_heartbeat(session) <= datetime.now(UTC)


def test_overview_of_an_empty_database_is_all_zero(db_engine):
    with transaction(db_engine, is_read_only=True) as session:
        counts = overview.get_overview(session)
    assert (counts.n_open, counts.n_decided, counts.n_accepted, counts.n_examples) == (0, 0, 0, 0)
    assert (counts.override_rate, counts.is_paused, counts.timeline) == (None, False, ())
    assert counts.live == {CLASSIFICATION: "base", SUMMARY: "base"}


def test_overview_counts_what_counts(db_engine):
    with transaction(db_engine) as session:
        inference = add_inference(session)
        add_feedback(session, inference)
        add_feedback(session, inference, kind=FeedbackKind.OVERRIDE, value="x")  # replaces the accept
        add_feedback(session)
        add_feedback(session)
        add_feedback(session, kind=FeedbackKind.HANDOFF)
        add_feedback(session, add_inference(session, task=SUMMARY), kind=FeedbackKind.EDIT, value="better")
        decided = add_ticket(session)
        tickets.set_ticket_status(session, decided.id, status=TicketStatus.DECIDED)
        adapter = add_adapter(session)
        adapters.activate_adapter(session, adapter.digest, actor="ana", reason="r")
        state.set_paused(session, is_paused=True, actor="ana")
        counts = overview.get_overview(session)
        later = overview.get_overview(session, at=datetime.now(UTC) + timedelta(days=31))
        rate = overview.get_override_rate(session)
    assert (counts.n_accepted, counts.n_overridden, counts.n_handed_off, counts.n_edited) == (2, 1, 1, 1)
    assert (counts.n_open, counts.n_decided, counts.n_examples, counts.is_paused) == (5, 4, 5, True)
    assert counts.override_rate == rate == 0.25
    assert counts.live == {CLASSIFICATION: adapter.digest, SUMMARY: "base"}
    assert (later.n_accepted, later.n_decided, later.override_rate, later.n_examples) == (0, 0, None, 5)


def test_timeline_has_full_points_oldest_first_and_keeps_the_newest(db_engine):
    with transaction(db_engine) as session:
        made = []
        for number in range(11):
            kind = FeedbackKind.ACCEPT if number in (0, 3, 4, 6, 7, 8) else FeedbackKind.OVERRIDE
            inference = add_inference(session, adapter_digest=f"adapter {number}")
            made.append(
                add_feedback(session, inference, kind=kind, value="x" if kind is FeedbackKind.OVERRIDE else None).feedback
            )
        points = overview.get_timeline(session, per=3)
        newest = overview.get_timeline(session, per=3, max_points=2)
    assert [(share, digest) for _, share, digest in points] == [
        (pytest.approx(1 / 3), "adapter 2"),
        (pytest.approx(2 / 3), "adapter 5"),
        (1.0, "adapter 8"),
    ]
    assert [at for at, _, _ in points] == [made[2].created_at, made[5].created_at, made[8].created_at]
    assert newest == points[1:]
