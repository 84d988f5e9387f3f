"""Proof of deliveries: what was answered, how often they were sent again; circuit breakers."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

_BEFORE = "state IN ('PENDING', 'SENDING', 'SENT', 'DEAD')"
_AFTER = "state IN ('PENDING', 'SENDING', 'SENT', 'PROVEN', 'UNPROVEN', 'DEAD')"
_BELIEVED = "sent before the node asked for proof: its Success was believed"


def upgrade() -> None:
    _replace_check(_AFTER)
    op.add_column("deliveries", sa.Column("sent_at", sa.Float(), nullable=True))
    op.add_column(
        "deliveries", sa.Column("resends", sa.Integer(), server_default="0", nullable=False)
    )
    op.add_column(
        "deliveries", sa.Column("transaction_uid", sa.Text(), server_default="", nullable=False)
    )
    op.add_column("deliveries", sa.Column("committed", sa.Integer(), nullable=True))
    op.create_index(
        op.f("ix_deliveries_transaction_uid"), "deliveries", ["transaction_uid"], unique=False
    )
    op.create_table(
        "breakers",
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("not_before", sa.Float(), nullable=False),
        sa.Column("opened_at", sa.Float(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.Float(), nullable=False),
        sa.CheckConstraint("state IN ('CLOSED', 'OPEN')", name=op.f("ck_breakers_state")),
        sa.PrimaryKeyConstraint("destination", name=op.f("pk_breakers")),
    )
    # Nobody wants the archive asked for everything that was ever sent to it.
    op.execute(
        "INSERT INTO events (at, subject_kind, subject, event, from_state, to_state, reason) "
        "SELECT updated_at, 'delivery', CAST(delivery_id AS TEXT), 'UNPROVEN', 'SENT', "
        f"'UNPROVEN', '{_BELIEVED}' FROM deliveries WHERE state = 'SENT'"
    )
    op.execute(
        f"UPDATE deliveries SET state = 'UNPROVEN', sent_at = updated_at, reason = '{_BELIEVED}' "
        "WHERE state = 'SENT'"
    )


def downgrade() -> None:
    op.execute("UPDATE deliveries SET state = 'SENT' WHERE state IN ('PROVEN', 'UNPROVEN')")
    op.drop_table("breakers")
    op.drop_index(op.f("ix_deliveries_transaction_uid"), table_name="deliveries")
    for name in ("committed", "transaction_uid", "resends", "sent_at"):
        op.drop_column("deliveries", name)
    _replace_check(_BEFORE)


def _replace_check(condition: str) -> None:
    """Replace the states that are allowed; SQLite has to copy the table for it."""
    name = op.f("ck_deliveries_state")
    if op.get_bind().dialect.name != "sqlite":
        op.drop_constraint(name, "deliveries", type_="check")
        op.create_check_constraint(name, "deliveries", condition)
        return
    # told what it copies: whether SQLAlchemy finds a CHECK in SQLite depends on its version
    check = sa.CheckConstraint(condition, name=name)
    with op.batch_alter_table("deliveries", recreate="always", copy_from=_as_it_was(check)):
        return


def _as_it_was(check: sa.CheckConstraint) -> sa.Table:
    return sa.Table(
        "deliveries",
        sa.MetaData(),
        sa.Column("delivery_id", _NUMBER, autoincrement=True, nullable=False),
        sa.Column("sop_instance_uid", sa.Text(), nullable=False),
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("not_before", sa.Float(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("tried_since", sa.Float(), nullable=False),
        sa.Column("updated_at", sa.Float(), nullable=False),
        check,
        sa.ForeignKeyConstraint(
            ["sop_instance_uid"],
            ["results.sop_instance_uid"],
            name=op.f("fk_deliveries_sop_instance_uid"),
        ),
        sa.PrimaryKeyConstraint("delivery_id", name=op.f("pk_deliveries")),
        sa.UniqueConstraint(
            "sop_instance_uid",
            "destination",
            name=op.f("uq_deliveries_sop_instance_uid_destination"),
        ),
        sa.Index(
            op.f("ix_deliveries_state_destination_not_before"),
            *("state", "destination", "not_before"),
        ),
    )
