"""Storage commitment, and what peers announce of a study."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "commitments",
        sa.Column("commitment_id", _NUMBER, autoincrement=True, nullable=False),
        sa.Column("transaction_uid", sa.Text(), nullable=False),
        sa.Column("calling_ae_title", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("not_before", sa.Float(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("tried_since", sa.Float(), nullable=False),
        sa.Column("updated_at", sa.Float(), nullable=False),
        sa.CheckConstraint(
            "state IN ('PENDING', 'REPORTING', 'REPORTED', 'DEAD')",
            name=op.f("ck_commitments_state"),
        ),
        sa.PrimaryKeyConstraint("commitment_id", name=op.f("pk_commitments")),
        sa.UniqueConstraint(
            "calling_ae_title",
            "transaction_uid",
            name=op.f("uq_commitments_calling_ae_title_transaction_uid"),
        ),
    )
    op.create_index(
        op.f("ix_commitments_state_not_before"),
        "commitments",
        ["state", "not_before"],
        unique=False,
    )
    op.create_table(
        "commitment_references",
        sa.Column("commitment_id", _NUMBER, nullable=False),
        sa.Column("reference_number", sa.Integer(), nullable=False),
        sa.Column("sop_class_uid", sa.Text(), nullable=False),
        sa.Column("sop_instance_uid", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["commitment_id"],
            ["commitments.commitment_id"],
            name=op.f("fk_commitment_references_commitment_id"),
        ),
        sa.PrimaryKeyConstraint(
            "commitment_id", "reference_number", name=op.f("pk_commitment_references")
        ),
    )
    op.create_table(
        "announcements",
        sa.Column("source_uid", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("calling_ae_title", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("announced_at", sa.Float(), nullable=False),
        sa.Column("ended_at", sa.Float(), nullable=True),
        sa.Column("updated_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("source_uid", name=op.f("pk_announcements")),
    )
    op.create_table(
        "announced_studies",
        sa.Column("study_instance_uid", sa.Text(), nullable=False),
        sa.Column("source_uid", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["source_uid"],
            ["announcements.source_uid"],
            name=op.f("fk_announced_studies_source_uid"),
        ),
        sa.PrimaryKeyConstraint(
            "study_instance_uid", "source_uid", name=op.f("pk_announced_studies")
        ),
    )
    op.create_index(
        op.f("ix_announced_studies_source_uid"), "announced_studies", ["source_uid"], unique=False
    )
    op.create_table(
        "announced_instances",
        sa.Column("source_uid", sa.Text(), nullable=False),
        sa.Column("sop_instance_uid", sa.Text(), nullable=False),
        sa.Column("series_instance_uid", sa.Text(), nullable=False),
        sa.Column("sop_class_uid", sa.Text(), nullable=False),
        sa.Column("availability", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["source_uid"],
            ["announcements.source_uid"],
            name=op.f("fk_announced_instances_source_uid"),
        ),
        sa.PrimaryKeyConstraint(
            "source_uid", "sop_instance_uid", name=op.f("pk_announced_instances")
        ),
    )


def downgrade() -> None:
    op.drop_table("announced_instances")
    op.drop_table("announced_studies")
    op.drop_table("announcements")
    op.drop_table("commitment_references")
    op.drop_table("commitments")
