"""Engines and transactions on SQLite and PostgreSQL, the same for both processes.

Holds the vendors' oddities: SQLite's locking, connection failures, what may be tried again. Knows no table.
"""

import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import ArgumentError
from sqlmodel import Session

from db.errors import (
    DatabaseBusyError,
    DatabaseDownError,
    DatabaseError,
    DatabaseFileError,
    DatabaseRefusedError,
    DatabaseUrlError,
    InvalidValueError,
)

T = TypeVar("T")

BUSY_TIMEOUT_MS = 10_000
CONNECT_TIMEOUT_S = 5
SETTING = "UNDERSTUDY_DATABASE_URL"

_POSTGRES_NAMES = frozenset({"postgres", "postgresql", "postgresql+psycopg"})
_RETRYABLE_SQLSTATES = frozenset({"40001", "40P01", "55P03"})  # serialisation failure, deadlock, lock not available
_SQLITE_CANTOPEN = 14
_SQLITE_READONLY = 8
_SQLITE_ADVICE = {  # by primary code; each follows "the database file FILE "
    _SQLITE_READONLY: f"cannot be written: make it and its folder writable for this user or change {SETTING}",
    10: "could not be read or written: check the disk for errors and keep the file on a local disk",
    11: "is damaged: stop both processes and restore a backup",
    13: "cannot grow: free space on its disk",
    26: f"is not an SQLite database: move it away or change {SETTING}",
}
_SQLITE_BUSY = frozenset({5, 6})  # busy, locked: the primary codes, in the lowest byte of the extended ones


def build_db_engine(url: str) -> Engine:
    """Return an engine for a `sqlite:///` or `postgresql://` URL. Opens no connection; raises DatabaseUrlError."""
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        message = f"{SETTING} is not a database URL: write sqlite:///FILE or postgresql://USER:PASSWORD@HOST/NAME"
        raise DatabaseUrlError(message) from error
    if parsed.drivername == "sqlite":
        db_engine = _build_sqlite_engine(parsed)
    elif parsed.drivername in _POSTGRES_NAMES:
        db_engine = _build_postgres_engine(parsed)
    else:
        message = f"{SETTING} begins with {parsed.drivername}://, which is not supported: use sqlite:/// or postgresql://"
        raise DatabaseUrlError(message)
    event.listen(db_engine, "handle_error", _translate_error, retval=True)
    return db_engine


@contextmanager
def transaction(db_engine: Engine, *, is_read_only: bool = False) -> Iterator[Session]:
    """Open a session whose work is committed at the end, or rolled back if anything is raised.

    A writing transaction takes SQLite's write lock at once, so it never fails half way because another process writes; keep it short. A read-only
    one waits for nobody and refuses writes. Rows stay readable after the end.
    """
    options = {"is_read_only": is_read_only, "postgresql_readonly": is_read_only}
    with Session(db_engine, expire_on_commit=False) as session:
        session.connection(execution_options=options)
        yield session
        session.commit()


def retry_transaction(db_engine: Engine, work: Callable[[Session], T], *, attempts: int = 4, pause_s: float = 0.05) -> T:
    """Run `work` in a transaction and return its result; run it again when the database was busy.

    `work` must touch nothing but the session, as it may run several times. Raises DatabaseBusyError after the last attempt.
    """
    for attempt in range(1, attempts + 1):
        try:
            with transaction(db_engine) as session:
                return work(session)
        except DatabaseBusyError:
            if attempt == attempts:
                raise
            time.sleep(pause_s * 2 ** (attempt - 1))
    message = "attempts must be at least 1"
    raise ValueError(message)


def drop_leftovers(db_engine: Engine) -> bool:
    """Empty SQLite's write-ahead log, where what was deleted or rewritten still stands; False where a reader was in the way for a second.

    PostgreSQL's own vacuum does the like by itself.
    """
    if is_postgres(db_engine):
        return True
    connection = db_engine.raw_connection()
    cursor = connection.cursor()
    try:
        cursor.execute("PRAGMA busy_timeout=1000")  # writers wait meanwhile
        is_blocked = cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        cursor.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
    finally:
        connection.close()
    return not is_blocked


def is_postgres(db: Engine | Connection) -> bool:
    """Say whether this is PostgreSQL (otherwise it is SQLite)."""
    return db.dialect.name == "postgresql"


def _dump_json(value: Any) -> str:
    # PostgreSQL refuses NaN in JSON and SQLite does not: refuse it on both.
    try:
        return json.dumps(value, allow_nan=False)
    except ValueError as error:
        message = "NaN and infinity cannot be stored in a JSON column: leave the value out or store None"
        raise InvalidValueError(message) from error


def _build_postgres_engine(url: URL) -> Engine:
    arguments: dict[str, Any] = {} if "connect_timeout" in url.query else {"connect_timeout": CONNECT_TIMEOUT_S}
    try:
        return create_engine(
            url.set(drivername="postgresql+psycopg"),
            pool_pre_ping=True,
            connect_args=arguments,
            json_serializer=_dump_json,
            hide_parameters=True,  # an exception's text never shows what a row holds
        )
    except ModuleNotFoundError as error:
        message = "PostgreSQL needs psycopg: pip install 'understudy[postgres]'"
        raise DatabaseError(message) from error


def _build_sqlite_engine(url: URL) -> Engine:
    if not url.database or url.database == ":memory:" or url.query.get("mode") == "memory":
        message = f"{SETTING} names no file: two processes share the database, write sqlite:///FILE"
        raise DatabaseUrlError(message)
    if not url.database.startswith("file:"):
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    arguments = {"timeout": BUSY_TIMEOUT_MS / 1000}
    db_engine = create_engine(url, connect_args=arguments, json_serializer=_dump_json, hide_parameters=True)
    event.listen(db_engine, "connect", _prepare_sqlite_connection)
    event.listen(db_engine, "begin", _begin_sqlite)
    return db_engine


def _prepare_sqlite_connection(connection: sqlite3.Connection, _record: object) -> None:
    # The driver's own transaction handling begins late and not before reading or DDL. With None it keeps out; `_begin_sqlite` begins.
    # https://docs.sqlalchemy.org/en/20/dialects/sqlite.html#sqlite-transactions
    connection.isolation_level = None
    _switch_to_wal(connection)
    # NORMAL survives a killed process; only a power cut can take the last commits, never consistency.
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute("PRAGMA secure_delete=ON")  # what is erased is overwritten, not merely marked as free


def _switch_to_wal(connection: sqlite3.Connection) -> None:
    # The switch needs the file for itself and does not always honour the busy timeout, so two first starts at once could fail.
    deadline = time.monotonic() + BUSY_TIMEOUT_MS / 1000
    while True:
        try:
            if connection.execute("PRAGMA journal_mode=WAL").fetchone()[0] == "wal":
                return
        except sqlite3.OperationalError as error:
            if not _is_sqlite_busy(error):
                raise
        if time.monotonic() > deadline:
            message = "the SQLite file cannot be put in WAL mode: keep it on a local disk and close other programs that use it"
            raise DatabaseBusyError(message)
        time.sleep(0.02)


def _begin_sqlite(connection: Connection) -> None:
    options = connection.get_execution_options()
    is_read_only = bool(options.get("is_read_only", False))
    # Both are per connection and cannot change inside a transaction. A migration may rebuild tables, which foreign keys would hinder.
    connection.exec_driver_sql(f"PRAGMA query_only={int(is_read_only)}")
    connection.exec_driver_sql(f"PRAGMA foreign_keys={int(not options.get('is_migration', False))}")
    connection.exec_driver_sql("BEGIN" if is_read_only else "BEGIN IMMEDIATE")


def _translate_error(context: ExceptionContext) -> DatabaseError | None:
    """Return one of our errors to raise instead of the driver's where it says what to do, or None."""
    original = context.original_exception
    if isinstance(original, DatabaseError):
        return original  # raised below a statement, by a column type: unwrapped
    if context.is_pre_ping or not isinstance(original, Exception):
        return None
    db_engine = context.engine
    place = _describe(db_engine.url if db_engine else None)
    if isinstance(original, sqlite3.Error):
        options = context.connection.get_execution_options() if context.connection else {}
        is_own_guard = bool(options.get("is_read_only")) and _get_sqlite_code(original) == _SQLITE_READONLY
        return None if is_own_guard else _translate_sqlite_error(original, place)
    if context.connection is None or context.is_disconnect:
        return _translate_connection_error(str(original), place)
    if getattr(original, "sqlstate", None) in _RETRYABLE_SQLSTATES:
        return DatabaseBusyError(f"the database at {place} is busy: try again")
    return None


def _translate_sqlite_error(error: sqlite3.Error, place: str) -> DatabaseError | None:
    if _is_sqlite_busy(error):
        return DatabaseBusyError(
            f"the database {place} stayed locked for {BUSY_TIMEOUT_MS // 1000} s: another process writes; try again"
        )
    code = _get_sqlite_code(error)
    if code == _SQLITE_CANTOPEN:
        return DatabaseDownError(f"the database file {place} cannot be opened: make it readable and writable or change {SETTING}")
    if code in _SQLITE_ADVICE:
        return DatabaseFileError(f"the database file {place} {_SQLITE_ADVICE[code]}")
    return None


def _translate_connection_error(text: str, place: str) -> DatabaseError:
    # libpq gives no code for a failed connection. A server that is up says FATAL with a reason; one that starts or stops says so too.
    is_refusal = "FATAL" in text and not any(word in text for word in ("starting up", "shutting down", "recovery", "terminating"))
    if is_refusal:
        return DatabaseRefusedError(
            f"the database at {place} refuses the connection: check user, password and database name in {SETTING}"
        )
    return DatabaseDownError(f"the database at {place} is not reachable: start it or change {SETTING}")


def _is_sqlite_busy(error: sqlite3.Error) -> bool:
    return _get_sqlite_code(error) in _SQLITE_BUSY


def _get_sqlite_code(error: sqlite3.Error) -> int:
    """Return the primary result code, 0 where the driver gives none."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def _describe(url: URL | None) -> str:
    """Return host and port, or the file. Never the user, the password or the query, which may carry one."""
    if url is None:
        return "its address"
    if url.drivername == "sqlite":
        return str(url.database)
    host = url.host or url.query.get("host", "localhost")
    return f"{host}:{url.port}" if url.port else str(host)
