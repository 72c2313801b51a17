"""What Alembic runs for each command. Takes the connection that `db.migrate` opened; reads no URL and configures no logging."""

from alembic import context

import db.privacy_tables  # noqa: F401  its table belongs to the metadata
from db.tables import Row


def run() -> None:
    """Run the migrations on the connection handed over, inside its transaction."""
    context.configure(
        connection=context.config.attributes["connection"],
        target_metadata=Row.metadata,
        render_as_batch=True,  # SQLite cannot alter a column; batch mode rebuilds the table
        transactional_ddl=True,
    )
    with context.begin_transaction():
        context.run_migrations()


run()
