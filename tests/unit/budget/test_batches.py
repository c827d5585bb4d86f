"""When the ledger's writer takes the rows that wait: they are many, somebody asks for money, or their time is up."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from model_gateway.budget import claims, rows
from model_gateway.budget import ledger as module
from model_gateway.budget.funds import Charge, Claim, Part
from model_gateway.budget.journal import Row
from model_gateway.budget.ledger import FLUSH_ROWS, REST_S, Ledger
from model_gateway.config.schema import LedgerConfig
from model_gateway.domain.record import Record
from upstream import until

NEVER = 3_600_000
PLACE = ("gateway", "total")


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ledger]:
    """One that is never due by itself."""
    monkeypatch.setattr(claims, "_CALM_S", NEVER)
    opened = Ledger(LedgerConfig(path=str(tmp_path / "ledger.db"), flush_interval=NEVER))
    opened.start()
    yield opened
    opened.close()


def add(ledger: Ledger, count: int, hold_nano: int = 0) -> None:
    for _ in range(count):
        ledger.append(Record("r", "http", time.time(), hold_nano=hold_nano))


def meanwhile(ledger: Ledger, what: Callable[[], None]) -> None:
    """Done once, while the batch is written that has a row which was not held."""
    done: list[bool] = []

    def book(_: Sequence[Row]) -> Sequence[Part]:
        if not done:
            done.append(True)
            what()
        return (Part(PLACE, 7, opened=True),)

    ledger.book = book
    add(ledger, 1, rows.UNHELD)


async def rested() -> None:
    """Until many rows are a reason to write again."""
    await asyncio.sleep(2 * REST_S)


async def test_enough_rows_wait_for_nothing(ledger: Ledger) -> None:
    add(ledger, FLUSH_ROWS - 1)
    await asyncio.sleep(0.1)
    assert ledger.pending == FLUSH_ROWS - 1
    add(ledger, 1)
    await until(lambda: ledger.pending == 0)


async def test_few_that_come_while_others_are_written_wait_for_more(ledger: Ledger) -> None:
    add(ledger, FLUSH_ROWS)
    await until(lambda: ledger.pending == 0)
    await rested()
    meanwhile(ledger, lambda: add(ledger, 3))
    add(ledger, FLUSH_ROWS - 1)
    await until(lambda: ledger.pending == 3)
    await asyncio.sleep(0.1)
    assert ledger.pending == 3
    add(ledger, FLUSH_ROWS - 3)
    await until(lambda: ledger.pending == 0)


async def test_a_busy_process_writes_larger_batches_rather_than_more(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REST_S", NEVER)
    add(ledger, FLUSH_ROWS)
    await until(lambda: ledger._rest_until > NEVER)
    add(ledger, 3 * FLUSH_ROWS)
    await asyncio.sleep(0.1)
    assert ledger.pending == 3 * FLUSH_ROWS
    ledger._rest_until = 0.0
    add(ledger, FLUSH_ROWS)
    await until(lambda: ledger.pending == 0)


async def test_many_that_come_while_others_are_written_are_the_next_batch(ledger: Ledger) -> None:
    add(ledger, FLUSH_ROWS)
    await until(lambda: ledger.pending == 0)
    await rested()
    meanwhile(ledger, lambda: add(ledger, FLUSH_ROWS + 5))
    add(ledger, FLUSH_ROWS - 1)
    await until(lambda: ledger.pending == 0)


async def test_whoever_asks_for_money_finds_every_row_booked(ledger: Ledger) -> None:
    add(ledger, FLUSH_ROWS)
    await until(lambda: ledger.pending == 0)
    await rested()
    meanwhile(ledger, lambda: None)
    assert ledger.pending == 1
    charge = Charge(*PLACE, 10, "b")
    record = Record("r", "http", time.time())
    verdict = await ledger.hold(record, Claim(record.uid, 4, 4, time.time() + 60, (charge,)), 5.0)
    assert (ledger.pending, verdict.granted_nano, verdict.left_nano) == (0, 0, 3)


def test_what_is_few_is_written_before_the_end(ledger: Ledger, tmp_path: Path) -> None:
    add(ledger, 3)
    assert ledger.close() == 0
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as connection:
        assert connection.execute("SELECT count(*) FROM requests").fetchone() == (3,)
