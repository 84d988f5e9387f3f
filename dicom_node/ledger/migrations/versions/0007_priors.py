"""Prior studies: what is fetched of them for a job, and from where."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "prior_fetches",
        sa.Column("fetch_id", _NUMBER, autoincrement=True, nullable=False),
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("study_instance_uid", sa.Text(), nullable=False),
        sa.Column("series_instance_uid", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("wanted", sa.JSON(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("not_before", sa.Float(), nullable=False),
        sa.Column("give_up_at", sa.Float(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("updated_at", sa.Float(), nullable=False),
        sa.CheckConstraint(
            "state IN ('PENDING', 'FETCHING', 'FETCHED', 'DEAD', 'SUPERSEDED')",
            name=op.f("ck_prior_fetches_state"),
        ),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.job_id"], name=op.f("fk_prior_fetches_job_id")),
        sa.ForeignKeyConstraint(
            ["study_instance_uid"],
            ["studies.study_instance_uid"],
            name=op.f("fk_prior_fetches_study_instance_uid"),
        ),
        sa.PrimaryKeyConstraint("fetch_id", name=op.f("pk_prior_fetches")),
        sa.UniqueConstraint("job_id", name=op.f("uq_prior_fetches_job_id")),
    )
    op.create_index(
        op.f("ix_prior_fetches_state_source_not_before"),
        "prior_fetches",
        ["state", "source", "not_before"],
        unique=False,
    )
    op.create_index(
        op.f("ix_prior_fetches_study_instance_uid"),
        "prior_fetches",
        ["study_instance_uid"],
        unique=False,
    )
    op.create_table(
        "fetched_priors",
        sa.Column("fetch_id", _NUMBER, nullable=False),
        sa.Column("study_instance_uid", sa.Text(), nullable=False),
        sa.Column("calling_ae_title", sa.Text(), nullable=False),
        sa.Column("was_held", sa.Boolean(), nullable=False),
        sa.Column("instance_count", sa.Integer(), nullable=False),
        sa.Column("failed", sa.Integer(), nullable=False),
        sa.Column("is_whole", sa.Boolean(), nullable=False),
        sa.Column("asked_at", sa.Float(), nullable=False),
        sa.Column("ended_at", sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(
            ["fetch_id"], ["prior_fetches.fetch_id"], name=op.f("fk_fetched_priors_fetch_id")
        ),
        sa.PrimaryKeyConstraint("fetch_id", "study_instance_uid", name=op.f("pk_fetched_priors")),
    )
    op.create_index(
        op.f("ix_fetched_priors_study_instance_uid"),
        "fetched_priors",
        ["study_instance_uid"],
        unique=False,
    )


def downgrade() -> None:
    op.drop_table("fetched_priors")
    op.drop_table("prior_fetches")
