"""Engines and transactions: commit and rollback, locks, time zones, and errors that say what to do."""

import socket
import sqlite3
from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import DBAPIError, IntegrityError, StatementError
from sqlmodel import Session, select

import db.session
from db.errors import (
    DatabaseBusyError,
    DatabaseDownError,
    DatabaseError,
    DatabaseFileError,
    DatabaseRefusedError,
    DatabaseUrlError,
    InvalidValueError,
)
from db.queries import audit, inferences, state
from db.session import build_db_engine, is_postgres, retry_transaction, transaction
from db.tables import Audit, Inference, Lease
from db.types import ModelKind, TaskKind


def test_transaction_commits_at_the_end(db_engine):
    with transaction(db_engine) as session:
        state.set_state(session, "k", value={"n": 1})
    with transaction(db_engine) as session:
        assert state.get_state(session, "k") == {"n": 1}


def test_transaction_rolls_back_everything_when_the_body_raises(db_engine):
    def fail():
        with transaction(db_engine) as session:
            state.set_paused(session, is_paused=True, actor="a")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with transaction(db_engine) as session:
        assert not state.is_paused(session)
        assert audit.list_audit(session) == []


def test_rows_stay_readable_after_the_transaction(db_engine):
    with transaction(db_engine) as session:
        row = audit.record_audit(session, actor="a", action="x.y", subject_type="s", subject_id=1)
    assert (row.actor, row.subject_id) == ("a", "1")


def test_read_only_transaction_refuses_writes_and_the_next_one_writes(db_engine):
    with pytest.raises(DBAPIError), transaction(db_engine, is_read_only=True) as session:
        state.set_state(session, "k", value={})
    with transaction(db_engine) as session:
        state.set_state(session, "k", value={})


def test_read_only_transaction_reads_while_another_writes(db_engine):
    with transaction(db_engine) as writer:
        state.set_state(writer, "k", value={})
        with transaction(db_engine, is_read_only=True) as reader:
            assert state.get_state(reader, "k") is None


def test_foreign_keys_are_enforced(db_engine):
    orphan = Inference(
        ticket_id=77,
        task=TaskKind.SUMMARY,
        model_kind=ModelKind.ENCODER,
        base_digest="b",
        adapter_digest="",
        prompt_version="1",
        latency_ms=1,
    )
    with pytest.raises(IntegrityError), transaction(db_engine) as session:
        session.add(orphan)


def test_nan_in_json_is_refused_on_both_databases(db_engine):
    with pytest.raises(InvalidValueError, match="leave the value out"), transaction(db_engine) as session:
        state.set_state(session, "k", value={"loss": float("nan")})


@pytest.mark.parametrize("zone", [UTC, timezone(timedelta(hours=5, minutes=30)), timezone(timedelta(hours=-9))])
def test_times_come_back_as_the_same_instant_in_utc(db_engine, zone):
    at = datetime(2024, 3, 31, 2, 30, 15, 123456, tzinfo=zone)
    with transaction(db_engine) as session:
        session.add(Lease(name="n", holder="h", expires_at=at))
    with transaction(db_engine) as session:
        stored = session.exec(select(Lease)).one().expires_at
    assert stored == at
    assert stored.utcoffset() == timedelta(0)


def test_times_come_back_as_utc_where_the_server_session_has_another_zone(db_engine):
    at = datetime(2024, 1, 1, tzinfo=UTC)
    with transaction(db_engine) as session:
        if is_postgres(db_engine):
            session.connection().execute(text("SET LOCAL TIME ZONE 'Asia/Tokyo'"))
        session.add(Lease(name="n", holder="h", expires_at=at))
        session.flush()
        session.expire_all()
        stored = session.exec(select(Lease)).one().expires_at
    assert (stored, stored.utcoffset()) == (at, timedelta(0))


def test_naive_time_is_refused(db_engine):
    with pytest.raises(StatementError, match="without a time zone"), transaction(db_engine) as session:
        session.add(Lease(name="n", holder="h", expires_at=datetime(2024, 1, 1)))  # noqa: DTZ001


def test_locked_sqlite_file_raises_busy_with_advice(sqlite_engine, monkeypatch):
    monkeypatch.setattr(db.session, "BUSY_TIMEOUT_MS", 50)
    impatient = build_db_engine(str(sqlite_engine.url))
    with transaction(sqlite_engine), pytest.raises(DatabaseBusyError, match="another process writes"), transaction(impatient):
        pass
    impatient.dispose()


def test_retry_transaction_runs_the_work_again_after_busy(db_engine):
    tries = []

    def work(session):
        state.set_state(session, "k", value={"try": len(tries)})
        tries.append(1)
        if len(tries) < 3:
            raise DatabaseBusyError
        return "done"

    assert retry_transaction(db_engine, work, pause_s=0) == "done"
    with transaction(db_engine) as session:
        assert state.get_state(session, "k") == {"try": 2}


def test_retry_transaction_gives_up_after_the_last_attempt(db_engine):
    tries = []

    def work(session):
        tries.append(session)
        raise DatabaseBusyError

    with pytest.raises(DatabaseBusyError):
        retry_transaction(db_engine, work, attempts=3, pause_s=0)
    assert len(tries) == 3


def test_retry_transaction_does_not_repeat_other_errors(db_engine):
    tries = []

    def work(session):
        tries.append(session)
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011
        retry_transaction(db_engine, work, pause_s=0)
    assert len(tries) == 1


@pytest.mark.postgres
def test_postgres_deadlock_raises_busy(postgres_server):
    engine = build_db_engine(postgres_server.get_url())
    provoke = "DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '40P01'; END $$"
    with pytest.raises(DatabaseBusyError, match="busy"), transaction(engine) as session:
        session.connection().execute(text(provoke))
    engine.dispose()


def test_connections_use_wal_and_a_busy_timeout(sqlite_engine):
    with transaction(sqlite_engine) as session:
        values = [
            session.connection().exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "busy_timeout", "foreign_keys")
        ]
    assert values == ["wal", 10_000, 1]


def test_ddl_is_rolled_back_with_the_transaction(db_engine):
    def fail():
        with transaction(db_engine) as session:
            session.connection().execute(text("CREATE TABLE scratch (n INTEGER)"))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with pytest.raises(DBAPIError), transaction(db_engine) as session:
        session.connection().execute(text("SELECT n FROM scratch"))


def test_plain_session_also_takes_the_write_lock_at_once(sqlite_engine):
    with Session(sqlite_engine) as session:
        session.exec(select(Audit)).all()
        other = sqlite3.connect(sqlite_engine.url.database, timeout=0, isolation_level=None)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("BEGIN IMMEDIATE")
        other.close()


def test_parent_folder_of_the_sqlite_file_is_created(tmp_path):
    engine = build_db_engine(f"sqlite:///{tmp_path / 'a' / 'b' / 'x.db'}")
    with transaction(engine) as session:
        session.connection().execute(text("SELECT 1"))
    engine.dispose()
    assert (tmp_path / "a" / "b" / "x.db").exists()


@pytest.mark.parametrize(
    "url", ["nonsense", "mysql://u:hunter2@h/d", "sqlite://", "sqlite:///:memory:", "sqlite+aiosqlite:///x.db"]
)
def test_unusable_url_is_refused_by_the_setting_s_name_and_without_the_password(url):
    with pytest.raises(DatabaseUrlError, match="UNDERSTUDY_DATABASE_URL") as caught:
        build_db_engine(url)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_all_spellings_of_postgres_use_psycopg_3(scheme):
    engine = build_db_engine(f"{scheme}://u:p@h:1234/d")
    assert (engine.dialect.name, engine.dialect.driver, engine.url.port) == ("postgresql", "psycopg", 1234)


def test_down_server_is_named_without_its_password():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # bound and not listening: nobody answers, and nobody else can take it meanwhile
        port = free.getsockname()[1]
        engine = build_db_engine(f"postgres://someone:hunter2@127.0.0.1:{port}/d")
        with pytest.raises(DatabaseDownError) as caught, transaction(engine):
            pass
        engine.dispose()
    message = str(caught.value)
    assert message == f"the database at 127.0.0.1:{port} is not reachable: start it or change UNDERSTUDY_DATABASE_URL"
    chain = [str(error) for error in _walk(caught.value)]
    assert not any("hunter2" in line for line in chain)


@pytest.mark.postgres
def test_server_that_ends_the_connection_raises_down_and_the_engine_recovers(postgres_server):
    engine = build_db_engine(postgres_server.get_url())
    with pytest.raises(DatabaseDownError), transaction(engine) as session:
        session.connection().execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
    with transaction(engine) as session:
        assert session.connection().execute(text("SELECT 1")).scalar() == 1
    engine.dispose()


@pytest.mark.postgres
def test_unknown_database_name_is_refused_with_advice(postgres_server):
    engine = build_db_engine(postgres_server.get_url("nowhere"))
    with pytest.raises(DatabaseRefusedError, match="check user, password and database name") as caught, transaction(engine):
        pass
    engine.dispose()
    assert not any("hunter2" in str(error) for error in _walk(caught.value))


def test_sqlite_path_that_is_a_folder_raises_down(tmp_path):
    engine = build_db_engine(f"sqlite:///{tmp_path}")
    with pytest.raises(DatabaseDownError, match="cannot be opened"), transaction(engine):
        pass
    engine.dispose()


def test_file_that_is_no_database_says_what_to_do(tmp_path):
    path = tmp_path / "x.db"
    path.write_text("a letter, not a database " * 100)
    engine = build_db_engine(f"sqlite:///{path}")
    with pytest.raises(DatabaseFileError, match=r"x\.db is not an SQLite database: move it away or change"), transaction(engine):
        pass
    engine.dispose()


def test_full_disk_says_what_to_do(sqlite_engine):
    def fill():
        with transaction(sqlite_engine) as session:
            session.connection().exec_driver_sql("PRAGMA max_page_count=1")
            state.set_state(session, "k", value={"text": "x" * 100_000})

    with pytest.raises(DatabaseFileError, match="cannot grow: free space"):
        fill()


def test_file_that_may_only_be_read_says_what_to_do(sqlite_engine):
    engine = build_db_engine(f"sqlite:///file:{sqlite_engine.url.database}?mode=ro&uri=true")
    with pytest.raises(DatabaseFileError, match="make it and its folder writable"), transaction(engine) as session:
        state.set_state(session, "k", value={})
    engine.dispose()


@pytest.mark.parametrize(("code", "advice"), [(10, "check the disk"), (266, "check the disk"), (11, "restore a backup")])
def test_broken_disk_and_damaged_file_say_what_to_do(sqlite_engine, code, advice):
    def fail(*_args):
        error = sqlite3.OperationalError("driver's words")
        error.sqlite_errorcode = code
        raise error

    sqlite_engine.dispose()  # the next use connects anew
    event.listen(sqlite_engine, "connect", fail)
    with pytest.raises(DatabaseFileError, match=advice), transaction(sqlite_engine):
        pass


def test_error_text_does_not_show_what_the_row_holds(db_engine):
    def store_orphan():
        with transaction(db_engine) as session:
            inferences.record_inference(
                session,
                ticket_id=77,
                task=TaskKind.SUMMARY,
                model_kind=ModelKind.ENCODER,
                base_digest="b",
                adapter_digest="",
                prompt_version="1",
                latency_ms=1,
                output={"text": "what the customer wrote"},
            )

    with pytest.raises(IntegrityError, match="parameters hidden") as caught:
        store_orphan()
    assert "customer" not in str(caught.value)


def test_missing_driver_says_what_to_install(monkeypatch):
    def fail(*_args, **_kwargs):
        raise ModuleNotFoundError("psycopg")

    monkeypatch.setattr(db.session, "create_engine", fail)
    with pytest.raises(DatabaseError, match=r"understudy\[postgres\]"):
        build_db_engine("postgres://h/d")


def _walk(error):
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
