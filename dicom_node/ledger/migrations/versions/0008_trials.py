"""Trials of engine versions: shadows and canaries, and what they were compared on."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.add_column("jobs", sa.Column("role", sa.Text(), server_default="current", nullable=False))
    op.create_table(
        "trials",
        sa.Column("trial_id", _NUMBER, autoincrement=True, nullable=False),
        sa.Column("current_engine", sa.Text(), nullable=False),
        sa.Column("current_version", sa.Text(), nullable=False),
        sa.Column("candidate_engine", sa.Text(), nullable=False),
        sa.Column("candidate_version", sa.Text(), nullable=False),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("share", sa.Float(), nullable=False),
        sa.Column("stop", sa.JSON(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("counts_from", sa.Float(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("updated_at", sa.Float(), nullable=False),
        sa.CheckConstraint("state IN ('RUNNING', 'STOPPED')", name=op.f("ck_trials_state")),
        sa.PrimaryKeyConstraint("trial_id", name=op.f("pk_trials")),
        sa.UniqueConstraint(
            "current_engine",
            "current_version",
            "candidate_engine",
            "candidate_version",
            name=op.f("uq_trials_versions"),
        ),
    )
    op.create_table(
        "comparisons",
        sa.Column("comparison_id", _NUMBER, autoincrement=True, nullable=False),
        sa.Column("trial_id", _NUMBER, nullable=False),
        sa.Column("study_instance_uid", sa.Text(), nullable=False),
        sa.Column("series_instance_uid", sa.Text(), nullable=False),
        sa.Column("current_job_id", sa.Text(), nullable=False),
        sa.Column("candidate_job_id", sa.Text(), nullable=False),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("agreement", sa.JSON(), nullable=False),
        sa.Column("current_s", sa.Float(), nullable=True),
        sa.Column("candidate_s", sa.Float(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("updated_at", sa.Float(), nullable=False),
        sa.CheckConstraint(
            "state IN ('OPEN', 'COMPARED', 'FAILED', 'UNCOMPARED', 'WITHDRAWN')",
            name=op.f("ck_comparisons_state"),
        ),
        sa.ForeignKeyConstraint(
            ["trial_id"], ["trials.trial_id"], name=op.f("fk_comparisons_trial_id")
        ),
        sa.ForeignKeyConstraint(
            ["study_instance_uid"],
            ["studies.study_instance_uid"],
            name=op.f("fk_comparisons_study_instance_uid"),
        ),
        sa.ForeignKeyConstraint(
            ["current_job_id"], ["jobs.job_id"], name=op.f("fk_comparisons_current_job_id")
        ),
        sa.ForeignKeyConstraint(
            ["candidate_job_id"], ["jobs.job_id"], name=op.f("fk_comparisons_candidate_job_id")
        ),
        sa.PrimaryKeyConstraint("comparison_id", name=op.f("pk_comparisons")),
        sa.UniqueConstraint(
            "current_job_id",
            "candidate_job_id",
            name=op.f("uq_comparisons_current_job_id_candidate_job_id"),
        ),
    )
    for columns in (["trial_id", "state"], ["study_instance_uid"], ["state"]):
        name = f"ix_comparisons_{'_'.join(columns)}"
        op.create_index(op.f(name), "comparisons", columns, unique=False)


def downgrade() -> None:
    op.drop_table("comparisons")
    op.drop_table("trials")
    op.drop_column("jobs", "role")
