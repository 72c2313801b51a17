"""On SQLite, ids of tickets and examples are never given twice: an erased one's would otherwise go to the next, and lineage would mix them up.

Revision: 0006. Before it: 0005.
"""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None
TABLES = ("ticket", "example")


def upgrade() -> None:
    """Make the two tables anew with AUTOINCREMENT; PostgreSQL's sequences behave so already."""
    _remake(is_unique_for_ever=True)


def downgrade() -> None:
    """Make them anew without."""
    _remake(is_unique_for_ever=False)


def _remake(*, is_unique_for_ever: bool) -> None:
    if op.get_bind().dialect.name != "sqlite":
        return
    for name in TABLES:
        with op.batch_alter_table(name, recreate="always", table_kwargs={"sqlite_autoincrement": is_unique_for_ever}):
            pass
