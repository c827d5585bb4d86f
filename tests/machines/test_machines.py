"""Several machines as one: limits, budgets and repetitions hold over all of them, and over the loss of any part.

Under steady load a gateway, Redis and PostgreSQL are killed and frozen in turn. Whatever happens: no row and no charge
is lost or doubled, no budget overspent, nobody is refused but by the declared policy, and all of it heals by itself.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import grpc
import httpx
import psycopg
import pytest
import pytest_asyncio
from cluster import Machines, machines

from model_gateway.pb import gateway_pb2 as pb
from model_gateway.pb import gateway_pb2_grpc
from upstream import FixtureUpstream, Seen, chat

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="one loopback address a machine"),
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(240),
]

COST = 39 * 1_000 + 27 * 2_000  # nano-USD of one recorded answer
CAPPED_NANO, STEADY_NANO = 5_000_000, 2_000_000_000
BUDGETS: dict[str, Any] = {
    "limits": [
        {"name": name, "scope": "key", "match": name, "usd": nano / 1e9, "per": "total"}
        for name, nano in (("capped", CAPPED_NANO), ("steady", STEADY_NANO))
    ],
    "instances": 3,
    "wait": 1000,
}
KEYS: list[dict[str, Any]] = [
    {"name": "free", "key": "free"},
    {"name": "capped", "key": "capped"},
    {"name": "steady", "key": "steady"},
    {"name": "minute", "key": "minute", "requestsPerMinute": 60},
    {"name": "narrow", "key": "narrow", "maxConcurrent": 5},
    {"name": "limited", "key": "limited", "requestsPerMinute": 60_000, "maxConcurrent": 300},
    {"name": "again", "key": "again"},
]


@dataclass
class Provider:
    """Counts what it is asked by the name that each question has in it."""

    asked: Counter[str] = field(default_factory=Counter[str])
    at_once: Counter[str] = field(default_factory=Counter[str])
    peak: Counter[str] = field(default_factory=Counter[str])

    async def answer(self, seen: Seen, writer: asyncio.StreamWriter) -> None:
        found = re.search(rb"[a-z]+-\d+", seen.body)
        assert found is not None
        name = found[0].decode()
        key = name.partition("-")[0]
        self.asked[name] += 1
        self.at_once[key] += 1
        self.peak[key] = max(self.peak[key], self.at_once[key])
        try:
            await asyncio.sleep(0.05)
            await chat(seen, writer)
        finally:
            self.at_once[key] -= 1

    def count(self, key: str) -> int:
        return sum(count for name, count in self.asked.items() if name.startswith(f"{key}-"))


@dataclass
class All:
    machines: Machines
    provider: Provider
    client: httpx.AsyncClient

    async def ask(self, name: str, **more: Any) -> httpx.Response:
        """A request with the key whose name this one begins with."""
        key = name.partition("-")[0]
        headers = {"authorization": f"Bearer {key}", "x-request-id": name}
        if "repeats" in more:
            headers["idempotency-key"] = more.pop("repeats")
        body = {"model": "auto", "max_tokens": 100, "messages": [{"role": "user", "content": f"What is {name}?"}]}
        return await self.client.post(f"{self.machines.http}/v1/chat/completions", json=body | more, headers=headers)

    def rows(self, what: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.machines.database_url) as connection:
            return connection.execute(what.encode()).fetchall()

    async def written(self, key: str, rows: int) -> None:
        """Until the ledger has all rows of this key."""
        async with asyncio.timeout(20):
            while self.rows(f"SELECT count(*) FROM requests WHERE key_name = '{key}'")[0][0] < rows:  # noqa: ASYNC110, S608
                await asyncio.sleep(0.05)

    def spent(self, key: str) -> tuple[int, int]:
        """And held."""
        found = self.rows(f"SELECT spent_nano, held_nano FROM accounts WHERE account = 'key:{key}'")  # noqa: S608
        return found[0][0], found[0][1]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def all_of_it() -> AsyncGenerator[All]:
    provider = Provider()
    async with FixtureUpstream(provider.answer) as upstream:
        written: dict[str, Any] = {
            "server": {"shutdownGrace": 2000},
            "providers": {
                "embedded": {"status": "offline"},
                "fixture": {
                    "baseUrl": upstream.url,
                    "defaultModel": "fixture-model",
                    "supportedModelTypes": ["local", "hybrid", "remote"],
                    "pricePerMillionInput": 1,
                    "pricePerMillionOutput": 2,
                    "maxConcurrentQueries": 1000,
                },
            },
            "keys": KEYS,
            "limits": {"instances": 3, "whenUnavailable": "local_share"},
            "budgets": BUDGETS,
        }
        limits = httpx.Limits(max_connections=None)
        # Not in pytest's own folder: PostgreSQL's user must reach it, and another run of pytest takes the right away.
        async with AsyncExitStack() as stack:
            folder = stack.enter_context(TemporaryDirectory(prefix="machines"))
            running = await stack.enter_async_context(machines(Path(folder), written))
            client = await stack.enter_async_context(httpx.AsyncClient(timeout=30, limits=limits))
            yield All(running, provider, client)


async def test_limits_hold_over_all(all_of_it: All) -> None:
    await asyncio.gather(*(all_of_it.ask(f"limited-{n}") for n in range(30)))  # connections to Redis are made
    statuses = Counter[int]()
    for begin in range(0, 150, 30):  # so that Redis answers in its time though clients and gateways share two cores
        replies = await asyncio.gather(*(all_of_it.ask(f"minute-{begin + n}") for n in range(30)))
        statuses.update(reply.status_code for reply in replies)
    assert statuses[200] == all_of_it.provider.count("minute") and statuses[200] + statuses[429] == 150
    # 60 where Redis answers in time. Where a starved machine hears from it late, it lets its share in meanwhile, and
    # Redis learns of these 20 a moment too late: of two machines at most, as a third that is late has had its share.
    assert 55 <= statuses[200] <= 60 + 2 * 20
    await asyncio.sleep(2)
    assert {(await all_of_it.ask(f"minute-{150 + n}")).status_code for n in range(9)} == {429}, "by now it has"
    statuses.clear()
    for begin in range(0, 120, 30):
        replies = await asyncio.gather(*(all_of_it.ask(f"narrow-{begin + n}") for n in range(30)))
        statuses.update(reply.status_code for reply in replies)
    assert statuses[200] + statuses[429] == 120 and statuses[200] >= 15
    assert all_of_it.provider.peak["narrow"] == 5
    await all_of_it.written("narrow", 120)
    rows = all_of_it.rows("SELECT count(*), sum(cost_nano) FROM requests WHERE key_name = 'narrow' AND status = 'ok'")
    assert rows[0] == (statuses[200], statuses[200] * COST) and statuses[200] == all_of_it.provider.count("narrow")


async def test_a_budget_holds_over_all(all_of_it: All) -> None:
    replies = await asyncio.gather(*(all_of_it.ask(f"capped-{n}") for n in range(120)))
    while replies[-1].status_code == 200 or len(replies) == 120:  # until not even one that is alone fits
        replies.append(await all_of_it.ask(f"capped-{len(replies)}"))
    statuses = Counter(reply.status_code for reply in replies)
    assert set(statuses) == {200, 402}, statuses
    await all_of_it.written("capped", len(replies))
    charged = all_of_it.provider.count("capped") * COST
    assert statuses[200] * COST == charged
    assert all_of_it.spent("capped") == (charged, 0) and CAPPED_NANO - 400_000 < charged <= CAPPED_NANO
    assert int(all_of_it.rows("SELECT sum(cost_nano) FROM requests WHERE key_name = 'capped'")[0][0]) == charged


async def test_repetitions_are_answered_once_over_all(all_of_it: All) -> None:
    async def ask(number: int) -> tuple[str, bytes]:
        reply = await all_of_it.ask(f"again-{number % 8}", repeats=f"first-{number % 8}")
        assert reply.status_code == 200
        return f"again-{number % 8}", reply.content

    told = set(await asyncio.gather(*(ask(number) for number in range(96))))
    assert len(told) == 8, "byte for byte the same"
    assert all_of_it.provider.count("again") == 8
    await all_of_it.written("again", 96)
    assert int(all_of_it.rows("SELECT sum(cost_nano) FROM requests WHERE key_name = 'again'")[0][0]) == 8 * COST


# --- faults under load -----------------------------------------------------------------------------------------------


class Load:
    """Callers of every kind, each request under a name of its own. `met`: in the present phase, by kind and outcome."""

    def __init__(self, all_of_it: All) -> None:
        self._all = all_of_it
        self._done = asyncio.Event()
        self._number = 1_000
        self.answered: set[str] = set()
        self.met: Counter[str] = Counter()
        self.longest: dict[str, float] = {}
        self.dead: list[str] = []
        self.gone: set[str] = set()
        """Control planes that were killed on purpose."""

    async def run(self) -> None:
        kinds = (self._asks("free"), self._asks("free", stream=True), self._asks("steady"), self._asks("limited"))
        kinds += (self._asks("again"), self._calls())
        async with asyncio.TaskGroup() as group:
            for kind in kinds:
                group.create_task(kind)
            for control in self._all.machines.controls:
                group.create_task(self._watches(control))

    def stop(self) -> None:
        self._done.set()

    async def phase(self, name: str, seconds: float) -> Counter[str]:
        """What is met from now on, for so long."""
        self.met, self.longest = Counter(), {}
        await asyncio.sleep(seconds)
        print(f"\n{name}: {dict(sorted(self.met.items()))} longest {self.longest}")
        return self.met

    def _name(self, key: str) -> str:
        self._number += 1
        return f"{key}-{self._number}"

    def _note(self, kind: str, outcome: str, begun: float) -> None:
        self.met[f"{kind} {outcome}"] += 1
        self.longest[kind] = max(self.longest.get(kind, 0.0), round(time.monotonic() - begun, 2))

    async def _asks(self, key: str, **more: Any) -> None:
        kind = "stream" if more else key
        while not self._done.is_set():
            name, begun = self._name(key), time.monotonic()
            if key == "again":
                more = {"repeats": name}
            try:
                reply = await self._all.ask(name, **more)
                good = reply.status_code == 200 and (kind != "stream" or reply.text.rstrip().endswith("[DONE]"))
                self._note(kind, "ok" if good else str(reply.status_code), begun)
                if good:
                    self.answered.add(name)
            except httpx.HTTPError as error:
                self._note(kind, type(error).__name__, begun)
            await asyncio.sleep(0.02)

    async def _calls(self) -> None:
        async with grpc.aio.insecure_channel(self._all.machines.grpc) as channel:
            stub = gateway_pb2_grpc.ModelGatewayServiceStub(channel)
            while not self._done.is_set():
                name, begun = self._name("free"), time.monotonic()
                try:
                    asked = pb.ModelRequest(request_id=name, query=f"What is {name}?")
                    await stub.ProcessQuery(asked, metadata=(("authorization", "Bearer free"),), timeout=20)
                    self._note("call", "ok", begun)
                    self.answered.add(name)
                except grpc.aio.AioRpcError as error:
                    self._note("call", f"{error.code().name} {error.details()}", begun)
                await asyncio.sleep(0.02)

    async def _watches(self, control: str) -> None:
        """A gateway lives as long as it answers this: nothing that it needs may hold that up."""
        async with httpx.AsyncClient(timeout=2) as client:
            while not self._done.is_set():
                try:
                    alive = (await client.get(f"{control}/health/live")).status_code == 200
                except httpx.HTTPError:
                    alive = False
                if not alive and control not in self.gone:
                    self.dead.append(control)
                await asyncio.sleep(0.2)


def failed(met: Counter[str]) -> dict[str, int]:
    return {name: count for name, count in met.items() if not name.endswith(" ok")}


async def test_whatever_is_lost_nothing_is_lost(all_of_it: All) -> None:
    load = Load(all_of_it)
    running = asyncio.create_task(load.run())
    try:
        await faults(all_of_it.machines, load)
    finally:
        load.stop()
        await running
    assert not load.dead
    await all_of_it.machines.healthy(20)
    await all_is_settled(all_of_it)
    await accounts_are_right(all_of_it, load)


async def faults(m: Machines, load: Load) -> None:
    assert not failed(await load.phase("all is well", 1.5))
    await a_gateway_is_killed(m, load)

    for name, fault, repair in (("killed", m.redis.kill, m.redis.start), ("frozen", m.redis.freeze, m.redis.thaw)):
        fault()
        assert not failed(await load.phase(f"Redis {name}", 2.5)), "each has its share, and it is large enough"
        repair()
        await m.healthy(10)
        assert not failed(await load.phase("Redis is back", 0.5))

    refused = {"steady 503", "again 503"}  # fail_closed, and no promise without a database
    for name, fault, repair in (
        ("killed", m.database.kill, m.database.start),
        ("frozen", m.database.freeze, m.database.thaw),
    ):
        fault()
        met = await load.phase(f"PostgreSQL {name}", 8 if name == "frozen" else 3)
        assert set(failed(met)) <= refused and "steady 503" in met, met
        repair()
        await m.healthy(20)
        assert not failed(await load.phase("PostgreSQL is back", 0.5))

    before = await m.generation()
    m.write({"budgets": BUDGETS | {"whenUnavailable": "local_share"}})
    async with asyncio.timeout(10):
        while [each - 1 for each in await m.generation()] != before:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    await load.phase("each spends its part of what is left", 1.5)
    m.database.kill()
    met = await load.phase("PostgreSQL killed, local_share", 3)
    assert set(failed(met)) <= {"again 503"}, met
    m.database.start()
    await m.healthy(20)
    assert not failed(await load.phase("PostgreSQL is back", 0.5))


async def a_gateway_is_killed(m: Machines, load: Load) -> None:
    gateway, control = m.gateways[1], m.controls[1]
    load.gone.add(control)
    gateway.kill()
    met = failed(await load.phase("a gateway killed", 1.5))
    assert sum(met.values()) <= 8, f"only what it was at: {met}"
    assert not failed(await load.phase("two of three", 1))
    gateway.start()
    await m.healthy(20)
    load.gone.discard(control)
    assert not failed(await load.phase("three again", 1))


async def all_is_settled(all_of_it: All) -> None:
    """Rows follow their answers by a moment, what was leased follows the rows, and the last answer is a moment old."""
    asked, deadline = under_load(all_of_it.provider).keys(), time.monotonic() + 10
    while time.monotonic() < deadline:
        written = {row[0] for row in all_of_it.rows("SELECT request_id FROM requests")}
        if asked <= written and not all_of_it.spent("steady")[1]:
            return
        await asyncio.sleep(0.1)


def under_load(provider: Provider) -> dict[str, int]:
    return {name: count for name, count in provider.asked.items() if int(name.partition("-")[2]) >= 1_000}


async def accounts_are_right(all_of_it: All, load: Load) -> None:
    asked = under_load(all_of_it.provider)
    rows = all_of_it.rows("SELECT request_id, status, state, cost_nano FROM requests")
    found = Counter(row[0] for row in rows)
    charged = {row[0]: row for row in rows}
    assert {name: found[name] for name in asked if found[name] != 1} == {}, "each call has one row"
    assert {name: found[name] for name in load.answered if found[name] != 1} == {}, "and each answer"
    wrong = [charged[name] for name in load.answered if charged[name][1:] != ("ok", "settled", COST)]
    assert not wrong, "as the provider counted"
    assert all(asked[name] == 1 for name in load.answered)
    cost = int(all_of_it.rows("SELECT sum(cost_nano) FROM requests WHERE key_name = 'steady'")[0][0])
    assert all_of_it.spent("steady") == (cost, 0) and cost <= STEADY_NANO
    async with asyncio.timeout(10):  # a lease that holds nothing is taken off at its owner's next look
        while left := all_of_it.rows("SELECT * FROM holds"):
            assert not any(amount for *_, amount, _ in left)
            await asyncio.sleep(0.1)
    told = Counter(row[1] for row in rows)
    print(json.dumps({"rows": len(rows), "calls": all_of_it.provider.asked.total(), **told}))
