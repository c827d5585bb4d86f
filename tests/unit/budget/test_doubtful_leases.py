"""Answers to commits get lost, neighbours seem dead: money is neither held for ever nor spent for nothing."""

from __future__ import annotations

import asyncio
import itertools
import math
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, event

from model_gateway.budget import ledger as ledger_module
from model_gateway.budget.budgets import Budgets
from model_gateway.budget.funds import Charge, Claim
from model_gateway.budget.ledger import Ledger
from model_gateway.config.schema import BudgetConfig, BudgetsConfig, LedgerConfig
from model_gateway.domain.record import Record
from upstream import until

PLENTY = 10**9
HELD, COST = 1_000, 600
LEASED = "SELECT sum(amount_nano) FROM holds WHERE uid LIKE 'lease:%'"


class Gateway:
    """A ledger, and requests one after the other."""

    def __init__(self, folder: Path, limit: int = PLENTY) -> None:
        self.path, self.limit, self.granted = folder / "ledger.db", limit, 0
        self.ledger = Ledger(LedgerConfig(path=str(self.path), flush_interval=10))
        self.ledger.book = Budgets(BudgetsConfig(limits=(BudgetConfig(name="all", usd=limit / 1e9, per="total"),))).book
        self.ledger.start()

    async def ask(self) -> bool:
        record = Record("r", "http", time.time())
        charge = Charge("gateway", "total", self.limit, "all")
        claim = Claim(record.uid, HELD, HELD, time.time() + 600, (charge,))
        granted = (
            self.ledger.hold_leased(record, claim) or (await self.ledger.hold(record, claim, 1.0)).granted_nano > 0
        )
        record.cost_nano = COST if granted else 0
        self.granted += granted
        await asyncio.sleep(0.002)
        self.ledger.append(record)
        return granted

    async def ask_until_leased(self) -> None:
        while not self.found(LEASED)[0]:
            await self.ask()

    def found(self, query: str) -> tuple[Any, ...]:
        with closing(sqlite3.connect(self.path)) as connection:
            return connection.execute(query).fetchone()

    @property
    def account(self) -> tuple[Any, ...]:
        return self.found("SELECT spent_nano, held_nano FROM accounts")


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    made = Gateway(tmp_path)
    yield made
    made.ledger.close()


def lose_answers(gateway: Gateway, times: int = 1) -> list[int]:
    """After a commit of a transaction that has leased more, the connection is gone. How much more, each time."""
    lost: list[int] = []
    leased = 0

    def commit(connection: Connection) -> None:
        nonlocal leased
        cursor = connection.connection.cursor()
        before, leased = leased, cursor.execute(LEASED).fetchone()[0] or 0
        if len(lost) < times and leased > before:
            cursor.execute("COMMIT")
            lost.append(leased - before)
            raise sqlite3.OperationalError("the server closed the connection unexpectedly")

    assert gateway.ledger._engine is not None
    event.listen(gateway.ledger._engine, "commit", commit)
    return lost


async def test_a_lease_that_was_committed_without_an_answer_goes_back(gateway: Gateway) -> None:
    """Nothing was held from it, and yet it is there when the gateway stops."""
    lost = lose_answers(gateway)
    asking = asyncio.create_task(gateway.ask_until_leased())
    await until(lambda: bool(lost))
    await asyncio.to_thread(gateway.ledger.close)
    await asyncio.gather(asking, return_exceptions=True)  # what it asked for last may have been refused
    assert gateway.found(LEASED) == (None,)


async def test_all_money_can_be_spent_after_answers_were_lost(tmp_path: Path) -> None:
    """Under requests that do not end: a difference must not wait for a pause."""
    gateway = Gateway(tmp_path, 400 * COST)
    lost = lose_answers(gateway, times=3)
    for _ in range(2_000):
        if not await gateway.ask() and len(lost) == 3:
            break
    assert len(lost) == 3
    assert 400 * COST - HELD < gateway.granted * COST <= 400 * COST
    gateway.ledger.close()
    assert gateway.account == (gateway.granted * COST, 0)


async def test_a_neighbour_that_lives_is_not_taken_for_dead(
    tmp_path: Path, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine was asleep: all leases have expired, and one process is the first to look."""
    await gateway.ask_until_leased()
    gateway.ledger._next_orphans = math.inf
    monkeypatch.setattr(ledger_module, "_ORPHANS_S", 0.02)
    neighbour = Gateway(tmp_path)
    neighbour.ledger._spends_from = 0.0
    try:
        with closing(sqlite3.connect(gateway.path, isolation_level=None)) as connection:
            for _ in itertools.repeat(None, 20):
                connection.execute("UPDATE holds SET expires_at = 1")
                await gateway.ask()
                await asyncio.sleep(0.02)
        await until(lambda: gateway.found("SELECT count(*) FROM holds") == (0,), timeout_s=10)
        assert gateway.account == (gateway.granted * COST, 0)
    finally:
        neighbour.ledger.close()
