"""What was replaced in copies that left, so that results for them find their way back."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "crosswalk",
        sa.Column("crosswalk_id", _NUMBER, autoincrement=True, nullable=False),
        sa.Column("profile", sa.Text(), nullable=False),
        sa.Column("study_instance_uid", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("original", sa.Text(), nullable=False),
        sa.Column("replacement", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("crosswalk_id", name=op.f("pk_crosswalk")),
        sa.UniqueConstraint(
            "study_instance_uid",
            "profile",
            "kind",
            "replacement",
            name=op.f("uq_crosswalk_study_instance_uid_profile_kind_replacement"),
        ),
    )


def downgrade() -> None:
    op.drop_table("crosswalk")
