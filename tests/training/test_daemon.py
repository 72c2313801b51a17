"""The daemon: picks up what is queued, starts again what was killed, gives up in time, and keeps out of another daemon's way."""

import os
import signal
import subprocess
import sys
import time
from datetime import timedelta

import pytest

from db.queries import leases, runs
from db.queries.audit import list_audit
from db.queries.state import DAEMON, get_state
from db.types import RunStatus, RunTrigger, TaskKind
from training import daemon as daemon_module
from training.daemon import LEASE, Daemon
from training.lease import build_holder
from training.schedule import Schedule

DEADLINE_S = 60.0


def wait_for(condition):
    ends_at = time.monotonic() + DEADLINE_S
    while not condition():
        if time.monotonic() > ends_at:
            pytest.fail("what was waited for did not happen")
        time.sleep(0.05)


class Spawned:
    """Replaces the real child by a process that sleeps."""

    def __init__(self):
        self.children = []

    def __call__(self, run_id):
        self.children.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(120)"]))
        return self.children[-1]


@pytest.fixture
def spawned(monkeypatch):
    spawned = Spawned()
    monkeypatch.setattr(Daemon, "_spawn", lambda self, run_id: spawned(run_id))
    yield spawned
    for child in spawned.children:
        child.kill()
        child.wait()


def test_a_queued_run_is_started_once(make_site, spawned):
    site = make_site()
    daemon = Daemon(site.db_engine, site.settings)
    daemon.poll()
    assert not spawned.children
    run_id = site.enqueue()
    daemon.poll()
    daemon.poll()
    assert len(spawned.children) == 1
    assert site.read(lambda session: get_state(session, DAEMON))["holder"] == build_holder()
    assert site.get_run(run_id).status is RunStatus.QUEUED
    daemon.stop()
    assert spawned.children[0].returncode == -signal.SIGTERM
    daemon.poll()
    assert len(spawned.children) == 1


def test_a_killed_child_is_started_again_at_once_though_its_lease_has_not_run_out(make_site, spawned):
    site = make_site(lease_seconds=600.0)
    site.enqueue()
    daemon = Daemon(site.db_engine, site.settings)
    daemon.poll()
    child = spawned.children[0]
    holder = build_holder(child.pid)
    site.write(lambda session: leases.acquire(session, leases.TRAINING, holder=holder, ttl=timedelta(seconds=600)))
    child.kill()
    child.wait()
    daemon.poll()
    assert len(spawned.children) == 2
    daemon.stop()


def test_a_run_whose_process_dies_again_and_again_fails_with_a_sentence(make_site, spawned):
    site = make_site(max_attempts=3)
    run_id = site.enqueue()
    daemon = Daemon(site.db_engine, site.settings)
    for _ in range(3):
        daemon.poll()
        spawned.children[-1].kill()
        spawned.children[-1].wait()
    daemon.poll()
    assert len(spawned.children) == 3
    row = site.get_run(run_id)
    assert row.status is RunStatus.FAILED
    assert "ended 3 times before it was done" in row.error
    daemon.stop()


def test_a_daemon_stands_by_while_another_one_works_and_takes_over_after_it(make_site, spawned, monkeypatch):
    site = make_site()
    site.enqueue()
    site.write(lambda session: leases.acquire(session, LEASE, holder="elsewhere:1", ttl=timedelta(seconds=600)))
    monkeypatch.setattr(daemon_module, "HEARTBEAT_S", 0.0)
    daemon = Daemon(site.db_engine, site.settings)
    daemon.poll()
    assert not spawned.children
    site.write(lambda session: leases.release(session, LEASE, holder="elsewhere:1"))
    daemon.poll()
    assert len(spawned.children) == 1
    daemon.stop()


def test_a_run_that_another_process_works_on_is_left_to_it(make_site, spawned):
    site = make_site()
    site.enqueue()
    site.write(lambda session: leases.acquire(session, leases.TRAINING, holder="elsewhere:1", ttl=timedelta(seconds=600)))
    daemon = Daemon(site.db_engine, site.settings)
    daemon.poll()
    assert not spawned.children
    daemon.stop()


def test_the_schedule_queues_a_run_where_something_is_new_and_says_so_where_not(make_site):
    site = make_site()
    schedule = Schedule(site.db_engine, site.settings.training)
    schedule.ask()
    assert schedule.enqueue() is None
    told = site.read(lambda session: list_audit(session, action="schedule.nothing_to_train_on"))
    assert {row.subject_id for row in told} == {"classification", "summary"}
    assert "nothing to train on: 0 examples" in told[0].detail["reason"]
    site.add_tickets(60)
    schedule.ask()
    run_id = schedule.enqueue()
    row = site.get_run(run_id)
    assert (row.task, row.trigger, row.actor) == (TaskKind.CLASSIFICATION, RunTrigger.SCHEDULE, "schedule")
    assert schedule.enqueue() is None


def test_the_schedule_waits_while_a_run_is_going_and_counts_only_what_is_new_since_the_last_verdict(make_site):
    site = make_site()
    site.add_tickets(60)
    going = site.enqueue()
    schedule = Schedule(site.db_engine, site.settings.training)
    schedule.ask()
    assert schedule.enqueue() is None
    site.write(lambda session: runs.start_run(session, going, actor="t"))
    for status in (RunStatus.TRAINING, RunStatus.EVALUATING):
        site.write(lambda session, status=status: runs.advance_run(session, going, status=status, actor="t"))
    site.write(lambda session: runs.update_progress(session, going, data_counts={"newest_id": 60}))
    site.write(lambda session: runs.finish_run(session, going, status=RunStatus.REJECTED, actor="t"))
    assert schedule.enqueue() is not None
    fresh = Schedule(site.db_engine, site.settings.training)
    fresh.ask()
    assert fresh.enqueue() is None
    told = site.read(lambda session: list_audit(session, action="schedule.nothing_to_train_on", subject_id="classification"))
    assert "0 of them new; 20 more are needed" in told[0].detail["reason"]


def build_environment(site):
    return {**os.environ, "UNDERSTUDY_HOME": str(site.settings.home), "UNDERSTUDY_TRAINING_POLL_INTERVAL_S": "0.1"}


def start_daemon(site, *options):
    command = [sys.executable, "-m", "training", "daemon", *options]
    return subprocess.Popen(command, env=build_environment(site), stdin=subprocess.PIPE, stderr=subprocess.PIPE)


def test_the_real_daemon_works_off_a_queued_run_in_a_child_and_stops_on_sigterm(make_site):
    site = make_site()
    site.add_tickets(10)
    process = start_daemon(site, "--with-parent")
    try:
        run_id = site.enqueue()
        wait_for(lambda: site.get_run(run_id).status is RunStatus.CANCELLED)
        assert site.get_run(run_id).message.startswith("nothing to train on: needs")
        assert "attempt 1" in site.get_log(run_id)
    finally:
        process.terminate()
        _, errors = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0, errors
    assert site.read(lambda session: leases.get_holder(session, LEASE)) is None


KILLED_PARENT = """
import asyncio, os, signal
from bot.training_child import TrainingChild

async def main():
    child = TrainingChild(os.environ)
    await child.start()
    await asyncio.to_thread(input)
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


def test_the_daemon_ends_with_a_bot_that_is_killed_and_leaves_no_lease(make_site):
    site = make_site()
    bot = subprocess.Popen([sys.executable, "-c", KILLED_PARENT], env=build_environment(site), stdin=subprocess.PIPE)
    wait_for(lambda: site.read(lambda session: leases.get_holder(session, LEASE)) is not None)
    bot.communicate(b"now\n", timeout=DEADLINE_S)
    assert bot.returncode == -signal.SIGKILL
    wait_for(lambda: site.read(lambda session: leases.get_holder(session, LEASE)) is None)


def test_the_daemon_loads_neither_torch_nor_a_model():
    code = (
        "import sys, training.daemon, training.schedule, training.__main__, training.source\n"
        "assert not {'torch', 'transformers', 'sklearn', 'spacy', 'matplotlib', 'llama_cpp'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
