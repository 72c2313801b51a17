"""Fixtures for all tests: an environment without our settings, a home folder, and databases that are migrated and empty."""

import itertools
import os
import shutil

import pytest
from sqlalchemy import create_engine

from db.migrate import upgrade
from db.session import build_db_engine
from tests.support.postgres_server import PostgresServer, PostgresUnavailableError

BACKENDS = ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)]
_numbers = itertools.count(1)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch):
    """No setting of the machine reaches a test."""
    for name in list(os.environ):
        if name.upper().startswith("UNDERSTUDY_"):
            monkeypatch.delenv(name)


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home folder of the test's own, set in the environment."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("UNDERSTUDY_HOME", str(folder))
    return folder


@pytest.fixture(scope="session")
def postgres_server():
    try:
        server = PostgresServer()
    except PostgresUnavailableError as error:
        pytest.skip(f"no PostgreSQL server for tests: {error}")
    yield server
    server.stop()


@pytest.fixture(scope="session")
def _postgres_admin(postgres_server):
    """An engine that makes databases, with a migrated one to copy."""
    admin = create_engine(_with_driver(postgres_server.get_url()), isolation_level="AUTOCOMMIT")
    _create(admin, "template_migrated")
    template = build_db_engine(postgres_server.get_url("template_migrated"))
    upgrade(template)
    template.dispose()
    yield admin
    admin.dispose()


@pytest.fixture(scope="session")
def _sqlite_template(tmp_path_factory):
    path = tmp_path_factory.mktemp("template") / "migrated.db"
    engine = build_db_engine(f"sqlite:///{path}")
    upgrade(engine)
    engine.dispose()  # the last connection to close writes the log back into the file
    return path


@pytest.fixture(params=BACKENDS)
def empty_db_url(request, tmp_path):
    """The URL of a database without tables, on SQLite and on PostgreSQL."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'empty.db'}"
    return _create_postgres(request, "template1")


@pytest.fixture(params=BACKENDS)
def db_url(request, tmp_path):
    """The URL of a migrated, empty database, on SQLite and on PostgreSQL."""
    if request.param == "sqlite":
        return _copy_sqlite(request, tmp_path)
    return _create_postgres(request, "template_migrated")


@pytest.fixture
def db_engine(db_url):
    """An engine on a migrated, empty database; the test runs on SQLite and on PostgreSQL."""
    engine = build_db_engine(db_url)
    yield engine
    engine.dispose()


@pytest.fixture
def sqlite_engine(request, tmp_path):
    """An engine on a migrated, empty SQLite file, for tests of something else that needs any database."""
    engine = build_db_engine(_copy_sqlite(request, tmp_path))
    yield engine
    engine.dispose()


def _copy_sqlite(request, tmp_path):
    path = tmp_path / "test.db"
    shutil.copyfile(request.getfixturevalue("_sqlite_template"), path)
    return f"sqlite:///{path}"


def _create_postgres(request, template):
    name = f"test_{next(_numbers)}"
    admin = request.getfixturevalue("_postgres_admin")
    _create(admin, name, template)
    request.addfinalizer(lambda: _drop(admin, name))
    return request.getfixturevalue("postgres_server").get_url(name)


def _create(admin, name, template="template1"):
    with admin.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name} TEMPLATE {template}")


def _drop(admin, name):
    with admin.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")


def _with_driver(url):
    return url.replace("postgresql://", "postgresql+psycopg://", 1)
