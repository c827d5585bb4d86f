"""The audit log. The way down leaves it where it is: an older gateway does not look at it, and no audit log is lost."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_MESSAGE = "the audit log is append-only"
_SQLITE = (
    f"CREATE TRIGGER audit_no_update BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, '{_MESSAGE}'); END",
    f"CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, '{_MESSAGE}'); END",
    "CREATE TRIGGER audit_no_replace BEFORE INSERT ON audit"  # noqa: S608 - our own words
    " WHEN EXISTS (SELECT 1 FROM audit WHERE seq = NEW.seq OR digest = NEW.digest)"
    f" BEGIN SELECT RAISE(ABORT, '{_MESSAGE}'); END",
)
_POSTGRESQL = (
    "CREATE OR REPLACE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS"
    f" $$ BEGIN RAISE EXCEPTION '{_MESSAGE}'; END $$",
    "CREATE TRIGGER audit_no_change BEFORE UPDATE OR DELETE OR TRUNCATE ON audit"
    " FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only()",
)


def upgrade() -> None:
    connection = op.get_bind()
    if "audit" in sa.inspect(connection).get_table_names():
        return  # of a gateway that went back to an older version and has come again
    op.create_table(
        "audit",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True, autoincrement=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("actor", "source", "action", "target", "outcome")),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("detail", "previous")),
        sa.Column("digest", sa.Text, nullable=False, unique=True),
    )
    op.create_index("audit_at", "audit", ["at"])
    for statement in _SQLITE if connection.dialect.name == "sqlite" else _POSTGRESQL:
        op.execute(sa.text(statement))


def downgrade() -> None:
    pass
