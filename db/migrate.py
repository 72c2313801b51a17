"""Brings a database to the schema this version needs, or says that it is not there. Two processes may upgrade at once.

Knows Alembic, and nothing of what the tables mean.
"""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, text

import db.privacy_tables  # noqa: F401  its table belongs to the metadata
from db.errors import DatabaseError, SchemaAheadError, SchemaBehindError
from db.session import is_postgres

_UPGRADE_LOCK = 0x756E_6465_7273_7464  # any number, as long as all processes use the same


def build_config() -> Config:
    """Return Alembic's configuration for the migrations in this package; there is no alembic.ini."""
    config = Config()
    folder = Path(__file__).parent / "migrations"
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    return config


def get_head() -> str:
    """Return the newest migration this version knows."""
    head = ScriptDirectory.from_config(build_config()).get_current_head()
    if head is None:
        message = "the installation is broken: db/migrations/versions is empty, install Understudy again"
        raise DatabaseError(message)
    return head


def get_current(db_engine: Engine) -> str | None:
    """Return the migration the database is at, or None where it is empty."""
    with db_engine.connect().execution_options(is_read_only=True) as connection:
        return _get_current(connection)


def check_schema(db_engine: Engine) -> None:
    """Raise SchemaBehindError or SchemaAheadError unless the database is exactly at this version's migration."""
    current = get_current(db_engine)
    if current == get_head():
        return
    _refuse_unknown(current)
    place = "is empty" if current is None else f"is at migration {current}"
    message = f"the database {place}, this version needs {get_head()}: run `understudy migrate`"
    raise SchemaBehindError(message)


def upgrade(db_engine: Engine) -> None:
    """Run all missing migrations in one transaction; a second process waits for the first. Creates the tables of an empty database."""
    with db_engine.connect().execution_options(is_migration=True) as connection, connection.begin():
        # SQLite's write lock is already ours: the transaction began with BEGIN IMMEDIATE.
        if is_postgres(connection):
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _UPGRADE_LOCK})
        _refuse_unknown(_get_current(connection))
        config = build_config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        if not is_postgres(connection) and connection.exec_driver_sql("PRAGMA foreign_key_check").first():
            message = "a migration would leave rows that point nowhere; nothing was changed: restore a backup and report it"
            raise DatabaseError(message)


def _get_current(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _refuse_unknown(current: str | None) -> None:
    known = {script.revision for script in ScriptDirectory.from_config(build_config()).walk_revisions()}
    if current is not None and current not in known:
        message = f"the database is at migration {current}, which this version does not know: install the version that made it"
        raise SchemaAheadError(message)
