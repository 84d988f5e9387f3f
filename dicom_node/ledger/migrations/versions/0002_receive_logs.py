"""How far each receive log has been read into the ledger."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "receive_logs",
        sa.Column("log", sa.Text(), nullable=False),
        sa.Column("segment_number", sa.BigInteger(), nullable=False),
        sa.Column("offset", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("log", name=op.f("pk_receive_logs")),
    )


def downgrade() -> None:
    op.drop_table("receive_logs")
