"""The schedule: crontab lines in a time zone, quiet hours, triggers with a memory, and replicas that start one run between them."""

from datetime import UTC, datetime, timedelta

import pytest
from pydantic import ValidationError
from sqlmodel import col, select

from bot.training_settings import TrainingSettings
from db.queries import adapters, feedback, gate, inferences, leases, runs, tickets
from db.queries.audit import list_audit
from db.queries.decisions import DecisionCounts
from db.queries.state import get_state
from db.queries.wanted import list_wanted, want_run
from db.tables import Example
from db.types import FeedbackKind, ModelKind, RunStatus, RunTrigger, TaskKind
from training import daemon as daemon_module
from training import schedule as schedule_module
from training.clock import find_due, may_start, name_weekdays
from training.daemon import Daemon, run_daemon
from training.errors import TrainingError
from training.schedule import ASKED, Schedule
from training.triggers import Measured, find_degradation_reason, find_override_reason

TASK = TaskKind.CLASSIFICATION
START = datetime(2026, 11, 1, 1, 0, tzinfo=UTC)
LIVE = "a" * 64


class Clock:
    def __init__(self, at=START):
        self.at = at

    def __call__(self):
        return self.at

    def advance(self, **values):
        self.at += timedelta(**values)


@pytest.mark.parametrize(
    ("field", "names"),
    [
        ("0", "sun"),
        ("7", "sun"),
        ("1-5", "mon,tue,wed,thu,fri"),
        ("*/2", "sun,tue,thu,sat"),
        ("0,6", "sun,sat"),
        ("*", "*"),
        ("mon-fri", "mon-fri"),
    ],
)
def test_weekdays_of_a_crontab_begin_on_sunday(field, names):
    assert name_weekdays(field) == names


@pytest.mark.parametrize("field", ["8", "5-1", "1;2"])
def test_a_weekday_that_is_none_is_refused(field):
    with pytest.raises(ValueError, match="is no weekday of a crontab line"):
        name_weekdays(field)


def test_a_line_strikes_in_the_teams_time_zone():
    berlin = find_due("0 2 * * 0", "Europe/Berlin", after=START - timedelta(hours=2), until=START)
    assert berlin.astimezone(UTC) == START  # 2 o'clock there is 1 o'clock UTC, and that day is a Sunday
    assert find_due("0 2 * * 0", "UTC", after=START - timedelta(hours=2), until=START) is None


@pytest.mark.parametrize(
    ("hours", "rule", "hour", "may"),
    [
        ("", "no_runs", 3, True),
        ("08:00-18:00", "no_runs", 12, False),
        ("08:00-18:00", "no_runs", 18, True),
        ("22:00-06:00", "no_runs", 23, False),
        ("22:00-06:00", "no_runs", 3, False),
        ("22:00-06:00", "no_runs", 6, True),
        ("22:00-06:00", "runs_only", 3, True),
        ("22:00-06:00", "runs_only", 12, False),
    ],
)
def test_quiet_hours_hold_runs_back_or_are_the_only_ones(hours, rule, hour, may):
    settings = TrainingSettings(quiet_hours=hours, quiet_hours_rule=rule)
    assert may_start(settings, START.replace(hour=hour)) is may


@pytest.mark.parametrize(
    "values", [{"quiet_hours": "22-6"}, {"quiet_hours": "08:00"}, {"quiet_hours": "08:00-08:00"}, {"time_zone": "Moon/Sea"}]
)
def test_hours_and_zones_that_cannot_be_are_refused(values):
    with pytest.raises(ValidationError, match=r"quiet_hours needs a begin|there is no time zone"):
        TrainingSettings(**values)


def test_missed_times_are_caught_up_once_after_a_restart_and_a_first_start_catches_up_nothing(make_site):
    site = make_site(cron="0 2 * * *")
    site.add_tickets(60)
    clock = Clock()
    Schedule(site.db_engine, site.settings.training, clock=clock).look()
    assert not site.read(list_wanted)
    clock.advance(days=5)
    Schedule(site.db_engine, site.settings.training, clock=clock).look()
    assert [row.trigger for row in site.read(list_wanted)] == [RunTrigger.SCHEDULE]
    assert len(site.read(lambda session: list_audit(session, action="schedule.want"))) == 1
    asked = site.read(lambda session: get_state(session, ASKED))
    Schedule(site.db_engine, site.settings.training, clock=clock).look()
    assert site.read(lambda session: get_state(session, ASKED)) == asked


def test_a_time_is_answered_by_the_next_process_where_one_dies_over_the_answer(make_site, monkeypatch):
    site = make_site(cron="0 2 * * *")
    site.add_tickets(60)
    clock = Clock()
    Schedule(site.db_engine, site.settings.training, clock=clock).look()
    clock.advance(days=1)
    with monkeypatch.context() as patch:
        patch.setattr(schedule_module, "want_run", lambda *_, **__: (_ for _ in ()).throw(SystemExit))
        with pytest.raises(SystemExit):
            Schedule(site.db_engine, site.settings.training, clock=clock).look()
    Schedule(site.db_engine, site.settings.training, clock=clock).look()
    assert [row.trigger for row in site.read(list_wanted)] == [RunTrigger.SCHEDULE]


def test_examples_that_were_withdrawn_or_erased_since_the_last_verdict_hide_nothing_that_is_new(make_site):
    site = make_site(cron="", min_new_examples=20, min_examples=10)
    site.add_tickets(60)
    make_live(site, newest_id=60)

    def shrink(session):
        for example in session.exec(select(Example).where(col(Example.id) <= 30)):
            if example.id <= 15:
                session.delete(example)
            else:
                example.is_withdrawn = True

    site.write(shrink)
    site.add_tickets(20, start=60)
    Schedule(site.db_engine, site.settings.training, clock=Clock()).ask()
    assert [(row.task, row.reason) for row in site.read(list_wanted)] == [(TASK, "20 new examples of 50")]


def test_what_is_wanted_survives_a_restart_and_waits_for_the_hours(make_site):
    site = make_site(quiet_hours="08:00-18:00")
    site.write(lambda session: want_run(session, TASK, trigger=RunTrigger.ERASURE, reason="data went"))
    clock = Clock(START.replace(hour=9))
    assert Schedule(site.db_engine, site.settings.training, clock=clock).enqueue() is None
    clock.advance(hours=10)
    run = site.get_run(Schedule(site.db_engine, site.settings.training, clock=clock).enqueue())
    assert (run.trigger, run.message) == (RunTrigger.ERASURE, "waiting to start: data went")
    assert not site.read(list_wanted)


def test_two_daemons_that_look_and_poll_by_turns_queue_one_run(make_site, monkeypatch):
    site = make_site(cron="* * * * *")
    site.add_tickets(60)
    spawned = []
    monkeypatch.setattr(daemon_module, "HEARTBEAT_S", 0.0)
    holders = iter(["one:1", "two:2"])
    monkeypatch.setattr(daemon_module, "build_holder", lambda *_: next(holders))
    daemons = [Daemon(site.db_engine, site.settings) for _ in range(2)]
    clock = Clock()
    for daemon in daemons:
        monkeypatch.setattr(daemon, "_start_next", lambda: spawned.append(1))
        daemon._schedule = Schedule(site.db_engine, site.settings.training, clock=clock)
    for _ in range(3):
        for daemon in daemons:
            daemon.poll()
            daemon.look()
        clock.advance(minutes=1)
    assert len(site.read(runs.list_runs)) == 1
    assert site.read(lambda session: leases.get_holder(session, daemon_module.LEASE)) == "one:1"


def test_two_schedules_that_look_at_the_same_time_answer_a_stroke_once(make_site):
    site = make_site(cron="* * * * *")
    clock = Clock()
    both = [Schedule(site.db_engine, site.settings.training, clock=clock) for _ in range(2)]
    both[0].look()
    clock.advance(minutes=2)
    for schedule in both:
        schedule.look()
    told = site.read(lambda session: list_audit(session, action="schedule.nothing_to_train_on", subject_id=TASK.value))
    assert len(told) == 1


def test_a_crontab_line_that_cannot_be_read_is_named(make_site):
    site = make_site(cron="61 2 * * *")
    with pytest.raises(TrainingError, match=r"training\.cron '61 2 \* \* \*' cannot be read"):
        run_daemon(site.db_engine, site.settings, stop=site.stop)


def test_overrides_above_the_threshold_ask_for_a_run_only_over_a_full_window():
    many = DecisionCounts(n_shown=100, n_corrected=45, n_accepted=55)
    assert (
        find_override_reason(many, threshold=0.4, window=100)
        == "people changed 45 of the last 100 answers (45 %, more than 40 %)"
    )
    assert find_override_reason(many, threshold=0.45, window=100) is None
    assert find_override_reason(DecisionCounts(n_shown=99, n_corrected=99), threshold=0.4, window=100) is None


@pytest.mark.parametrize(
    ("counts", "is_worse"),
    [
        (DecisionCounts(n_blind=60, n_agreed=30), True),
        (DecisionCounts(n_blind=60, n_agreed=52), False),
        (DecisionCounts(n_blind=20, n_agreed=0), False),
        (DecisionCounts(n_shown=100, n_accepted=60), True),
        (DecisionCounts(n_shown=100, n_accepted=88), False),
    ],
)
def test_only_a_sure_fall_below_what_the_gate_measured_is_a_degradation(counts, is_worse):
    reason = find_degradation_reason(counts, Measured(accuracy=0.9, n=400))
    assert (reason is not None) is is_worse
    if is_worse:
        assert "the gate measured 90 % on 400 tickets" in reason


def test_a_measurement_on_few_tickets_is_not_taken_at_its_word():
    counts = DecisionCounts(n_shown=40, n_accepted=28)
    assert find_degradation_reason(counts, Measured(accuracy=0.9, n=20)) is None
    assert find_degradation_reason(counts, Measured(accuracy=0.9, n=4000)) is not None


def add_decisions(site, n, *, kind, digest=LIVE, start=0):
    def work(session):
        for number in range(start, start + n):
            ticket = tickets.upsert_ticket(session, plugin="p", external_id=f"T{number}", subject="", text=f"text {number}")
            row = inferences.record_inference(
                session,
                ticket_id=ticket.id,
                task=TASK,
                model_kind=ModelKind.ENCODER,
                base_digest="b" * 64,
                adapter_digest=digest,
                prompt_version="1",
                latency_ms=1.0,
                label="billing",
                confidence=0.9,
            )
            value = "refund" if kind is FeedbackKind.OVERRIDE else None
            feedback.record_feedback(
                session, inference_id=row.id, kind=kind, actor="ana", idempotency_key=f"k{number}", value=value
            )

    site.write(work)


def make_live(site, *, accuracy=0.9, n_test=400, newest_id=0):
    def work(session):
        run = runs.enqueue_run(session, task=TASK, trigger=RunTrigger.MANUAL, actor="ana")
        runs.start_run(session, run.id, actor="t")
        runs.update_progress(session, run.id, data_counts={"newest_id": newest_id})
        for status in (RunStatus.TRAINING, RunStatus.EVALUATING):
            runs.advance_run(session, run.id, status=status, actor="t")
        adapters.register_adapter(
            session,
            digest=LIVE,
            task=TASK,
            model_kind=ModelKind.ENCODER,
            base_digest="b" * 64,
            prompt_version="1",
            path="p",
            actor="t",
            run_id=run.id,
        )
        numbers = {"candidate_accuracy": accuracy, "n_test": n_test}
        gate.record_gate_report(
            session, run_id=run.id, adapter_digest=LIVE, is_passed=True, reasons=[], numbers=numbers, actor="t"
        )
        runs.finish_run(session, run.id, status=RunStatus.PROMOTED, actor="t", adapter_digest=LIVE)
        adapters.activate_adapter(session, LIVE, actor="t", reason="r")

    site.write(work)


def take_wanted(site, schedule):
    """Queue what is wanted and end it at once, so that the next one may come."""
    run_id = schedule.enqueue()
    if run_id is None:
        return None
    row = site.get_run(run_id)
    site.write(lambda session: runs.request_cancel(session, run_id, actor="t"))
    return row


def test_many_overrides_ask_for_one_run_and_again_only_after_the_cool_down_and_with_something_new(make_site):
    site = make_site(cron="", override_window=20, min_examples=10, trigger_cooldown_hours=24, min_new_examples=20)
    make_live(site)
    clock = Clock()
    schedule = Schedule(site.db_engine, site.settings.training, clock=clock)
    add_decisions(site, 19, kind=FeedbackKind.OVERRIDE)
    schedule.look()
    assert not site.read(list_wanted)
    add_decisions(site, 1, kind=FeedbackKind.OVERRIDE, start=19)
    schedule.look()
    row = take_wanted(site, schedule)
    assert row.trigger is RunTrigger.OVERRIDES
    assert "people changed 20 of the last 20 answers" in row.message
    clock.advance(hours=23)
    schedule.watch()
    assert take_wanted(site, schedule) is None
    clock.advance(hours=2)
    schedule.watch()
    assert site.read(list_wanted)


def test_a_trigger_that_fired_is_armed_again_by_a_calm_window_and_not_before(make_site):
    site = make_site(
        cron="",
        override_window=20,
        min_examples=10,
        trigger_cooldown_hours=0,
        min_new_examples=1000,
        has_degradation_trigger=False,
    )
    make_live(site)
    schedule = Schedule(site.db_engine, site.settings.training, clock=Clock())
    add_decisions(site, 20, kind=FeedbackKind.OVERRIDE)
    schedule.watch()
    assert take_wanted(site, schedule) is not None
    schedule.watch()
    assert take_wanted(site, schedule) is None  # the same rise, nothing new
    add_decisions(site, 20, kind=FeedbackKind.ACCEPT, start=100)
    schedule.watch()
    assert take_wanted(site, schedule) is None  # calm
    add_decisions(site, 20, kind=FeedbackKind.OVERRIDE, start=200)
    schedule.watch()
    assert take_wanted(site, schedule) is not None


def test_a_live_adapter_that_gets_surely_worse_asks_for_a_run(make_site):
    site = make_site(cron="", override_rate=None, min_examples=10)
    make_live(site)
    schedule = Schedule(site.db_engine, site.settings.training, clock=Clock())
    add_decisions(site, 40, kind=FeedbackKind.ACCEPT)
    schedule.watch()
    assert take_wanted(site, schedule) is None
    add_decisions(site, 40, kind=FeedbackKind.OVERRIDE, start=100)
    schedule.watch()
    row = take_wanted(site, schedule)
    assert row.trigger is RunTrigger.DEGRADATION
    assert "the gate measured 90 %" in row.message


def test_triggers_that_are_switched_off_ask_for_nothing(make_site):
    site = make_site(cron="", override_rate=None, has_degradation_trigger=False, min_examples=10)
    make_live(site)
    add_decisions(site, 100, kind=FeedbackKind.OVERRIDE)
    schedule = Schedule(site.db_engine, site.settings.training, clock=Clock())
    schedule.look()
    assert not site.read(list_wanted)
