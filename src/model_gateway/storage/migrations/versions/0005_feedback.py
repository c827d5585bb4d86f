"""What callers thought of answers; and requests are found by the ids that callers gave them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "feedback",
        sa.Column("uid", sa.Text, primary_key=True),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("score", sa.Float, nullable=False),
        sa.Column("comment", sa.Text, nullable=False),
        sa.Column("labels", sa.Text, nullable=False),
    )
    given = sa.text("request_id <> uid")
    op.create_index("requests_given_id", "requests", ["request_id"], sqlite_where=given, postgresql_where=given)


def downgrade() -> None:
    op.drop_index("requests_given_id", "requests")
    op.drop_table("feedback")
