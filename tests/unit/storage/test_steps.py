"""Every layout's rows go up and down unharmed; a killed migration harms nothing; of several starters one migrates."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import Connection, Engine, MetaData, Table, text

from model_gateway.config.errors import StartupError
from model_gateway.config.schema import LedgerConfig
from model_gateway.storage import audit
from model_gateway.storage.audit import Actor
from model_gateway.storage.database import HEAD, engine_of, migrate, open_database, version_of
from model_gateway.storage.stepping import StepRefused, downgrade, layouts

Rows = Mapping[str, Sequence[tuple[Any, ...]]]

BY = Actor("os:test", "a test")
PARTS = {
    "0001": {"requests"},
    "0002": {"accounts", "holds", "keys"},
    "0003": {"answers"},
    "0004": {"audit"},
    "0005": {"feedback"},
}
"""Which tables came with which layout."""

STARTER = """
import os, signal, sys, msgspec
from sqlalchemy import event
from model_gateway.config.schema import LedgerConfig
from model_gateway.storage import database
config = LedgerConfig.model_validate(msgspec.json.decode(sys.argv[1]))
last = int(sys.argv[2])
made = database.engine_of
def watched(config):
    engine, seen = made(config), []
    @event.listens_for(engine, "before_cursor_execute")
    def count(connection, cursor, statement, *rest):
        if statement.split()[0] in ("CREATE", "ALTER", "INSERT", "UPDATE", "DROP"):
            seen.append(statement)
            if len(seen) == last:
                os.kill(os.getpid(), signal.SIGKILL)
    return engine
database.engine_of = watched
print("ready", flush=True)
sys.stdin.readline()
database.open_database(config).dispose()
"""


def tables(connection: Connection) -> Mapping[str, Table]:
    found = MetaData()
    found.reflect(connection)
    return {name: table for name, table in found.tables.items() if name not in ("alembic_version", "ledger_version")}


def filled(connection: Connection, count: int = 3) -> None:
    """Rows with something in every column, by SQL that knows nothing of our code."""
    binary = "BLOB" if connection.dialect.name == "sqlite" else "BYTEA"
    for name, table in tables(connection).items():
        if name == "audit":
            continue  # has rows of its own, and takes none that do not continue them
        columns = ", ".join(table.columns.keys())
        for number in range(1, count + 1):
            values = ", ".join(
                literal(column.type.python_type, column.name, number, binary) for column in table.columns
            )
            connection.execute(text(f"INSERT INTO {name} ({columns}) VALUES ({values})"))  # noqa: S608


def literal(kind: type, name: str, number: int, binary: str) -> str:
    if kind is bool:
        return "true" if number % 2 else "false"
    if kind is bytes:
        return f"CAST('b{number}' AS {binary})"
    if kind is int:
        return str(number)
    if kind is str:
        return {"labels": '\'{"a": "ü"}\'', "tries": "'[]'", "options": "'{}'"}.get(name, f"'{name} {number}'")
    return f"{number}.25"


def held(connection: Connection, only: Mapping[str, Sequence[str]] | None = None) -> Rows:
    found: dict[str, Sequence[tuple[Any, ...]]] = {}
    for name, table in tables(connection).items():
        if name == "audit" or (only is not None and name not in only):
            continue
        names = [*table.columns.keys()] if only is None else only[name]
        rows = connection.execute(text(f"SELECT {', '.join(names)} FROM {name} ORDER BY 1, 2")).all()  # noqa: S608
        found[name] = [tuple(row) for row in rows]
    return found


def columns(connection: Connection) -> Mapping[str, Sequence[str]]:
    return {name: [*table.columns.keys()] for name, table in tables(connection).items() if name != "audit"}


def made_of(config: LedgerConfig, revision: str) -> Engine:
    """A database of that layout, as the steps up to it make it, with rows."""
    engine = engine_of(config)
    with engine.begin() as connection:
        migrate(connection, revision)
        filled(connection)
    return engine


@pytest.mark.parametrize("revision", layouts())
def test_what_a_layout_holds_goes_up_down_and_up_again(config: LedgerConfig, revision: str) -> None:
    engine = made_of(config, revision)
    with engine.begin() as connection:
        before, shape = held(connection), columns(connection)
    expected = set[str]().union(*(PARTS[each] for each in layouts() if each <= revision)) - {"audit"}
    assert {name for name, rows in before.items() if len(rows) == 3} == expected
    engine.dispose()
    engine = open_database(config)
    with engine.begin() as connection:
        assert version_of(connection) == HEAD
        assert held(connection, shape) == before, "up"
        migrate(connection, revision)
        assert version_of(connection) == revision
        assert held(connection) == before, "down: all that this layout can hold, and nothing else"
    engine.dispose()
    engine = open_database(config)
    with engine.begin() as connection:
        assert version_of(connection) == HEAD
        assert held(connection, shape) == before, "up again"
    engine.dispose()


@pytest.mark.parametrize("revision", [each for each in layouts() if each < HEAD])
def test_a_database_that_was_made_at_once_goes_down_and_up(config: LedgerConfig, revision: str) -> None:
    engine = open_database(config)
    with engine.begin() as connection:
        filled(connection)
        whole = held(connection)
        migrate(connection, revision)
        kept = held(connection)
        shape = columns(connection)
        migrate(connection, HEAD)
        assert held(connection, shape) == kept
    assert {name: len(rows) for name, rows in kept.items()} == dict.fromkeys(kept, 3) and set(kept) <= set(whole)
    engine.dispose()


def test_the_way_back_loses_nothing_unless_it_is_meant_so(config: LedgerConfig) -> None:
    engine = made_of(config, HEAD)
    with engine.begin() as connection:
        before = held(connection)
    with pytest.raises(StepRefused, match=r"has no place for .*3 rows of keys") as refused:
        downgrade(engine, "0001", BY, time.time(), force=False)
    assert "hold_nano, state, tries" in refused.value.message and "--force" in refused.value.remedy
    with engine.begin() as connection:
        assert (version_of(connection), held(connection)) == (HEAD, before), "nothing has changed"
        assert audit.entries(connection) == [], "what did not happen is not in the log"
    with pytest.raises(StepRefused, match="3 rows of feedback"):
        downgrade(engine, "0004", BY, time.time(), force=False)
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM feedback"))
    step = downgrade(engine, "0003", BY, time.time(), force=False)
    assert (step.was, step.now, step.lost) == (HEAD, "0003", [])
    step = downgrade(engine, "0001", BY, time.time(), force=True)
    assert any("keys" in each for each in step.lost)
    for revision in ("0001", "0002", "9999", ""):
        with pytest.raises(StepRefused, match="is not an older one"):
            downgrade(engine, revision, BY, time.time(), force=True)
    engine.dispose()
    engine = open_database(config)
    with engine.begin() as connection:
        told = [(each.action, each.target) for each in audit.entries(connection)]
        assert told == [("ledger.upgraded", HEAD), ("ledger.downgraded", "0001"), ("ledger.downgraded", "0003")]
        assert not audit.verify(connection).fault, "the log was kept through all of it"
    engine.dispose()


def starter(config: LedgerConfig, last: int) -> subprocess.Popen[str]:
    options = {"path": config.path, **({"url": config.url.get_secret_value()} if config.url else {})}
    arguments = [sys.executable, "-c", STARTER, msgspec.json.encode(options).decode(), str(last)]
    return subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("last", [12])
def test_a_migration_that_is_killed_leaves_all_as_it_was(config: LedgerConfig, last: int) -> None:
    engine = made_of(config, "0001")
    with engine.begin() as connection:
        before, shape = held(connection), columns(connection)
    engine.dispose()
    running = starter(config, last)
    running.communicate("go\n", timeout=60)
    assert running.returncode == -signal.SIGKILL, "it was killed in the middle of its work"
    engine = engine_of(config)
    with engine.connect() as connection:
        assert version_of(connection) == "0001" and held(connection) == before
    engine.dispose()
    engine = open_database(config)
    with engine.begin() as connection:
        assert version_of(connection) == HEAD and held(connection, shape) == before
    engine.dispose()


def test_of_several_that_start_at_once_one_migrates(config: LedgerConfig) -> None:
    engine = made_of(config, "0001")
    engine.dispose()
    several = [starter(config, 0) for _ in range(2)]
    for each in several:
        assert each.stdout is not None and each.stdout.readline() == "ready\n"
    for each in several:
        assert each.stdin is not None
        each.stdin.write("go\n")
        each.stdin.flush()
    for each in several:
        each.communicate(timeout=60)
    assert [each.returncode for each in several] == [0, 0]
    engine = open_database(config)
    with engine.begin() as connection:
        assert [each.action for each in audit.entries(connection)] == ["ledger.upgraded"]
        assert len(held(connection)["requests"]) == 3
    engine.dispose()


def test_a_database_from_the_future_is_refused_and_untouched(config: LedgerConfig) -> None:
    engine = made_of(config, HEAD)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0099'"))
        before = held(connection)
    engine.dispose()
    with pytest.raises(StartupError, match=f"has layout 0099, this gateway knows {HEAD}") as refused:
        open_database(config)
    assert "ledger downgrade" in refused.value.remedy and refused.value.exit_code == 1
    engine = engine_of(config)
    with engine.begin() as connection:
        assert held(connection) == before
    with pytest.raises(StepRefused, match="layout 0099"):
        downgrade(engine, "0003", BY, time.time(), force=True)
    engine.dispose()


def test_a_new_file_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    engine = open_database(LedgerConfig(path=str(path)))
    with engine.begin() as connection:
        filled(connection)
        modes = {each.name: each.stat().st_mode & 0o777 for each in tmp_path.iterdir()}
    engine.dispose()
    assert modes == {"ledger.db": 0o600, "ledger.db-wal": 0o600, "ledger.db-shm": 0o600}
