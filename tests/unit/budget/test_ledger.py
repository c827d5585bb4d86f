"""The ledger loses nothing it took, says so when it cannot write, and survives a killed process."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Engine, create_engine

from model_gateway.budget import ledger as ledger_module
from model_gateway.budget.ledger import Ledger
from model_gateway.config.errors import StartupError
from model_gateway.config.schema import LedgerConfig
from model_gateway.domain.record import Attempt, Record
from model_gateway.domain.route import Tier
from model_gateway.domain.usage import Usage
from model_gateway.storage import database

TRIES = (
    '[{"provider":"a","model":"m","outcome":"cancelled","duration_ms":0.0,"input_tokens":0,"output_tokens":0,"cost_nano":0},'
    '{"provider":"openai","model":"m","outcome":"cancelled","duration_ms":0.0,"input_tokens":0,"output_tokens":0,"cost_nano":0}]'
)


def opened(path: Path, flush_interval: int = 20) -> Ledger:
    ledger = Ledger(LedgerConfig(path=str(path), flush_interval=flush_interval))
    ledger.start()
    return ledger


def rows(path: Path, what: str = "count(*)") -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(f"SELECT {what} FROM requests").fetchall()  # noqa: S608  literals of this file


def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.01)


def test_every_row_arrives_in_order(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "ledger.db"
    ledger = opened(path)
    for number in range(20_000):
        ledger.append(Record(f"r{number}", "http", float(number)))
    assert ledger.close() == 0
    assert rows(path, "request_id") == [(f"r{number}",) for number in range(20_000)]
    assert (ledger.dropped, ledger.pending, ledger.healthy) == (0, 0, True)


def test_every_fact_has_its_column(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    record = Record("r1", "grpc", 1700000000.5, "acme", "ci", "auto", True, "ok", "", "openai", "gpt-4o-mini", 0.45)
    record.asked_tier, record.tier, record.route_reason = Tier.HYBRID, Tier.LOCAL, "fallback"
    record.cache, record.attempts = "miss", [Attempt("a", "m"), Attempt("openai", "m")]
    record.usage = Usage(10, 20, 3, 4, estimated=True)
    record.cost_nano, record.estimate_nano, record.first_token_s, record.duration_s = 5, 6, 0.25, 1.5
    record.hold_nano, record.baseline_nano, record.uncached_nano = 7, 8, 9
    record.labels = {"user_id": "u", "城市": "北京"}
    ledger = opened(path)
    ledger.append(record)
    ledger.append(Record("r2", "http", 1.0))
    ledger.close()
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        first, second = (dict(row) for row in connection.execute("SELECT * FROM requests ORDER BY id"))
    assert first == {
        "id": 1, "request_id": "r1", "started_at": 1700000000.5, "door": "grpc", "tenant": "acme", "key_name": "ci",
        "asked_model": "auto", "stream": 1, "status": "ok", "state": "estimated", "uid": record.uid,
        "error": "", "provider": "openai", "model": "gpt-4o-mini",
        "asked_tier": "hybrid", "tier": "local", "route_reason": "fallback", "score": 0.45, "cache": "miss",
        "attempts": 2, "tries": TRIES, "input_tokens": 10, "output_tokens": 20, "cached_input_tokens": 3,
        "reasoning_tokens": 4,
        "usage_estimated": 1, "cost_nano": 5, "estimate_nano": 6, "baseline_nano": 8,
        "uncached_nano": 9, "hold_nano": 7, "first_token_ms": 250.0,
        "duration_ms": 1500.0,
        "labels": '{"user_id":"u","城市":"北京"}',
    }  # fmt: skip
    assert (second["score"], second["first_token_ms"], second["labels"]) == (None, None, "{}")


def test_odd_values_are_made_to_fit_and_hold_up_nobody(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    ledger = opened(path)
    ledger.append(Record("before", "http", 1.0))
    ledger.append(Record("half \ud800", "http", 1.0, cost_nano=2**70, labels={"a": "\udfff"}))
    ledger.append(Record("nan", "http", float("nan")))  # stored as NULL, which the column refuses
    ledger.append(Record("after", "http", 1.0))
    assert ledger.close() == 0
    assert rows(path, "request_id") == [("before",), ("half ?",), ("after",)]
    assert ledger.dropped == 1


def test_a_locked_database_is_reported_and_recovers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BUSY_TIMEOUT_S", 0.05)
    path = tmp_path / "ledger.db"
    ledger = opened(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        for number in range(10):
            ledger.append(Record(f"r{number}", "http", 1.0))
        until(lambda: not ledger.healthy)
        assert "locked" in ledger.last_error
        assert ledger.pending == 10
        other.execute("ROLLBACK")
    until(lambda: ledger.pending == 0 and ledger.healthy)
    assert ledger.close() == 0
    assert rows(path) == [(10,)]


def test_what_close_could_not_write_is_written_by_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_TIMEOUT_S", 0.05)
    path = tmp_path / "ledger.db"
    ledger = opened(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        for _ in range(3):
            ledger.append(Record("r", "http", 1.0))
        begun = time.monotonic()
        assert ledger.close(timeout_s=0.2) == 0
        assert time.monotonic() - begun < 2
    assert (ledger.dropped, ledger.healthy) == (0, False)
    assert rows(path) == [(0,)]
    opened(path).close()
    assert rows(path) == [(3,)]
    assert list(Path(f"{path}.journals").iterdir()) == []


def test_beyond_its_capacity_rows_wait_in_the_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "CAPACITY", 10)
    path = tmp_path / "ledger.db"
    ledger = opened(path, flush_interval=60_000)
    for _ in range(15):
        ledger.append(Record("r", "http", 1.0))
    assert (ledger.pending, ledger.dropped, ledger.healthy) == (15, 0, False)
    assert "in the journal" in ledger.last_error
    assert ledger.close() == 0
    assert rows(path) == [(15,)]
    assert list(Path(f"{path}.journals").iterdir()) == []


def test_a_row_after_close_is_counted(tmp_path: Path) -> None:
    ledger = opened(tmp_path / "ledger.db")
    ledger.close()
    ledger.append(Record("late", "http", 1.0))
    assert (ledger.dropped, ledger.close()) == (1, 0)


def test_a_disabled_ledger_writes_nothing_and_is_healthy(tmp_path: Path) -> None:
    ledger = Ledger(LedgerConfig(enabled=False, path=str(tmp_path / "ledger.db")))
    ledger.start()
    ledger.append(Record("r", "http", 1.0))
    ledger.close()
    assert ledger.healthy
    assert ledger.dropped == 0
    assert list(tmp_path.iterdir()) == []


def test_it_can_be_opened_again_and_by_two_at_once(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    opened(path).close()
    one, two = opened(path), opened(path)
    for number in range(1000):
        (one if number % 2 else two).append(Record("r", "http", 1.0))
    assert one.close() + two.close() == 0
    assert rows(path) == [(1000,)]


def _file_for_folder(path: Path) -> Path:
    path.write_text("")
    return path / "ledger.db"


def _folder_for_file(path: Path) -> Path:
    path.mkdir()
    return path


def _no_database(path: Path) -> Path:
    path.write_text("not a database" * 100)
    return path


def _newer_version(path: Path) -> Path:
    opened(path).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.commit()
    return path


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (_file_for_folder, "cannot be created"),
        (_folder_for_file, "unable to open"),
        (_no_database, "not a database"),
        (_newer_version, "layout 9999"),
    ],
)
def test_a_path_that_cannot_serve_is_explained(tmp_path: Path, spoil: Callable[[Path], Path], says: str) -> None:
    path = spoil(tmp_path / "x")
    with pytest.raises(StartupError, match=says) as refused:
        opened(path)
    assert str(path.parent) in refused.value.message
    assert refused.value.remedy


CRASH = """
import os, signal, sys, time
from model_gateway.budget.ledger import Ledger
from model_gateway.config.schema import LedgerConfig
from model_gateway.domain.record import Record
ledger = Ledger(LedgerConfig(path=sys.argv[1], flush_interval=50))
ledger.start()
for number in range(2000):
    ledger.append(Record(f"r{number}", "http", float(number)))
while ledger.pending:
    time.sleep(0.01)
for number in range(2000, 2100):
    ledger.append(Record(f"r{number}", "http", float(number)))
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_a_killed_process_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    ended = subprocess.run([sys.executable, "-c", CRASH, str(path)], timeout=60, check=False)
    assert ended.returncode == -signal.SIGKILL
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    ledger = opened(path)
    ledger.append(Record("next", "http", 1.0))
    assert ledger.close() == 0
    assert rows(path) == [(2101,)]
    assert rows(path, "count(DISTINCT request_id)") == [(2101,)]


def test_a_server_that_has_gone_is_known_by_its_drivers_own_error(tmp_path: Path) -> None:
    """Rows are inserted past SQLAlchemy, so that what the driver raises comes as it is: nobody may wait for it."""
    ledger = Ledger(LedgerConfig(path=str(tmp_path / "ledger.db")))
    engine = create_engine("postgresql+psycopg://nobody@127.0.0.1:9/none")

    def gone(_engine: Engine) -> None:
        raise psycopg.OperationalError("the server closed the connection unexpectedly")

    assert not ledger._guarded(gone, engine)
    assert not ledger.reachable and "closed the connection" in ledger.last_error
    engine.dispose()
