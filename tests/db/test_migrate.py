"""Migrations: they agree with the tables on both databases, and a database that is behind or ahead is refused."""

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text

from db import migrate
from db.errors import SchemaAheadError, SchemaBehindError
from db.queries import tickets
from db.session import build_db_engine, transaction
from db.tables import Row


@pytest.fixture
def empty_engine(empty_db_url):
    engine = build_db_engine(empty_db_url)
    yield engine
    engine.dispose()


def test_upgrade_creates_all_tables_of_an_empty_database(empty_engine):
    migrate.upgrade(empty_engine)
    assert set(inspect(empty_engine).get_table_names()) == {*Row.metadata.tables, "alembic_version"}
    assert migrate.get_current(empty_engine) == migrate.get_head()
    migrate.check_schema(empty_engine)


def test_migrations_and_tables_agree(db_engine):
    with db_engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, Row.metadata) == []


def test_only_one_adapter_per_task_may_be_active_says_the_database_itself(db_engine):
    index = next(index for index in inspect(db_engine).get_indexes("adapter") if index["name"] == "uq_adapter_active_task")
    where = index["dialect_options"].get("sqlite_where", index["dialect_options"].get("postgresql_where"))
    assert index["unique"]
    assert "active" in str(where)


def test_upgrade_a_second_time_keeps_the_rows(db_engine):
    with transaction(db_engine) as session:
        tickets.upsert_ticket(session, plugin="p", external_id="1", subject="", text="t")
    migrate.upgrade(db_engine)
    with transaction(db_engine) as session:
        assert len(tickets.list_tickets(session)) == 1


def test_empty_database_is_behind_and_the_command_is_named(empty_engine):
    with pytest.raises(SchemaBehindError, match=r"is empty, this version needs .*: run `understudy migrate`"):
        migrate.check_schema(empty_engine)


def test_older_migration_is_behind_and_both_are_named(db_engine, monkeypatch):
    monkeypatch.setattr(migrate, "get_head", lambda: "9999")
    with pytest.raises(SchemaBehindError, match=r"is at migration \d{4}, this version needs 9999: run `understudy migrate`"):
        migrate.check_schema(db_engine)


@pytest.mark.parametrize("call", [migrate.check_schema, migrate.upgrade])
def test_unknown_migration_is_ahead(db_engine, call):
    with transaction(db_engine) as session:
        session.connection().execute(text("UPDATE alembic_version SET version_num = 'ffff'"))
    with pytest.raises(SchemaAheadError, match="ffff"):
        call(db_engine)


def test_failing_migration_leaves_nothing_behind(empty_engine, monkeypatch):
    def fail(config, _revision):
        config.attributes["connection"].exec_driver_sql("CREATE TABLE half (n INTEGER)")
        raise RuntimeError

    with monkeypatch.context() as patched:
        patched.setattr(migrate.command, "upgrade", fail)
        with pytest.raises(RuntimeError):
            migrate.upgrade(empty_engine)
    assert inspect(empty_engine).get_table_names() == []
    migrate.upgrade(empty_engine)


def test_migration_that_orphans_rows_is_refused(sqlite_engine, monkeypatch):
    with transaction(sqlite_engine) as session:
        ticket = tickets.upsert_ticket(session, plugin="p", external_id="1", subject="", text="t")
        tickets.put_vault(session, ticket_id=ticket.id, ciphertext=b"x", expires_at=ticket.created_at)
    monkeypatch.setattr(
        migrate.command, "upgrade", lambda config, _: config.attributes["connection"].exec_driver_sql("DELETE FROM ticket")
    )
    with pytest.raises(Exception, match="point nowhere"):
        migrate.upgrade(sqlite_engine)
    with transaction(sqlite_engine) as session:
        assert len(tickets.list_tickets(session)) == 1


def test_downgrade_of_every_migration_leaves_an_empty_database(db_engine):
    with db_engine.connect().execution_options(is_migration=True) as connection, connection.begin():
        config = migrate.build_config()
        config.attributes["connection"] = connection
        migrate.command.downgrade(config, "base")
    assert inspect(db_engine).get_table_names() == ["alembic_version"]


def test_history_is_one_line_without_branches():
    script = ScriptDirectory.from_config(migrate.build_config())
    assert len(script.get_heads()) == 1
    assert all(not isinstance(revision.down_revision, tuple) for revision in script.walk_revisions())
