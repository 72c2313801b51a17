"""What plugins have to handle and to remember, and feedback that is read from the helpdesk or taken back.

Revision: 0004. Before it: 0003.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the two tables, and the two columns of feedback."""
    op.create_table(
        "plugin_event",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("plugin", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("group_key", sa.String(), nullable=False),
        sa.Column("ciphertext", sa.LargeBinary(), nullable=False),
        sa.Column("status", sa.String(32), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("error", sa.String(), nullable=False),
        sa.Column("available_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("claimed_by", sa.String(), nullable=True),
        sa.Column("claimed_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_plugin_event")),
        sa.UniqueConstraint("plugin", "key", name=op.f("uq_plugin_event_plugin_key")),
    )
    op.create_index("ix_plugin_event_plugin_status_id", "plugin_event", ["plugin", "status", "id"], unique=False)
    op.create_index(
        "ix_plugin_event_group_key_plugin_status_id", "plugin_event", ["group_key", "plugin", "status", "id"], unique=False
    )
    op.create_index(op.f("ix_plugin_event_finished_at"), "plugin_event", ["finished_at"], unique=False)
    op.create_table(
        "plugin_value",
        sa.Column("plugin", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("ciphertext", sa.LargeBinary(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("plugin", "key", name=op.f("pk_plugin_value")),
    )
    op.create_index(op.f("ix_plugin_value_expires_at"), "plugin_value", ["expires_at"], unique=False)
    op.add_column("feedback", sa.Column("is_passive", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("feedback", sa.Column("withdrawn_at", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    """Drop them."""
    op.drop_column("feedback", "withdrawn_at")
    op.drop_column("feedback", "is_passive")
    op.drop_table("plugin_value")
    op.drop_table("plugin_event")
