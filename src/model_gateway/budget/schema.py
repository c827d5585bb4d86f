"""The ledger's tables: one row per request, and the version of that layout. Decides no policy, opens no database."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, Float, Index, Integer, MetaData, Table, Text

SCHEMA_VERSION = 1

metadata = MetaData()

requests = Table(
    "requests",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("request_id", Text, nullable=False),  # the caller's own, so not unique
    Column("started_at", Float, nullable=False),  # epoch seconds
    Column("door", Text, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("key_name", Text, nullable=False),
    Column("asked_model", Text, nullable=False),
    Column("stream", Boolean, nullable=False),
    Column("status", Text, nullable=False),  # ok, cancelled or an ErrorKind
    Column("error", Text, nullable=False),
    Column("provider", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("asked_tier", Text, nullable=False),
    Column("tier", Text, nullable=False),
    Column("route_reason", Text, nullable=False),
    Column("score", Float),  # NULL: never assessed
    Column("cache", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("input_tokens", Integer, nullable=False),
    Column("output_tokens", Integer, nullable=False),
    Column("cached_input_tokens", Integer, nullable=False),
    Column("reasoning_tokens", Integer, nullable=False),
    Column("usage_estimated", Boolean, nullable=False),
    Column("cost_nano", Integer, nullable=False),  # nano-USD
    Column("estimate_nano", Integer, nullable=False),  # nano-USD
    Column("first_token_ms", Float),  # NULL: no token came
    Column("duration_ms", Float, nullable=False),
    Column("labels", Text, nullable=False),  # a JSON object
)

# Every report asks for a span of time; rows arrive in that order, so the index costs little.
Index("requests_started_at", requests.c.started_at)

ledger_version = Table("ledger_version", metadata, Column("version", Integer, primary_key=True))
