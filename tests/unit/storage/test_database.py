"""The layout made at once is the layout made step by step, and data survives the way up and down."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import Engine, MetaData, inspect, text
from sqlalchemy.schema import CreateTable

from model_gateway.config.errors import StartupError
from model_gateway.config.schema import LedgerConfig
from model_gateway.storage.database import HEAD, migrate, open_database, version_of

OLD = """
CREATE TABLE requests (
    id INTEGER NOT NULL PRIMARY KEY, request_id TEXT NOT NULL, started_at FLOAT NOT NULL, door TEXT NOT NULL,
    tenant TEXT NOT NULL, key_name TEXT NOT NULL, asked_model TEXT NOT NULL, stream BOOLEAN NOT NULL,
    status TEXT NOT NULL, error TEXT NOT NULL, provider TEXT NOT NULL, model TEXT NOT NULL, asked_tier TEXT NOT NULL,
    tier TEXT NOT NULL, route_reason TEXT NOT NULL, score FLOAT, cache TEXT NOT NULL, attempts INTEGER NOT NULL,
    input_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL, cached_input_tokens INTEGER NOT NULL,
    reasoning_tokens INTEGER NOT NULL, usage_estimated BOOLEAN NOT NULL, cost_nano INTEGER NOT NULL,
    estimate_nano INTEGER NOT NULL, first_token_ms FLOAT, duration_ms FLOAT NOT NULL, labels TEXT NOT NULL
);
CREATE INDEX requests_started_at ON requests (started_at);
CREATE TABLE ledger_version (version INTEGER NOT NULL PRIMARY KEY);
INSERT INTO ledger_version VALUES (1);
"""
ROW = (
    "INSERT INTO requests VALUES ({id}, 'r{id}', 1.5, 'http', 't', 'k', 'auto', false, '{status}', '', 'p', 'm',"
    " 'local', 'local', 'why', 0.5, 'miss', {attempts}, 10, 20, 3, 4, false, {cost}, 8, NULL, 12.5, '{{}}')"
)
ROWS = [
    ROW.format(id=1, status="ok", attempts=1, cost=7),
    ROW.format(id=2, status="model_unavailable", attempts=2, cost=0),
    ROW.format(id=3, status="unauthenticated", attempts=0, cost=0),
]


def layout(engine: Engine) -> dict[str, str]:
    """Every table as the statement that would make it, and its indexes."""
    found = MetaData()
    found.reflect(engine)
    told: dict[str, str] = {}
    for table in found.sorted_tables:
        if table.name == "alembic_version":
            continue
        columns = sorted(str(CreateTable(table).compile(engine)).replace(",", "").splitlines())
        unique = sorted(str(each["column_names"]) for each in inspect(engine).get_unique_constraints(table.name))
        indexes = sorted(str(each["column_names"]) for each in inspect(engine).get_indexes(table.name))
        lines = [line.strip() for line in columns if "CONSTRAINT" not in line and "UNIQUE" not in line]
        told[table.name] = repr((lines, unique, indexes))
    return told


def first_layout(config: LedgerConfig) -> Engine:
    """A database as the first version left it."""
    engine = open_database(config)
    with engine.begin() as connection:
        for table in ("requests", "accounts", "holds", "keys", "answers", "audit", "feedback", "alembic_version"):
            connection.execute(text(f"DROP TABLE {table}"))
        script = (
            OLD
            if config.url is None
            else OLD.replace("INTEGER NOT NULL PRIMARY KEY, request", "SERIAL NOT NULL PRIMARY KEY, request")
        )
        for statement in [*script.split(";")[:-1], *ROWS]:
            connection.execute(text(statement))
    return engine


def test_steps_lead_to_the_layout_that_a_new_database_gets(config: LedgerConfig) -> None:
    engine = open_database(config)
    fresh = layout(engine)
    engine.dispose()
    old = first_layout(config)
    old.dispose()
    migrated = open_database(config)
    found = layout(migrated)
    migrated.dispose()
    assert found.keys() == fresh.keys()
    for name, lines in fresh.items():
        assert found[name] == lines, name


def test_rows_survive_the_way_up_and_down(config: LedgerConfig) -> None:
    first_layout(config).dispose()
    engine = open_database(config)
    facts = text("SELECT request_id, status, attempts, cost_nano, labels FROM requests ORDER BY id")
    with engine.begin() as connection:
        assert version_of(connection) == HEAD
        states = connection.execute(text("SELECT uid, state, hold_nano FROM requests ORDER BY id")).all()
        assert [tuple(state) for state in states] == [
            ("old_1", "settled", 0),
            ("old_2", "absorbed", 0),
            ("old_3", "refused", 0),
        ]
        up = connection.execute(facts).all()
        migrate(connection, "0001")
    with engine.begin() as connection:
        assert "accounts" not in inspect(connection).get_table_names()
        assert connection.execute(facts).all() == up
        migrate(connection, HEAD)
    with engine.begin() as connection:
        assert connection.execute(facts).all() == up and len(up) == len(ROWS)
        assert version_of(connection) == HEAD
    engine.dispose()


def test_opening_twice_changes_nothing(config: LedgerConfig) -> None:
    open_database(config).dispose()
    engine = open_database(config)
    with engine.begin() as connection:
        assert version_of(connection) == HEAD
    engine.dispose()


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("nonsense", "ledger.url cannot be read"),
        ("oracle9://x/y", "ledger.url cannot be read"),
        ("postgresql://u:secret@127.0.0.1:1/x", "ledger.url: postgresql"),
    ],
)
def test_an_address_that_cannot_serve_is_explained_without_its_password(url: str, says: str) -> None:
    with pytest.raises(StartupError, match=says) as refused:
        open_database(LedgerConfig(url=SecretStr(url)))
    assert "secret" not in refused.value.message and refused.value.remedy


def test_an_old_file_is_opened_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(OLD + ";".join(ROWS))
    open_database(LedgerConfig(path=str(path))).dispose()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*), count(DISTINCT uid) FROM requests").fetchone() == (3, 3)
