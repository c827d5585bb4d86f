"""The first layout: one row per request, its version in a table of its own."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "requests",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("request_id", sa.Text, nullable=False),
        sa.Column("started_at", sa.Float, nullable=False),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("door", "tenant", "key_name", "asked_model")),
        sa.Column("stream", sa.Boolean, nullable=False),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("status", "error", "provider", "model")),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("asked_tier", "tier", "route_reason")),
        sa.Column("score", sa.Float),
        sa.Column("cache", sa.Text, nullable=False),
        *(sa.Column(name, sa.Integer, nullable=False) for name in ("attempts", "input_tokens", "output_tokens")),
        *(sa.Column(name, sa.Integer, nullable=False) for name in ("cached_input_tokens", "reasoning_tokens")),
        sa.Column("usage_estimated", sa.Boolean, nullable=False),
        *(sa.Column(name, sa.Integer, nullable=False) for name in ("cost_nano", "estimate_nano")),
        sa.Column("first_token_ms", sa.Float),
        sa.Column("duration_ms", sa.Float, nullable=False),
        sa.Column("labels", sa.Text, nullable=False),
    )
    op.create_index("requests_started_at", "requests", ["started_at"])
    version = op.create_table("ledger_version", sa.Column("version", sa.Integer, primary_key=True))
    op.bulk_insert(version, [{"version": 1}])


def downgrade() -> None:
    op.drop_table("ledger_version")
    op.drop_table("requests")
