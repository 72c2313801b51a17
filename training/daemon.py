"""The training daemon: sees queued and orphaned runs, and works each off in a child process of low priority.

Loads no torch and no model. Of several daemons on one database one works and the others stand by.
"""

import logging
import os
import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from typing import IO

from sqlalchemy import Engine as DbEngine
from sqlmodel import Session

from bot.settings import Settings
from db.errors import DatabaseError, StateConflictError
from db.queries import leases, runs
from db.queries.common import row_id
from db.queries.state import record_daemon_heartbeat
from db.session import retry_transaction, transaction
from db.tables import TrainingRun
from db.types import RUNNING
from training.clock import build_cron
from training.errors import TrainingError
from training.lease import build_holder
from training.priority import step_back
from training.schedule import Schedule

logger = logging.getLogger(__name__)
LEASE = "training-daemon"
"""State row: {"holder", "at", "run_id"}; `at` (ISO, UTC) is renewed every few seconds while a daemon works."""
HEARTBEAT_S = 3.0
LOOK_S = 15.0
"""Between looks at the schedule: a crontab line's finest step is a minute."""
_LEASE_S = 4 * HEARTBEAT_S
_STOP_S = 8.0
ACTOR = "training"


class Daemon:
    """Polls the database and keeps at most one child. `poll` and `stop` are called by one thread at a time."""

    def __init__(self, db_engine: DbEngine, settings: Settings) -> None:
        self._db_engine = db_engine
        self._settings = settings
        self._holder = build_holder()
        self._schedule = Schedule(db_engine, settings.training)
        self._child: subprocess.Popen[bytes] | None = None
        self._child_run_id = 0
        self._starts: dict[int, int] = {}
        self._is_working = False
        self._beat_at = datetime.min.replace(tzinfo=UTC)
        self._lock = threading.Lock()
        self._is_stopping = False

    def look(self) -> None:
        """See whether the schedule or a trigger wants a run; a daemon that stands by leaves it to the one that works."""
        if not self._is_working:
            return
        try:
            self._schedule.look()
        except DatabaseError as error:
            logger.warning("cannot look at the schedule: %s", error)

    def poll(self) -> None:
        """Do what is due. Database trouble is logged and tried again at the next poll."""
        with self._lock:
            if self._is_stopping:
                return
            try:
                if not self._beat():
                    return
                self._reap()
                if self._child is None:
                    self._schedule.enqueue()
                    self._start_next()
            except DatabaseError as error:
                logger.warning("cannot look for training runs: %s", error)

    def stop(self) -> None:
        """End the child politely, then by force, and give the lease back. The run is taken up again by the next daemon."""
        with self._lock:
            self._is_stopping = True
            child = self._child
            if child is not None and child.poll() is None:
                child.terminate()
                try:
                    child.wait(timeout=_STOP_S)
                except subprocess.TimeoutExpired:
                    child.kill()
                    child.wait()
            try:
                if child is not None:
                    self._free_lease(child.pid)
                if self._is_working:
                    retry_transaction(self._db_engine, lambda s: leases.release(s, LEASE, holder=self._holder))
            except DatabaseError as error:
                logger.warning("the training daemon could not give its lease back, it runs out by itself: %s", error)

    def _beat(self) -> bool:
        """Renew the daemon's lease and heartbeat every few seconds; say whether this daemon is the one that works."""
        now = datetime.now(UTC)
        if (now - self._beat_at).total_seconds() < HEARTBEAT_S:
            return self._is_working
        self._beat_at = now

        def beat(session: Session) -> bool:
            if not leases.acquire(session, LEASE, holder=self._holder, ttl=timedelta(seconds=_LEASE_S)):
                return False
            run_id = self._child_run_id if self._child is not None else None
            record_daemon_heartbeat(session, holder=self._holder, run_id=run_id)
            return True

        is_working = retry_transaction(self._db_engine, beat)
        if is_working is not self._is_working:
            logger.info("the training daemon %s", "works" if is_working else "stands by: another one works")
        self._is_working = is_working
        return is_working

    def _reap(self) -> None:
        child = self._child
        if child is None or child.poll() is None:
            return
        logger.info("run %d: its process ended with status %d", self._child_run_id, child.returncode)
        self._child = None
        self._free_lease(child.pid)  # a killed child could not; waiting for it to run out would only cost time

    def _free_lease(self, pid: int) -> None:
        holder = build_holder(pid)
        retry_transaction(self._db_engine, lambda session: leases.release(session, leases.TRAINING, holder=holder))

    def _start_next(self) -> None:
        with transaction(self._db_engine, is_read_only=True) as session:
            run = runs.get_running(session)
            is_held = run is not None and leases.get_holder(session, leases.TRAINING) is not None
        if run is None or is_held:
            return
        run_id = row_id(run)
        if self._starts.get(run_id, 0) >= self._settings.training.max_attempts:
            self._give_up(run)
            return
        self._starts[run_id] = self._starts.get(run_id, 0) + 1
        self._child = self._spawn(run_id)
        self._child_run_id = run_id
        logger.info("run %d (%s): started as process %d", run_id, run.task, self._child.pid)

    def _give_up(self, run: TrainingRun) -> None:
        run_id = row_id(run)
        error = f"the training process ended {self._starts[run_id]} times before it was done; see {self._log_path(run_id)}"

        def fail(session: Session) -> None:
            if runs.get_run(session, run_id).status in RUNNING:
                runs.fail_run(session, run_id, error=error, actor=ACTOR)

        try:
            retry_transaction(self._db_engine, fail)
        except StateConflictError as conflict:
            logger.warning("run %d: %s", run_id, conflict)

    def _log_path(self, run_id: int) -> str:
        return str(self._settings.runs_dir / str(run_id) / "log.txt")

    def _spawn(self, run_id: int) -> subprocess.Popen[bytes]:
        directory = self._settings.runs_dir / str(run_id)
        directory.mkdir(parents=True, exist_ok=True)
        log: IO[bytes]
        with (directory / "log.txt").open("ab") as log:
            child = subprocess.Popen(  # noqa: S603  our own interpreter and module
                [sys.executable, "-m", "training", "run", str(run_id)], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        step_back([child.pid], self._settings.training.nice)  # at once: what it imports takes seconds of processor time
        return child


def run_daemon(db_engine: DbEngine, settings: Settings, *, stop: threading.Event) -> None:
    """Work until `stop` is set: polls for runs and looks at the schedule, each on an interval.

    Raises TrainingError for a crontab line that cannot be read.
    """
    from apscheduler.schedulers.background import BackgroundScheduler
    from apscheduler.triggers.interval import IntervalTrigger

    _check_cron(settings)

    daemon = Daemon(db_engine, settings)
    scheduler = BackgroundScheduler(timezone=UTC, job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None})
    logging.getLogger("apscheduler").setLevel(logging.ERROR)
    scheduler.add_job(daemon.poll, IntervalTrigger(seconds=settings.training.poll_interval_s), next_run_time=datetime.now(UTC))
    first_look = datetime.now(UTC) + timedelta(seconds=LOOK_S / 5)
    scheduler.add_job(daemon.look, IntervalTrigger(seconds=LOOK_S), next_run_time=first_look)
    scheduler.start()
    logger.info("the training daemon is up; schedule: %s", settings.training.cron or "none")
    stop.wait()
    scheduler.shutdown(wait=True)
    daemon.stop()
    logger.info("the training daemon has stopped")


def _check_cron(settings: Settings) -> None:
    if not settings.training.cron:
        return
    try:
        build_cron(settings.training.cron, settings.training.time_zone)
    except ValueError as error:
        message = f"training.cron '{settings.training.cron}' cannot be read: {error}"
        raise TrainingError(message) from None


def catch_signals() -> threading.Event:
    """Return an event that SIGTERM and SIGINT set."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop


def stop_at_end_of(pipe: IO[bytes], stop: threading.Event) -> None:
    """Set `stop` when the pipe ends: a parent that was killed has no other way to say so, and a daemon left behind would keep the lease."""

    def wait() -> None:
        while os.read(
            pipe.fileno(), 1024
        ):  # not through the buffer, whose lock would outlive this thread at the interpreter's end
            pass
        stop.set()

    threading.Thread(target=wait, name="parent-watch", daemon=True).start()
