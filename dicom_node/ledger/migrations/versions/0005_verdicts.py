"""What each association carried of a study, the verdicts on its completeness, scanners' paces."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def _study_key() -> list[sa.schema.SchemaItem]:
    return [
        sa.Column("study_instance_uid", sa.Text(), nullable=False),
        sa.Column("series_instance_uid", sa.Text(), nullable=False),
    ]


def _of_study(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["study_instance_uid"],
        ["studies.study_instance_uid"],
        name=op.f(f"fk_{table}_study_instance_uid"),
    )


def _of_association(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["association_id"],
        ["associations.association_id"],
        name=op.f(f"fk_{table}_association_id"),
    )


def upgrade() -> None:
    op.create_table(
        "carried",
        *_study_key(),
        sa.Column("association_id", sa.Text(), nullable=False),
        sa.Column("instance_count", sa.Integer(), nullable=False),
        sa.Column("last_at", sa.Float(), nullable=False),
        _of_study("carried"),
        _of_association("carried"),
        sa.PrimaryKeyConstraint(
            "study_instance_uid",
            "series_instance_uid",
            "association_id",
            name=op.f("pk_carried"),
        ),
    )
    op.create_index(op.f("ix_carried_association_id"), "carried", ["association_id"], unique=False)
    op.execute(
        "INSERT INTO carried SELECT study_instance_uid, series_instance_uid, association_id,"
        " count(*), max(received_at) FROM instances"
        " WHERE association_id IN (SELECT association_id FROM associations)"
        " GROUP BY study_instance_uid, series_instance_uid, association_id"
    )
    op.drop_table("study_associations")  # which associations carried a study; `carried` says more
    op.create_table(
        "verdicts",
        *_study_key(),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("spoke_for", sa.JSON(), nullable=False),
        sa.Column("spoke_against", sa.JSON(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        _of_study("verdicts"),
        sa.PrimaryKeyConstraint(
            "study_instance_uid", "series_instance_uid", "revision", name=op.f("pk_verdicts")
        ),
    )
    op.create_table(
        "paces",
        sa.Column("calling_ae_title", sa.Text(), nullable=False),
        sa.Column("modality", sa.Text(), nullable=False),
        sa.Column("silences", sa.JSON(), nullable=False),
        sa.Column("updated_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("calling_ae_title", "modality", name=op.f("pk_paces")),
    )


def downgrade() -> None:
    op.drop_table("paces")
    op.drop_table("verdicts")
    op.create_table(
        "study_associations",
        sa.Column("study_instance_uid", sa.Text(), nullable=False),
        sa.Column("association_id", sa.Text(), nullable=False),
        _of_study("study_associations"),
        _of_association("study_associations"),
        sa.PrimaryKeyConstraint(
            "study_instance_uid", "association_id", name=op.f("pk_study_associations")
        ),
    )
    op.create_index(
        op.f("ix_study_associations_association_id"),
        "study_associations",
        ["association_id"],
        unique=False,
    )
    op.execute(
        "INSERT INTO study_associations SELECT DISTINCT study_instance_uid, association_id"
        " FROM carried"
    )
    op.drop_table("carried")
