"""A server that says nothing is given up in time, and its connection is not used again."""

from __future__ import annotations

import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import psutil
import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import OperationalError

from model_gateway.storage import patience as patience_module
from model_gateway.storage.patience import make_patient, patience


@pytest.fixture
def engine(postgres: str) -> Generator[Engine]:
    found = create_engine(postgres.replace("postgresql://", "postgresql+psycopg://"))
    make_patient(found)
    with patience(60):
        pass  # it leaves nothing behind
    yield found
    found.dispose()


def asked(engine: Engine, statement: str) -> Any:
    with engine.connect() as connection:
        return connection.execute(text(statement)).scalar()


def test_what_is_answered_in_time_is_as_ever(engine: Engine) -> None:
    assert asked(engine, "SELECT 41 + 1") == 42
    with pytest.raises(Exception, match="no_such_table"):
        asked(engine, "SELECT * FROM no_such_table")
    assert asked(engine, "SELECT 1") == 1


def test_a_late_answer_is_given_up_and_never_taken_for_another_ones(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience_module, "PATIENCE_S", 0.3)
    backend = asked(engine, "SELECT pg_backend_pid()")
    begun = time.monotonic()
    with pytest.raises(OperationalError, match=r"does not answer within 0\.3 s"):
        asked(engine, "SELECT 'late' FROM pg_sleep(5)")
    assert time.monotonic() - begun < 3
    assert asked(engine, "SELECT 'mine'") == "mine"
    assert asked(engine, "SELECT pg_backend_pid()") != backend


def test_a_frozen_server_is_given_up(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience_module, "PATIENCE_S", 0.3)
    with engine.connect() as connection:
        backend = psutil.Process(connection.execute(text("SELECT pg_backend_pid()")).scalar_one())
        backend.suspend()
        try:
            with pytest.raises(OperationalError, match="does not answer"):
                connection.execute(text("SELECT 1"))
        finally:
            backend.resume()
    assert asked(engine, "SELECT 1") == 1


def test_a_report_may_take_longer_and_only_it(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience_module, "PATIENCE_S", 0.3)
    with patience(30):
        with patience(0.2), pytest.raises(OperationalError, match=r"within 0\.2 s"):
            asked(engine, "SELECT pg_sleep(2)")
        asked(engine, "SELECT pg_sleep(0.7)")
    with pytest.raises(OperationalError, match=r"within 0\.3 s"):
        asked(engine, "SELECT pg_sleep(2)")


def test_connections_of_before_are_not_kept(postgres: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience_module, "PATIENCE_S", 0.3)
    engine = create_engine(postgres.replace("postgresql://", "postgresql+psycopg://"))
    asked(engine, "SELECT 1")  # this one would wait for ever
    make_patient(engine)
    with pytest.raises(OperationalError, match="does not answer"):
        asked(engine, "SELECT pg_sleep(2)")
    engine.dispose()


def test_sqlite_is_left_alone(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path}/ledger.db")
    make_patient(engine)
    assert asked(engine, "SELECT 1") == 1
    engine.dispose()
