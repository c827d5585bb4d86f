"""Rows that are written once whatever happens, their states, and accounts with holds."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_WIDER = ("input_tokens", "output_tokens", "cached_input_tokens", "reasoning_tokens", "cost_nano", "estimate_nano")
_ADDED = ("baseline_nano", "uncached_nano", "hold_nano")
_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    with op.batch_alter_table("requests") as table:
        table.add_column(sa.Column("uid", sa.Text))
        table.add_column(sa.Column("state", sa.Text, nullable=False, server_default="settled"))
        for name in _ADDED:
            table.add_column(sa.Column(name, sa.BigInteger, nullable=False, server_default="0"))
        table.add_column(sa.Column("tries", sa.Text, nullable=False, server_default="[]"))
        table.alter_column("id", existing_type=sa.Integer(), type_=_ID, existing_nullable=False)
        for name in _WIDER:
            table.alter_column(name, existing_type=sa.Integer(), type_=sa.BigInteger(), existing_nullable=False)
    op.execute("UPDATE requests SET uid = 'old_' || id, baseline_nano = cost_nano")  # no saving that nobody measured
    op.execute("UPDATE requests SET state = 'estimated' WHERE usage_estimated")
    op.execute("UPDATE requests SET state = 'absorbed' WHERE cost_nano = 0 AND attempts > 0 AND status <> 'ok'")
    op.execute("UPDATE requests SET state = 'refused' WHERE attempts = 0 AND status <> 'ok'")
    with op.batch_alter_table("requests") as table:
        table.alter_column("uid", existing_type=sa.Text(), nullable=False)
        for name in ("state", "tries"):
            table.alter_column(name, existing_type=sa.Text(), server_default=None)
        for name in _ADDED:
            table.alter_column(name, existing_type=sa.BigInteger(), server_default=None)
        table.create_unique_constraint("requests_uid_key", ["uid"])
    op.create_table(
        "accounts",
        sa.Column("account", sa.Text, primary_key=True),
        sa.Column("period", sa.Text, primary_key=True),
        sa.Column("spent_nano", sa.BigInteger, nullable=False),
        sa.Column("held_nano", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "holds",
        sa.Column("uid", sa.Text, primary_key=True),
        sa.Column("account", sa.Text, primary_key=True),
        sa.Column("period", sa.Text, primary_key=True),
        sa.Column("amount_nano", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.Float, nullable=False),
    )
    op.create_table(
        "keys",
        sa.Column("id", sa.Text, primary_key=True),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("name", "tenant")),
        sa.Column("digest", sa.Text, nullable=False, unique=True),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("shown", "options")),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("expires_at", sa.Float),
        sa.Column("revoked_at", sa.Float),
    )
    op.drop_table("ledger_version")


def downgrade() -> None:
    op.drop_table("keys")
    op.drop_table("holds")
    op.drop_table("accounts")
    # In a file that was made at once, and not by these steps, SQLite knows no name of it.
    named = {"uq": "%(table_name)s_%(column_0_name)s_key"}
    with op.batch_alter_table("requests", naming_convention=named) as table:
        table.drop_constraint("requests_uid_key", type_="unique")
        for name in ("uid", "state", "tries", *_ADDED):
            table.drop_column(name)
    version = op.create_table("ledger_version", sa.Column("version", sa.Integer, primary_key=True))
    op.bulk_insert(version, [{"version": 1}])
