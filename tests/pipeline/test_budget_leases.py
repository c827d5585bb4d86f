"""Busy budgets are held from memory, and are as exact as if each request had asked the database."""

from __future__ import annotations

import asyncio
import socket
import sqlite3
from collections import Counter
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import Any, Literal

import httpx
import pytest

from gateway import QUESTION, config_for, fixture_provider
from model_gateway.app import App
from model_gateway.config.schema import BudgetConfig, BudgetsConfig, CacheConfig, LedgerConfig
from upstream import FixtureUpstream, until

COST = 39 * 1_000 + 27 * 2_000
CALLERS = 8
LEASED = "SELECT count(*) FROM requests WHERE hold_nano < -1"


def app_with(folder: Path, first: FixtureUpstream, usd: float, **budgets: Any) -> App:
    return App(
        config_for(
            folder,
            {"fixture": fixture_provider(first.url, max_concurrent_queries=1000)},
            cache=CacheConfig(enabled=False),
            budgets=BudgetsConfig(limits=(BudgetConfig(name="all", usd=usd, per="total"),), **budgets),
            ledger=LedgerConfig(path=str(folder / "ledger.db"), flush_interval=20),
        )
    )


class Callers:
    """Some that ask one after the other, at each of the gateways in turn, until they are told to stop."""

    def __init__(self, apps: list[App], count: int) -> None:
        self.urls = [f"http://127.0.0.1:{app.http_port}/v1/chat/completions" for app in apps]
        self.left = count
        self.statuses: Counter[int] = Counter()

    async def run(self) -> Counter[int]:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(timeout=60, limits=limits) as client, asyncio.TaskGroup() as group:
            for number in range(CALLERS):
                group.create_task(self._ask(client, self.urls[number % len(self.urls)]))
        return self.statuses

    async def _ask(self, client: httpx.AsyncClient, url: str) -> None:
        body = {"model": "auto", "max_tokens": 30, "messages": [{"role": "user", "content": QUESTION}]}
        while self.left:
            self.left -= 1
            self.statuses[(await client.post(url, json=body)).status_code] += 1


@pytest.mark.parametrize("scope", ["gateway", "provider"])
async def test_of_a_crowd_whoever_answers_is_paid(
    tmp_path: Path, first: FixtureUpstream, scope: Literal["gateway", "provider"]
) -> None:
    """Thirty providers of three prices, of which all but the dearest are away: what was held is enough for that one."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and never listens
        away = f"http://127.0.0.1:{nobody.getsockname()[1]}/v1"
        providers = {f"away{n}": fixture_provider(away, price_per_million_output=n % 2 + 1) for n in range(29)}
        providers["dear"] = fixture_provider(first.url, price_per_million_output=50.0, max_concurrent_queries=1000)
        budget = BudgetConfig(name="all", usd=1_000, per="total", scope=scope)
        config = config_for(
            tmp_path,
            providers,
            cache=CacheConfig(enabled=False),
            budgets=BudgetsConfig(limits=(budget,)),
            ledger=LedgerConfig(path=str(tmp_path / "ledger.db"), flush_interval=20),
        )
        async with App(config) as app:
            assert await Callers([app], 200).run() == {200: 200}
    cost = 39 * 1_000 + 27 * 50_000
    of_it = "SELECT spent_nano, held_nano FROM accounts WHERE account IN ('gateway', 'provider:dear')"
    assert ledger(tmp_path, of_it) == (200 * cost, 0)
    assert ledger(tmp_path, "SELECT count(*) FROM holds") == (0,)
    # Held was what the dearest of them may charge, whoever was asked first.
    assert ledger(tmp_path, "SELECT min(max(hold_nano, -hold_nano)) FROM requests") > (30 * 50_000,)
    assert scope == "provider" or ledger(tmp_path, LEASED) > (20,)


def ledger(folder: Path, query: str) -> tuple[Any, ...]:
    with closing(sqlite3.connect(folder / "ledger.db")) as connection:
        return connection.execute(query).fetchone()


async def test_most_of_a_busy_budget_is_held_from_memory(tmp_path: Path, first: FixtureUpstream) -> None:
    async with app_with(tmp_path, first, 1_000) as app:
        assert await Callers([app], 300).run() == {200: 300}
        ended = app.ledger
        assert ended is not None
        await until(lambda: ledger(tmp_path, "SELECT count(*) FROM requests") == (300,))
        spent, held = ledger(tmp_path, "SELECT spent_nano, held_nano FROM accounts")
        assert spent == 300 * COST
        assert ledger(tmp_path, "SELECT sum(amount_nano) FROM holds") == (held,) and held > 0
        # Nobody asks any more: what was leased goes back by itself.
        await until(lambda: ledger(tmp_path, "SELECT count(*) FROM holds") == (0,), timeout_s=10)
        assert ledger(tmp_path, "SELECT spent_nano, held_nano FROM accounts") == (300 * COST, 0)
    assert ledger(tmp_path, LEASED) > (200,)
    assert ledger(tmp_path, "SELECT sum(cost_nano) FROM requests") == (300 * COST,)


@pytest.mark.parametrize("run", range(3))
async def test_two_gateways_that_lease_spend_what_there_is_and_no_more(
    tmp_path: Path, first: FixtureUpstream, run: int
) -> None:
    """Money for 400, and 600 asked: leased while there is plenty, asked for each when it runs out."""
    async with AsyncExitStack() as stack:
        usd = 400 * COST / 1e9 + 1e-8
        apps = [await stack.enter_async_context(app_with(tmp_path, first, usd)) for _ in range(2)]
        statuses = await Callers(apps, 600).run()
    most = 30 * 2000 + (len(QUESTION.encode()) + 200) * 1000
    assert set(statuses) == {200, 402} and 400 - most // COST <= statuses[200] <= 400
    assert ledger(tmp_path, "SELECT spent_nano, held_nano FROM accounts") == (statuses[200] * COST, 0)
    assert ledger(tmp_path, "SELECT sum(cost_nano) FROM requests") == (statuses[200] * COST,)
    assert ledger(tmp_path, "SELECT count(*) FROM holds") == (0,)
    assert ledger(tmp_path, LEASED) > (50,)
    assert len(first.seen) == statuses[200], "nobody was asked for what could not be paid"


async def test_leavers_leave_nothing_held(tmp_path: Path, first: FixtureUpstream) -> None:
    async with app_with(tmp_path, first, 1_000) as app, httpx.AsyncClient() as client:
        url = f"http://127.0.0.1:{app.http_port}/v1/chat/completions"
        body = {"model": "auto", "max_tokens": 30, "messages": [{"role": "user", "content": QUESTION}]}
        for number in range(200):
            timeout = 0.002 * (number % 5) + 0.001 if number % 3 == 0 else 10
            try:
                await client.post(url, json=body, timeout=timeout)
            except httpx.TimeoutException:
                continue
        await until(lambda: app.gateway.in_flight == 0)
        await until(lambda: ledger(tmp_path, "SELECT count(*) FROM holds") == (0,), timeout_s=10)
    spent, held = ledger(tmp_path, "SELECT spent_nano, held_nano FROM accounts")
    assert held == 0 and ledger(tmp_path, "SELECT sum(cost_nano) FROM requests") == (spent,)


async def test_a_locked_database_loses_nothing_that_was_leased(tmp_path: Path, first: FixtureUpstream) -> None:
    async with app_with(tmp_path, first, 1_000, wait=100) as app:
        callers = Callers([app], 100_000)
        running = asyncio.create_task(callers.run())
        await until(lambda: callers.statuses[200] > 100)
        with closing(sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            await asyncio.sleep(2.5)
            other.execute("ROLLBACK")
        answered = callers.statuses[200]
        await until(lambda: callers.statuses[200] > answered + 100, timeout_s=20)
        callers.left = 0
        statuses = await running
        assert set(statuses) <= {200, 503}
    assert len(first.seen) == statuses[200]
    assert ledger(tmp_path, "SELECT spent_nano, held_nano FROM accounts") == (statuses[200] * COST, 0)
    assert ledger(tmp_path, "SELECT sum(cost_nano) FROM requests") == (statuses[200] * COST,)
