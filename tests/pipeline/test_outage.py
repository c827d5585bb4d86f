"""The budgets' database is away: each policy does what it says, and what was spent meanwhile is booked afterwards."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway import QUESTION, config_for, fixture_provider
from model_gateway import serving
from model_gateway.app import App
from model_gateway.config.schema import BudgetConfig, BudgetsConfig, CacheConfig, LedgerConfig
from upstream import FixtureUpstream, until

COST = 39 * 1_000 + 27 * 2_000
LIMIT_NANO = 5_000_000


async def start(stack: AsyncExitStack, tmp_path: Path, upstream: FixtureUpstream, policy: Any) -> App:
    limits = (BudgetConfig(name="all", usd=LIMIT_NANO / 1e9, per="total"),)
    config = config_for(
        tmp_path,
        {"fixture": fixture_provider(upstream.url)},
        cache=CacheConfig(enabled=False),
        budgets=BudgetsConfig(limits=limits, when_unavailable=policy, instances=2, wait=100),
        ledger=LedgerConfig(path=str(tmp_path / "ledger.db"), flush_interval=20),
    )
    return await stack.enter_async_context(App(config))


async def ask(client: httpx.AsyncClient, app: App) -> int:
    body = {"model": "auto", "max_tokens": 100, "messages": [{"role": "user", "content": QUESTION}]}
    return (await client.post(f"http://127.0.0.1:{app.http_port}/v1/chat/completions", json=body)).status_code


def booked(path: Path) -> tuple[int, int, int, int]:
    """Spent and held by the account, cost of all rows, and how many rows had held nothing."""
    with closing(sqlite3.connect(path)) as ledger:
        spent, held = ledger.execute("SELECT spent_nano, held_nano FROM accounts").fetchone()
        cost, unheld = ledger.execute("SELECT sum(cost_nano), sum(hold_nano = -1) FROM requests").fetchone()
    return spent, held, cost, unheld


@pytest.mark.parametrize("policy", ["fail_closed", "fail_open", "local_share"])
async def test_an_outage(
    stack: AsyncExitStack, tmp_path: Path, first: FixtureUpstream, monkeypatch: pytest.MonkeyPatch, policy: str
) -> None:
    monkeypatch.setattr(serving, "KEYS_S", 0.05)
    apps = [await start(stack, tmp_path, first, policy) for _ in range(2)]
    client = await stack.enter_async_context(httpx.AsyncClient(timeout=30))
    before = 4
    for _ in range(before // 2):
        assert [await ask(client, app) for app in apps] == [200, 200]
    await asyncio.sleep(0.3)  # both have looked what is left
    path = tmp_path / "ledger.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        await asyncio.gather(*(ask(client, app) for app in apps))  # these find out
        answered = len(first.seen) - before
        for _ in range(30):
            statuses = [await ask(client, app) for app in apps]
            answered += statuses.count(200)
            assert set(statuses) <= {200, 402 if policy == "local_share" else 503}
        other.execute("ROLLBACK")
    for app in apps:
        ledger = app.ledger
        assert ledger is not None
        await until(lambda ledger=ledger: ledger.pending == 0 and ledger.healthy, timeout_s=20)
    spent, held, cost, unheld = booked(path)
    assert held == 0 and spent == cost == (before + answered) * COST == len(first.seen) * COST
    assert unheld == answered
    if policy == "fail_closed":
        assert answered == 0
    elif policy == "fail_open":
        assert answered == 62 and spent > LIMIT_NANO, "as declared: it passed, and is counted"
        assert await ask(client, apps[0]) == 402
    else:
        assert 0 < answered < 62 and spent <= LIMIT_NANO
        assert LIMIT_NANO - spent < 2 * 400_000, "nearly all that was left could be spent"
        await until(lambda: all(app.ledger is not None and app.ledger.reachable for app in apps))
