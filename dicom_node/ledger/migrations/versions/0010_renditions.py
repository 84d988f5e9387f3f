"""Which tree of results goes where, and what destinations were seen to accept."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "results",
        sa.Column("renditions", sa.JSON(), server_default='["default"]', nullable=False),
    )
    op.add_column("jobs", sa.Column("renditions", sa.JSON(), server_default="{}", nullable=False))
    op.create_table(
        "acceptances",
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("sop_class_uid", sa.Text(), nullable=False),
        sa.Column("accepted", sa.Boolean(), nullable=False),
        sa.Column("asked_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("destination", "sop_class_uid", name=op.f("pk_acceptances")),
    )


def downgrade() -> None:
    op.drop_table("acceptances")
    op.drop_column("jobs", "renditions")
    op.drop_column("results", "renditions")
