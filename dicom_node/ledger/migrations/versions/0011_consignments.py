"""Proof of forwarded originals: what went out together is a consignment, answered for as one."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

_BEFORE = "state IN ('PENDING', 'SENDING', 'SENT', 'DEAD')"
_AFTER = "state IN ('PENDING', 'SENDING', 'SENT', 'PROVEN', 'UNPROVEN', 'DEAD')"
_BELIEVED = "sent before the node asked for proof of originals: its Success was believed"


def upgrade() -> None:
    _replace_check(_AFTER)
    op.create_table(
        "consignments",
        sa.Column("consignment_id", _NUMBER, autoincrement=True, nullable=False),
        sa.Column("forward_id", _NUMBER, nullable=False),
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("instance_count", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("not_before", sa.Float(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("sent_at", sa.Float(), nullable=False),
        sa.Column("transaction_uid", sa.Text(), nullable=False),
        sa.Column("committed", sa.Integer(), nullable=True),
        sa.Column("updated_at", sa.Float(), nullable=False),
        sa.CheckConstraint(
            "state IN ('SENT', 'PROVEN', 'UNPROVEN', 'PENDING')",
            name=op.f("ck_consignments_state"),
        ),
        sa.ForeignKeyConstraint(
            ["forward_id"], ["forwards.forward_id"], name=op.f("fk_consignments_forward_id")
        ),
        sa.PrimaryKeyConstraint("consignment_id", name=op.f("pk_consignments")),
        sqlite_autoincrement=True,
    )
    for columns in (
        ("state", "destination", "not_before"),
        ("transaction_uid",),
        ("forward_id", "state"),
    ):
        name = f"ix_consignments_{'_'.join(columns)}"
        op.create_index(op.f(name), "consignments", list(columns), unique=False)
    op.add_column("forwarded_instances", sa.Column("consignment_id", _NUMBER, nullable=True))
    op.add_column("forwarded_instances", sa.Column("sent_as", sa.JSON(), nullable=True))
    op.add_column(
        "forwarded_instances",
        sa.Column("resends", sa.Integer(), server_default="0", nullable=False),
    )
    _believe_what_was_sent()
    op.create_index(
        op.f("ix_forwarded_instances_consignment_id"),
        "forwarded_instances",
        ["consignment_id"],
        unique=False,
    )


def downgrade() -> None:
    op.drop_index(op.f("ix_forwarded_instances_consignment_id"), table_name="forwarded_instances")
    for name in ("resends", "sent_as", "consignment_id"):
        op.drop_column("forwarded_instances", name)
    op.drop_table("consignments")
    op.execute("UPDATE forwards SET state = 'SENT' WHERE state IN ('PROVEN', 'UNPROVEN')")
    _replace_check(_BEFORE)


def _believe_what_was_sent() -> None:
    """Nobody wants the archive asked for everything that was ever sent to it.

    What a forward has sent becomes one consignment, which has the forward's number.
    """
    op.execute(
        "INSERT INTO consignments (consignment_id, forward_id, destination, priority, "
        "instance_count, state, failures, not_before, reason, sent_at, transaction_uid, "
        "updated_at) "
        "SELECT f.forward_id, f.forward_id, f.destination, f.priority, count(*), 'UNPROVEN', 0, "
        f"max(i.sent_at), '{_BELIEVED}', max(i.sent_at), '', max(i.sent_at) "
        "FROM forwards f JOIN forwarded_instances i ON i.forward_id = f.forward_id "
        "WHERE i.sent_at IS NOT NULL GROUP BY f.forward_id, f.destination, f.priority"
    )
    op.execute(
        "UPDATE forwarded_instances SET consignment_id = forward_id WHERE sent_at IS NOT NULL"
    )
    op.execute(
        "INSERT INTO events (at, subject_kind, subject, event, from_state, to_state, reason) "
        "SELECT updated_at, 'forward', CAST(forward_id AS TEXT), 'UNPROVEN', 'SENT', "
        f"'UNPROVEN', '{_BELIEVED}' FROM forwards WHERE state = 'SENT'"
    )
    op.execute(
        f"UPDATE forwards SET state = 'UNPROVEN', reason = '{_BELIEVED}' WHERE state = 'SENT'"
    )
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            "SELECT setval(pg_get_serial_sequence('consignments', 'consignment_id'), "
            "(SELECT coalesce(max(consignment_id), 0) + 1 FROM consignments), false)"
        )


def _replace_check(condition: str) -> None:
    """Replace the states that are allowed; SQLite has to copy the table for it."""
    name = op.f("ck_forwards_state")
    if op.get_bind().dialect.name != "sqlite":
        op.drop_constraint(name, "forwards", type_="check")
        op.create_check_constraint(name, "forwards", condition)
        return
    # told what it copies: whether SQLAlchemy finds a CHECK in SQLite depends on its version
    check = sa.CheckConstraint(condition, name=name)
    with op.batch_alter_table("forwards", recreate="always", copy_from=_as_it_was(check)):
        return


def _as_it_was(check: sa.CheckConstraint) -> sa.Table:
    unique = ("study_instance_uid", "destination", "profile")
    return sa.Table(
        "forwards",
        sa.MetaData(),
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
        check,
        sa.ForeignKeyConstraint(
            ["study_instance_uid"],
            ["studies.study_instance_uid"],
            name=op.f("fk_forwards_study_instance_uid"),
        ),
        sa.PrimaryKeyConstraint("forward_id", name=op.f("pk_forwards")),
        sa.UniqueConstraint(*unique, name=op.f(f"uq_forwards_{'_'.join(unique)}")),
        sa.Index(
            op.f("ix_forwards_state_destination_not_before"),
            *("state", "destination", "not_before"),
        ),
    )
