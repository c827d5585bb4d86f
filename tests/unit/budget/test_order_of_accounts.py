"""Two gateways serve the same accounts in opposite orders: PostgreSQL must never see them wait for each other."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import psycopg
from pydantic import SecretStr

from model_gateway.budget.budgets import Budgets
from model_gateway.budget.funds import Charge, Claim
from model_gateway.budget.ledger import Ledger
from model_gateway.config.schema import BudgetConfig, BudgetsConfig, LedgerConfig
from model_gateway.domain.record import Record
from postgres import emptied, server

KEYS = [f"{letter}{number}" for number in range(10) for letter in ("a", "B")]
ROUNDS = 25
COST = 600


def opened(folder: Path, url: str) -> Ledger:
    ledger = Ledger(LedgerConfig(path=str(folder / "ledger.db"), url=SecretStr(url), flush_interval=10))
    ledger.book = Budgets(BudgetsConfig(limits=(BudgetConfig(name="k", scope="key", usd=1, per="total"),))).book
    ledger.start()
    return ledger


async def ask(ledger: Ledger, key: str) -> None:
    record = Record("r", "http", time.time(), key_name=key)
    charge = Charge(f"key:{key}", "total", 10**9, "k")
    claim = Claim(record.uid, 1_000, 1_000, time.time() + 600, (charge,))
    assert ledger.hold_leased(record, claim) or (await ledger.hold(record, claim, 5.0)).granted_nano
    record.cost_nano = COST
    ledger.append(record)


async def rounds(ledger: Ledger, keys: list[str]) -> None:
    for _ in range(ROUNDS):
        await asyncio.gather(*(ask(ledger, key) for key in keys))


async def test_no_two_transactions_wait_for_each_other(tmp_path: Path) -> None:
    (tmp_path / "pg").mkdir()
    with server(tmp_path / "pg") as url:
        emptied(url)
        ledgers = [opened(tmp_path / name, url) for name in ("one", "two")]
        await asyncio.gather(rounds(ledgers[0], KEYS), rounds(ledgers[1], KEYS[::-1]))
        for ledger in ledgers:
            assert (ledger.last_error, await asyncio.to_thread(ledger.close)) == ("", 0)
        with psycopg.connect(url) as connection:
            (deadlocks,) = connection.execute(
                "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
            ).fetchone() or (None,)
            found = connection.execute("SELECT spent_nano, held_nano FROM accounts").fetchall()
    assert deadlocks == 0
    assert found == [(2 * ROUNDS * COST, 0)] * len(KEYS)
