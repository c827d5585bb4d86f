"""Budgets, as callers meet them: many at once at two gateways, one database, and not a nano-dollar too much."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from gateway import QUESTION, config_for, fixture_provider
from model_gateway.app import App
from model_gateway.config.schema import BudgetConfig, BudgetsConfig, CacheConfig, CallerKey, LedgerConfig
from upstream import FixtureUpstream, Seen, chat, events, fixture, until, whole

RUNS = int(os.environ.get("BUDGET_RUNS", "5"))
COST = 105_000  # nano-USD of one answer of `answer`: 45 tokens in at 1, 30 out at 2 USD per million


def answer(seen: Seen, writer: asyncio.StreamWriter) -> Any:
    usage = {"prompt_tokens": 45, "completion_tokens": 30, "total_tokens": 75}
    reply = {
        "id": "x", "object": "chat.completion", "model": "m", "usage": usage,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "yes"}, "finish_reason": "stop"}],
    }  # fmt: skip
    return whole(json.dumps(reply).encode())(seen, writer)


@pytest.fixture
async def upstream() -> AsyncIterator[FixtureUpstream]:
    async with FixtureUpstream(answer) as server:
        yield server


def budget(usd: float, **options: Any) -> BudgetConfig:
    given: dict[str, Any] = {"name": "test", "usd": usd, "per": "total", **options}
    return BudgetConfig(**given)


def app_with(folder: Path, upstream: FixtureUpstream, *limits: BudgetConfig, **sections: Any) -> App:
    providers = sections.pop("providers", {"fixture": fixture_provider(upstream.url, max_concurrent_queries=1000)})
    budgets = BudgetsConfig(limits=limits, **sections.pop("budgets", {}))
    return App(config_for(folder, providers, cache=CacheConfig(enabled=False), budgets=budgets, **sections))


async def ask(client: httpx.AsyncClient, app: App, key: str = "", **more: Any) -> httpx.Response:
    body = {"model": "auto", "messages": [{"role": "user", "content": QUESTION}], **more}
    headers = {"authorization": f"Bearer {key}"} if key else {}
    return await client.post(f"http://127.0.0.1:{app.http_port}/v1/chat/completions", json=body, headers=headers)


def account(folder: Path, name: str = "gateway") -> tuple[int, int]:
    with closing(sqlite3.connect(folder / "ledger.db")) as ledger:
        return ledger.execute("SELECT spent_nano, held_nano FROM accounts WHERE account = ?", (name,)).fetchone()


def total(folder: Path) -> tuple[int, int]:
    """Requests that were answered, and what they cost."""
    with closing(sqlite3.connect(folder / "ledger.db")) as ledger:
        return ledger.execute("SELECT count(*), sum(cost_nano) FROM requests WHERE status = 'ok'").fetchone()


@pytest.mark.parametrize("run", range(RUNS))
async def test_two_gateways_spend_exactly_what_there_is(tmp_path: Path, upstream: FixtureUpstream, run: int) -> None:
    """A hundred callers at each, seen for the first time, and money for 61: they take no more, and hardly less."""
    usd = 61 * COST / 1e9 + 1e-8
    async with AsyncExitStack() as stack:
        apps = [await stack.enter_async_context(app_with(tmp_path, upstream, budget(usd))) for _ in range(2)]
        limits = httpx.Limits(max_connections=None)
        client = await stack.enter_async_context(httpx.AsyncClient(timeout=60, limits=limits))
        replies = await asyncio.gather(*(ask(client, apps[n % 2], max_tokens=30) for n in range(200)))
        statuses = Counter(reply.status_code for reply in replies)
        assert set(statuses) == {200, 402}, statuses
        # The last of the money may be less than a request may cost at most, although it would have cost less.
        most = 30 * 2000 + (len(QUESTION.encode()) + 200) * 1000
        assert 61 - most // COST <= statuses[200] <= 61
        refused = next(reply for reply in replies if reply.status_code == 402).json()["error"]
        assert "budget `test`" in refused["message"] and "left" in refused["message"]
    assert account(tmp_path) == (statuses[200] * COST, 0)
    assert total(tmp_path) == (statuses[200], statuses[200] * COST)
    assert len(upstream.seen) == statuses[200], "nobody was asked for what could not be paid"


async def test_who_allows_himself_any_length_gets_what_the_money_pays_for(
    tmp_path: Path, upstream: FixtureUpstream
) -> None:
    async with app_with(tmp_path, upstream, budget(0.001)) as app, httpx.AsyncClient() as client:
        statuses = [(await ask(client, app)).status_code for _ in range(12)]
        limits = [seen.json["max_tokens"] for seen in upstream.seen]
    served = statuses.count(200)
    assert statuses == [200] * served + [402] * (12 - served) and served >= 7
    assert limits == sorted(limits, reverse=True) and limits[0] < 500 and limits[-1] >= 16
    assert account(tmp_path) == (served * COST, 0)


async def test_each_key_has_its_own_and_the_team_one_together(tmp_path: Path, upstream: FixtureUpstream) -> None:
    keys = tuple(CallerKey(name=name, key=SecretStr(f"sk-{name}"), tenant="search") for name in ("ada", "bob"))
    limits = budget(0.0008, scope="key"), budget(0.0011, scope="team", name="team")
    async with app_with(tmp_path, upstream, *limits, keys=keys) as app, httpx.AsyncClient() as client:
        replies = [await ask(client, app, key, max_tokens=30) for key in ["sk-ada"] * 10 + ["sk-bob"] * 10]
    served = [reply.status_code == 200 for reply in replies]
    assert 1 <= sum(served[:10]) <= 7 and 1 <= sum(served[10:]) <= 4
    assert "budget `test`" in replies[9].json()["error"]["message"]
    assert "budget `team`" in replies[19].json()["error"]["message"]
    assert account(tmp_path, "team:search") == (sum(served) * COST, 0)
    assert account(tmp_path, "key:ada") == (sum(served[:10]) * COST, 0)


async def test_a_provider_without_money_gives_way_to_another(tmp_path: Path, upstream: FixtureUpstream) -> None:
    async with FixtureUpstream(answer) as second:
        providers = {
            "first": fixture_provider(upstream.url, cost_efficiency=1.0),
            "second": fixture_provider(second.url, cost_efficiency=0.0),
        }
        limit = budget(0.0005, scope="provider", match="first")
        app = app_with(tmp_path, upstream, limit, providers=providers)
        async with app, httpx.AsyncClient() as client:
            replies = [await ask(client, app, max_tokens=30) for _ in range(10)]
    assert [reply.status_code for reply in replies] == [200] * 10
    assert len(upstream.seen) in (1, 2, 3, 4) and len(upstream.seen) + len(second.seen) == 10
    assert account(tmp_path, "provider:first") == (len(upstream.seen) * COST, 0)


async def test_a_budget_may_step_down_instead(tmp_path: Path, upstream: FixtureUpstream) -> None:
    async with FixtureUpstream(answer) as cheap:
        providers = {
            "strong": fixture_provider(upstream.url, supported_model_types=("remote",), price_per_million_input=90.0),
            "cheap": fixture_provider(
                cheap.url,
                default_model="small",
                supported_model_types=("local",),
                price_per_million_input=0.01,
                price_per_million_output=0.01,
            ),
        }
        app = app_with(tmp_path, upstream, budget(0.02, on_limit="step_down"), providers=providers)
        async with app, httpx.AsyncClient() as client:
            replies = [await ask(client, app, model="auto:best", max_tokens=30) for _ in range(8)]
    assert [reply.status_code for reply in replies] == [200] * 8
    assert 0 < len(upstream.seen) < 8 and len(cheap.seen) == 8 - len(upstream.seen)


async def test_a_stream_that_breaks_or_is_left_pays_for_what_it_said(tmp_path: Path, upstream: FixtureUpstream) -> None:
    body = fixture("stream.sse")
    upstream.answer = events(body, cut_at=len(body) // 2)
    async with app_with(tmp_path, upstream, budget(1.0)) as app, httpx.AsyncClient() as client:
        broken = await ask(client, app, stream=True)
        assert "error" in broken.text and "[DONE]" not in broken.text
        upstream.answer = events(body, pace_s=0.05)
        url = f"http://127.0.0.1:{app.http_port}/v1/chat/completions"
        ask_for = {"model": "auto", "stream": True, "messages": [{"role": "user", "content": QUESTION}]}
        async with client.stream("POST", url, json=ask_for) as reply:
            async for _ in reply.aiter_text():
                break
        await until(lambda: app.gateway.in_flight == 0)
    spent, held = account(tmp_path)
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as ledger:
        rows = ledger.execute("SELECT status, state, cost_nano, hold_nano > cost_nano FROM requests").fetchall()
    assert held == 0 and spent == sum(row[2] for row in rows) > 0
    assert {row[0] for row in rows} == {"stream_broken", "cancelled"}
    assert all(row[1] == "estimated" and row[2] > 0 and row[3] for row in rows)


async def test_a_locked_database_refuses_or_lets_pass_as_declared(tmp_path: Path, upstream: FixtureUpstream) -> None:
    for policy, status in (("fail_closed", 503), ("fail_open", 200)):
        folder = tmp_path / policy
        folder.mkdir()
        ledger = LedgerConfig(path=str(folder / "ledger.db"), flush_interval=20)
        budgets = {"when_unavailable": policy, "wait": 100}
        app = app_with(folder, upstream, budget(1.0), budgets=budgets, ledger=ledger)
        async with app, httpx.AsyncClient(timeout=30) as client:
            with closing(sqlite3.connect(folder / "ledger.db", isolation_level=None)) as other:
                other.execute("BEGIN EXCLUSIVE")
                reply = await ask(client, app)
                assert reply.status_code == status, reply.text
                other.execute("ROLLBACK")
            await until(lambda app=app: app.ledger is not None and app.ledger.pending == 0)


async def test_what_a_leaver_had_reserved_comes_back(tmp_path: Path, upstream: FixtureUpstream) -> None:
    """Callers that go while they wait for money, or before an answer, leave nothing held."""

    async def slow(seen: Seen, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.2)
        await chat(seen, writer)

    upstream.answer = slow
    async with app_with(tmp_path, upstream, budget(0.0005)) as app, httpx.AsyncClient() as client:
        tasks = [asyncio.ensure_future(ask(client, app, max_tokens=30)) for _ in range(30)]
        for index, task in enumerate(tasks):
            await asyncio.sleep(0.01)
            if index % 2:
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await until(lambda: app.gateway.in_flight == 0)
        await until(lambda: app.ledger is not None and app.ledger.pending == 0)
    spent, held = account(tmp_path)
    assert held == 0 and 0 < spent <= 500_000
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as ledger:
        assert ledger.execute("SELECT sum(cost_nano) FROM requests").fetchone() == (spent,)
        assert ledger.execute("SELECT count(*) FROM holds").fetchone() == (0,)


async def test_a_free_model_answers_whatever_a_budget_has_left(tmp_path: Path, upstream: FixtureUpstream) -> None:
    priced = fixture_provider(upstream.url, supported_models=("paid",))
    free = fixture_provider(
        upstream.url, supported_models=("free",), price_per_million_input=0, price_per_million_output=0
    )
    providers = {"paid": priced, "free": free}
    app = app_with(tmp_path, upstream, budget(2 * COST / 1e9), providers=providers)
    async with app, httpx.AsyncClient(timeout=30) as client:
        names = ("free/free", "paid/paid", "paid/paid", "free/free")
        statuses = [(await ask(client, app, model=name, max_tokens=30)).status_code for name in names]
    assert statuses == [200, 200, 402, 200]
    assert total(tmp_path) == (3, COST)
    assert account(tmp_path) == (COST, 0)
