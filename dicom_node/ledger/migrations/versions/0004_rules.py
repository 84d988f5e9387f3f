"""Kept headers, what the rules decided and with which rules, drops, forwards of originals."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "header_keysets",
        sa.Column("keyset", sa.Text(), nullable=False),
        sa.Column("keywords", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("keyset", name=op.f("pk_header_keysets")),
    )
    op.create_table(
        "rule_sets",
        sa.Column("rule_set", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("loaded_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("rule_set", name=op.f("pk_rule_sets")),
    )
    op.create_table(
        "awaited_findings",
        sa.Column("study_instance_uid", sa.Text(), nullable=False),
        sa.Column("series_instance_uid", sa.Text(), nullable=False),
        sa.Column("engine_name", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["study_instance_uid"],
            ["studies.study_instance_uid"],
            name=op.f("fk_awaited_findings_study_instance_uid"),
        ),
        sa.PrimaryKeyConstraint(
            "study_instance_uid",
            "series_instance_uid",
            "engine_name",
            name=op.f("pk_awaited_findings"),
        ),
    )
    op.create_table(
        "decisions",
        sa.Column("study_instance_uid", sa.Text(), nullable=False),
        sa.Column("decision_number", sa.Integer(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("rule_set", sa.Text(), nullable=False),
        sa.Column("completeness", sa.Text(), nullable=False),
        sa.Column("decided", sa.JSON(), nullable=False),
        sa.Column("decided_at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(
            ["rule_set"], ["rule_sets.rule_set"], name=op.f("fk_decisions_rule_set")
        ),
        sa.ForeignKeyConstraint(
            ["study_instance_uid"],
            ["studies.study_instance_uid"],
            name=op.f("fk_decisions_study_instance_uid"),
        ),
        sa.PrimaryKeyConstraint("study_instance_uid", "decision_number", name=op.f("pk_decisions")),
    )
    op.create_index(op.f("ix_decisions_decided_at"), "decisions", ["decided_at"], unique=False)
    op.create_table(
        "drops",
        sa.Column("study_instance_uid", sa.Text(), nullable=False),
        sa.Column("series_instance_uid", sa.Text(), nullable=False),
        sa.Column("sop_instance_uid", sa.Text(), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("dropped_at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(
            ["study_instance_uid"],
            ["studies.study_instance_uid"],
            name=op.f("fk_drops_study_instance_uid"),
        ),
        sa.PrimaryKeyConstraint(
            "study_instance_uid", "series_instance_uid", "sop_instance_uid", name=op.f("pk_drops")
        ),
    )
    op.create_index(op.f("ix_drops_dropped_at"), "drops", ["dropped_at"], unique=False)
    op.create_table(
        "forwards",
        sa.Column("forward_id", _NUMBER, autoincrement=True, nullable=False),
        sa.Column("study_instance_uid", sa.Text(), nullable=False),
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("profile", sa.Text(), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("not_before", sa.Float(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("tried_since", sa.Float(), nullable=False),
        sa.Column("updated_at", sa.Float(), nullable=False),
        sa.CheckConstraint(
            "state IN ('PENDING', 'SENDING', 'SENT', 'DEAD')", name=op.f("ck_forwards_state")
        ),
        sa.ForeignKeyConstraint(
            ["study_instance_uid"],
            ["studies.study_instance_uid"],
            name=op.f("fk_forwards_study_instance_uid"),
        ),
        sa.PrimaryKeyConstraint("forward_id", name=op.f("pk_forwards")),
        sa.UniqueConstraint(
            "study_instance_uid",
            "destination",
            "profile",
            name=op.f("uq_forwards_study_instance_uid_destination_profile"),
        ),
    )
    op.create_index(
        op.f("ix_forwards_state_destination_not_before"),
        "forwards",
        ["state", "destination", "not_before"],
        unique=False,
    )
    op.create_table(
        "instance_headers",
        sa.Column("study_instance_uid", sa.Text(), nullable=False),
        sa.Column("series_instance_uid", sa.Text(), nullable=False),
        sa.Column("sop_instance_uid", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("keyset", sa.Text(), nullable=False),
        sa.Column("attributes", sa.JSON(), nullable=False),
        sa.Column("unreadable", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["keyset"], ["header_keysets.keyset"], name=op.f("fk_instance_headers_keyset")
        ),
        sa.ForeignKeyConstraint(
            ["study_instance_uid"],
            ["studies.study_instance_uid"],
            name=op.f("fk_instance_headers_study_instance_uid"),
        ),
        sa.PrimaryKeyConstraint(
            "study_instance_uid",
            "series_instance_uid",
            "sop_instance_uid",
            name=op.f("pk_instance_headers"),
        ),
    )
    op.create_table(
        "series_headers",
        sa.Column("study_instance_uid", sa.Text(), nullable=False),
        sa.Column("series_instance_uid", sa.Text(), nullable=False),
        sa.Column("attributes", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["study_instance_uid"],
            ["studies.study_instance_uid"],
            name=op.f("fk_series_headers_study_instance_uid"),
        ),
        sa.PrimaryKeyConstraint(
            "study_instance_uid", "series_instance_uid", name=op.f("pk_series_headers")
        ),
    )
    op.create_table(
        "forwarded_instances",
        sa.Column("forward_id", _NUMBER, nullable=False),
        sa.Column("series_instance_uid", sa.Text(), nullable=False),
        sa.Column("sop_instance_uid", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("sent_at", sa.Float(), nullable=True),
        sa.Column("refused", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["forward_id"], ["forwards.forward_id"], name=op.f("fk_forwarded_instances_forward_id")
        ),
        sa.PrimaryKeyConstraint(
            "forward_id",
            "series_instance_uid",
            "sop_instance_uid",
            name=op.f("pk_forwarded_instances"),
        ),
    )
    op.add_column("jobs", sa.Column("parameters", sa.JSON(), server_default="{}", nullable=False))
    op.add_column("jobs", sa.Column("facts", sa.JSON(), server_default="{}", nullable=False))
    op.add_column(
        "studies", sa.Column("released_revision", sa.Integer(), server_default="0", nullable=False)
    )


def downgrade() -> None:
    op.drop_column("studies", "released_revision")
    op.drop_column("jobs", "facts")
    op.drop_column("jobs", "parameters")
    op.drop_table("forwarded_instances")
    op.drop_table("series_headers")
    op.drop_table("instance_headers")
    op.drop_table("forwards")
    op.drop_table("drops")
    op.drop_table("decisions")
    op.drop_table("awaited_findings")
    op.drop_table("rule_sets")
    op.drop_table("header_keysets")
