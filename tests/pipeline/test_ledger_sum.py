"""The ledger is the sum of what the providers counted, to the nano-dollar, whatever happened to the requests.

REQUESTS in the environment says how many; 100,000 take about six minutes.
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
from collections import Counter
from contextlib import AsyncExitStack, closing
from pathlib import Path
from random import Random
from typing import Any

import httpx

from gateway import config_for, fixture_provider
from model_gateway.app import App
from model_gateway.config.schema import BreakerConfig, BudgetConfig, BudgetsConfig, RetryBudgetConfig, RoutingConfig
from upstream import FixtureUpstream, Seen, events, until, whole

REQUESTS = int(os.environ.get("REQUESTS", "2000"))
WORKERS = 24
PRICES = {"first": (3, 7), "second": (11, 13)}  # nano-USD a token, in and out


class Counting:
    """A provider that fails now and then, and counts in nano-dollars whatever it has answered."""

    def __init__(self, name: str, seed: int) -> None:
        self.name = name
        self.chance = Random(seed)
        self.counted = 0
        self.answered = 0

    async def __call__(self, seen: Seen, writer: asyncio.StreamWriter) -> None:
        if self.chance.random() < 0.15:
            await whole(b'{"error":{"message":"not now"}}', self.chance.choice((429, 500, 503)))(seen, writer)
            return
        tokens = self.chance.randrange(5000), self.chance.randrange(3000)
        price = PRICES[self.name]
        self.counted += tokens[0] * price[0] + tokens[1] * price[1]
        self.answered += 1
        usage = {"prompt_tokens": tokens[0], "completion_tokens": tokens[1], "total_tokens": sum(tokens)}
        await asyncio.sleep(self.chance.choice((0, 0, 0.005)))
        if seen.json.get("stream"):
            await events(streamed(usage), pace_s=0.001)(seen, writer)
        else:
            message = {"role": "assistant", "content": "yes"}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            reply = {"id": "x", "object": "chat.completion", "model": "m", "usage": usage, "choices": [choice]}
            await whole(json.dumps(reply).encode())(seen, writer)


def streamed(usage: dict[str, int]) -> bytes:
    def chunk(**fields: Any) -> bytes:
        whole = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [], **fields}
        return b"data: " + json.dumps(whole).encode() + b"\n\n"

    words = [chunk(choices=[{"index": 0, "delta": {"content": word}}]) for word in ("yes ", "and ", "no")]
    end = chunk(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}])
    return b"".join([*words, end, chunk(usage=usage)]) + b"data: [DONE]\n\n"


async def ask(client: httpx.AsyncClient, url: str, chance: Random, number: int) -> str:
    question = f"question {number if chance.random() < 0.8 else chance.randrange(20)}"  # the rest may be in the cache
    body = {"model": "auto", "messages": [{"role": "user", "content": question}], "stream": chance.random() < 0.4}
    leaves = chance.random() < 0.1
    try:
        reply = await client.post(url, json=body, timeout=chance.uniform(0.001, 0.01) if leaves else 60)
    except httpx.HTTPError:
        return "left"
    return str(reply.status_code)


async def test_the_ledger_is_what_the_providers_counted(tmp_path: Path) -> None:
    providers = {name: Counting(name, seed) for seed, name in enumerate(PRICES)}
    async with AsyncExitStack() as stack:
        config: dict[str, Any] = {}
        for name, provider in providers.items():
            upstream = await stack.enter_async_context(FixtureUpstream(provider))
            config[name] = fixture_provider(
                upstream.url,
                default_model=f"{name}-model",
                price_per_million_input=PRICES[name][0] / 1000,
                price_per_million_output=PRICES[name][1] / 1000,
                max_concurrent_queries=1000,
                retry_count=1,
                on_disconnect="drain",
                breaker=BreakerConfig(enabled=False),
                first_token_timeout=10_000,
                idle_timeout=10_000,
            )
        routing = RoutingConfig(retry_budget=RetryBudgetConfig(ratio=1.0))
        budgets = BudgetsConfig(limits=(BudgetConfig(name="all", usd=1e6, per="total"),))
        app = await stack.enter_async_context(App(config_for(tmp_path, config, routing=routing, budgets=budgets)))
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=WORKERS)
        client = await stack.enter_async_context(httpx.AsyncClient(limits=limits))
        url = f"http://127.0.0.1:{app.http_port}/v1/chat/completions"
        numbers = iter(range(REQUESTS))
        chance = Random(7)
        seen: Counter[str] = Counter()

        async def worker() -> None:
            for number in numbers:
                seen[await ask(client, url, chance, number)] += 1

        await asyncio.gather(*(worker() for _ in range(WORKERS)))
        await until(lambda: app.gateway.in_flight == 0, timeout_s=30)
        await until(lambda: all(state.load.in_flight == 0 for state in app.gateway.states), timeout_s=30)
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as ledger:
        rows, cost, least = ledger.execute("SELECT count(*), sum(cost_nano), min(cost_nano) FROM requests").fetchone()
        hits, tries = ledger.execute("SELECT sum(cache = 'hit'), sum(attempts > 1) FROM requests").fetchone()
        spent, held = ledger.execute("SELECT spent_nano, held_nano FROM accounts").fetchone()
        states = dict(ledger.execute("SELECT state, count(*) FROM requests GROUP BY state").fetchall())
    counted = sum(provider.counted for provider in providers.values())
    assert cost == counted == spent, (cost - counted, spent - counted, seen, states)
    assert held == 0 and least == 0
    assert "estimated" not in states, "whoever left, his answer was read to its end"
    assert rows <= REQUESTS and rows >= REQUESTS - seen["left"], "some left before they had asked"
    assert min(hits, tries, seen["left"], seen["200"]) > 0, (hits, tries, seen)
