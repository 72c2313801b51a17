"""Lineage: which example a run used for what, and adapters that learned from erased examples.

Revision: 0003. Before it: 0002.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table and the two columns. Runs made before it have no lineage."""
    op.create_table(
        "run_example",
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("example_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("split", sa.String(32), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["training_run.id"], name=op.f("fk_run_example_run_id")),
        sa.PrimaryKeyConstraint("run_id", "example_id", name=op.f("pk_run_example")),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("ix_run_example_example_id"), "run_example", ["example_id"], unique=False)
    op.add_column("adapter", sa.Column("erased_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("adapter", sa.Column("n_erased", sa.Integer(), nullable=True))


def downgrade() -> None:
    """Drop them."""
    op.drop_column("adapter", "n_erased")
    op.drop_column("adapter", "erased_at")
    op.drop_table("run_example")
