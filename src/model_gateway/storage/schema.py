"""The tables, the same for SQLite and PostgreSQL. Decides no policy, opens no database.

A change here needs a step in `migrations/versions`; a test compares the two.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Float, Index, Integer, LargeBinary, MetaData, Table, Text

metadata = MetaData()

requests = Table(
    "requests",
    metadata,
    Column("id", BigInteger().with_variant(Integer(), "sqlite"), primary_key=True),
    Column("uid", Text, nullable=False, unique=True),  # ours, once per request: what makes a second writing harmless
    Column("request_id", Text, nullable=False),  # the caller's own, so not unique
    Column("started_at", Float, nullable=False),  # epoch seconds
    Column("door", Text, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("key_name", Text, nullable=False),
    Column("asked_model", Text, nullable=False),
    Column("stream", Boolean, nullable=False),
    Column("status", Text, nullable=False),  # ok, cancelled, interrupted or an ErrorKind
    # settled: charged as the provider counted; estimated: as we did; absorbed: nothing to charge; refused: never begun
    Column("state", Text, nullable=False),
    Column("error", Text, nullable=False),
    Column("provider", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("asked_tier", Text, nullable=False),
    Column("tier", Text, nullable=False),
    Column("route_reason", Text, nullable=False),
    Column("score", Float),  # NULL: never assessed
    Column("cache", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("tries", Text, nullable=False),  # a JSON list, where there was more than one attempt
    Column("input_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("cached_input_tokens", BigInteger, nullable=False),
    Column("reasoning_tokens", BigInteger, nullable=False),
    Column("usage_estimated", Boolean, nullable=False),
    Column("cost_nano", BigInteger, nullable=False),  # nano-USD
    Column("estimate_nano", BigInteger, nullable=False),  # nano-USD
    Column("baseline_nano", BigInteger, nullable=False),  # nano-USD, what the strongest model would have cost
    Column("uncached_nano", BigInteger, nullable=False),  # nano-USD, what a hit in the cache would have cost without it
    Column(
        "hold_nano", BigInteger, nullable=False
    ),  # nano-USD, what was reserved; -1: nothing could be; -1-n: n from a lease
    Column("first_token_ms", Float),  # NULL: no token came
    Column("duration_ms", Float, nullable=False),
    Column("labels", Text, nullable=False),  # a JSON object
)

# Every report asks for a span of time; rows arrive in that order, so the index costs little.
Index("requests_started_at", requests.c.started_at)

# Feedback comes by the id that the caller knows. Most ids are ours, and found by `uid`: only the others are indexed.
# Told in SQL: for the keyword `postgresql_where` SQLAlchemy would load that dialect (3 MB) wherever this is imported.
GIVEN_IDS = "CREATE INDEX IF NOT EXISTS requests_given_id ON requests (request_id) WHERE request_id != uid"

# What callers thought of their answers: the last word on each request.
feedback = Table(
    "feedback",
    metadata,
    Column("uid", Text, primary_key=True),  # of the request
    Column("at", Float, nullable=False),  # epoch seconds
    Column("score", Float, nullable=False),  # 0-1
    Column("comment", Text, nullable=False),
    Column("labels", Text, nullable=False),  # a JSON object
)


# What each budget's period has spent and holds, in nano-USD.
accounts = Table(
    "accounts",
    metadata,
    Column("account", Text, primary_key=True),  # such as key:alice
    Column("period", Text, primary_key=True),  # 2026-11-23, 2026-11 or total
    Column("spent_nano", BigInteger, nullable=False),
    Column("held_nano", BigInteger, nullable=False),
)

# Reservations of requests that are not settled, and leases (`lease:NAME`; -1: taken for spent). `expires_at`: epoch
# seconds after which its owner is taken for dead.
holds = Table(
    "holds",
    metadata,
    Column("uid", Text, primary_key=True),
    Column("account", Text, primary_key=True),
    Column("period", Text, primary_key=True),
    Column("amount_nano", BigInteger, nullable=False),
    Column("expires_at", Float, nullable=False),
)

# Answers for repetitions of requests with an idempotency key. `answer` NULL: `uid` is at it, and says so again before
# `expires_at` (epoch seconds); afterwards it is taken for dead, and a kept answer is forgotten.
answers = Table(
    "answers",
    metadata,
    Column("key", Text, primary_key=True),  # a digest of caller and key
    Column("fingerprint", Text, nullable=False),  # of the request
    Column("uid", Text, nullable=False),
    Column("answer", LargeBinary),
    Column("expires_at", Float, nullable=False),
)
Index("answers_expires_at", answers.c.expires_at)

# Callers' keys that commands make. Times in epoch seconds.
keys = Table(
    "keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("digest", Text, nullable=False, unique=True),  # an HMAC, in hexadecimal digits
    Column("shown", Text, nullable=False),
    Column("options", Text, nullable=False),  # a JSON object
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float),
    Column("revoked_at", Float),
)

# The audit log (audit.py): appended to, and never changed; triggers see to it.
audit = Table(
    "audit",
    metadata,
    Column("seq", BigInteger().with_variant(Integer(), "sqlite"), primary_key=True, autoincrement=False),
    Column("at", BigInteger, nullable=False),  # epoch milliseconds
    Column("actor", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("detail", Text, nullable=False),  # a JSON object
    Column("previous", Text, nullable=False),  # the digest of the row before
    Column("digest", Text, nullable=False, unique=True),
)
Index("audit_at", audit.c.at)

_ONLY_APPENDED = "the audit log is append-only"
GUARDS = {
    "sqlite": (
        *(
            f"CREATE TRIGGER IF NOT EXISTS audit_no_{verb.lower()} BEFORE {verb} ON audit"
            f" BEGIN SELECT RAISE(ABORT, '{_ONLY_APPENDED}'); END"
            for verb in ("UPDATE", "DELETE")
        ),
        # INSERT OR REPLACE would remove a row without asking the trigger of DELETE.
        "CREATE TRIGGER IF NOT EXISTS audit_no_replace BEFORE INSERT ON audit"  # noqa: S608 - our own words
        " WHEN EXISTS (SELECT 1 FROM audit WHERE seq = NEW.seq OR digest = NEW.digest)"
        f" BEGIN SELECT RAISE(ABORT, '{_ONLY_APPENDED}'); END",
    ),
    "postgresql": (
        "CREATE OR REPLACE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$ BEGIN RAISE EXCEPTION '{_ONLY_APPENDED}'; END $$",
        "DROP TRIGGER IF EXISTS audit_no_change ON audit",
        "CREATE TRIGGER audit_no_change BEFORE UPDATE OR DELETE OR TRUNCATE ON audit"
        " FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only()",
    ),
}
"""By dialect: what makes the audit log's table one that is only appended to. To be run again does no harm."""
