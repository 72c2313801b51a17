"""What people say about masking: corrections, reviewed before they take effect.

Revision: 0005. Before it: 0004.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "privacy_correction",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("entity", sa.String(), nullable=False),
        sa.Column("status", sa.String(32), nullable=False),
        sa.Column("ticket_id", sa.Integer(), nullable=True),
        sa.Column("phrase_hash", sa.String(), nullable=False),
        sa.Column("hash_key", sa.String(), nullable=False),
        sa.Column("n_words", sa.Integer(), nullable=False),
        sa.Column("ciphertext", sa.LargeBinary(), nullable=True),
        sa.Column("context", sa.String(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("reviewed_by", sa.String(), nullable=True),
        sa.Column("reviewed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("remasked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("n_remasked", sa.Integer(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["ticket_id"], ["ticket.id"], name=op.f("fk_privacy_correction_ticket_id"), ondelete="SET NULL"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_privacy_correction")),
    )
    for column in ("status", "ticket_id", "created_at"):
        op.create_index(op.f(f"ix_privacy_correction_{column}"), "privacy_correction", [column], unique=False)
    op.create_index("ix_privacy_correction_kind_phrase_hash", "privacy_correction", ["kind", "phrase_hash"], unique=False)


def downgrade() -> None:
    """Drop it."""
    op.drop_table("privacy_correction")
