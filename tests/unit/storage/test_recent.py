"""The newest rows, hours and pace, in both databases."""

from __future__ import annotations

from sqlalchemy import Engine

from model_gateway.budget import recent, rows
from model_gateway.config.schema import LedgerConfig
from model_gateway.domain.record import Attempt, Record
from model_gateway.storage.database import open_database
from model_gateway.telemetry.outcome import CALLER_STATUSES

HOUR_S = 3600.0
BEGIN = 500_000 * HOUR_S


def filled(config: LedgerConfig, records: list[Record]) -> Engine:
    engine = open_database(config)
    with engine.begin() as connection:
        rows.insert(connection, [rows.row_of(record) for record in records])
    return engine


def record(number: int, started_at: float, status: str = "ok", **more: object) -> Record:
    made = Record(f"r{number}", "http", started_at, uid=f"u{number}", status=status)
    for name, value in more.items():
        setattr(made, name, value)
    return made


def test_the_newest_come_first_and_by_pages(config: LedgerConfig) -> None:
    tries = [Attempt("a", "m", "upstream_status", 0.1), Attempt("b", "m", "ok", 0.2, cost_nano=5)]
    records = [record(n, BEGIN + n, "ok" if n % 3 else "internal", cost_nano=7, baseline_nano=10) for n in range(9)]
    records[8].attempts = tries
    engine = filled(config, records)
    with engine.connect() as connection:
        first = recent.newest(connection, 4)
        assert [row["request_id"] for row in first] == ["r8", "r7", "r6", "r5"]
        assert (first[0]["cost_usd"], first[0]["saved_usd"]) == ("0.000000007", "0.000000003")
        assert [(each["provider"], each["cost_usd"]) for each in first[0]["tries"]] == [
            ("a", "0.000000000"),
            ("b", "0.000000005"),
        ]
        second = recent.newest(connection, 4, first[-1]["seq"])
        assert [row["request_id"] for row in second] == ["r4", "r3", "r2", "r1"]
        assert [row["request_id"] for row in recent.newest(connection, 9, failed=True)] == ["r6", "r3", "r0"]
    engine.dispose()


def test_hours_are_cut_not_rounded(config: LedgerConfig) -> None:
    late = 0.9 * HOUR_S
    records = [record(0, BEGIN), record(1, BEGIN + late, "rate_limited"), record(2, BEGIN + late, "internal")]
    records += [record(3, BEGIN + HOUR_S, cost_nano=4), record(4, BEGIN - 1)]
    engine = filled(config, records)
    with engine.connect() as connection:
        assert recent.hours(connection, BEGIN, CALLER_STATUSES) == [
            recent.Hour(int(BEGIN), 3, 1, 1, "0.000000000"),
            recent.Hour(int(BEGIN + HOUR_S), 1, 1, 0, "0.000000004"),
        ]
    engine.dispose()


def test_the_pace_is_that_of_what_providers_have_answered(config: LedgerConfig) -> None:
    asked = [Attempt("a", "m", "ok", 1.0)]
    records = [record(n, BEGIN + n, duration_s=n / 100, attempts=asked) for n in range(101)]
    records += [record(200, BEGIN, duration_s=9.0), record(201, BEGIN, "internal", duration_s=9.0, attempts=asked)]
    records[0].first_token_s = 0.25
    engine = filled(config, records)
    with engine.connect() as connection:
        assert recent.pace(connection) == recent.Pace(101, 500.0, 950.0, 990.0, 250.0)
    engine.dispose()


def test_an_empty_ledger(config: LedgerConfig) -> None:
    engine = open_database(config)
    with engine.connect() as connection:
        assert recent.newest(connection, 5) == [] and recent.hours(connection, 0.0, CALLER_STATUSES) == []
        assert recent.pace(connection) == recent.Pace(0)
    engine.dispose()
