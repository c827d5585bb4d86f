"""Answers that are kept for repetitions of their requests."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "answers",
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("fingerprint", sa.Text, nullable=False),
        sa.Column("uid", sa.Text, nullable=False),
        sa.Column("answer", sa.LargeBinary),
        sa.Column("expires_at", sa.Float, nullable=False),
    )
    op.create_index("answers_expires_at", "answers", ["expires_at"])


def downgrade() -> None:
    op.drop_table("answers")
