"""Failover, breaker, queue, keys, hedging, canary, shadow and drained calls, against real local providers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from gateway import QUESTION, config_for, fixture_provider
from model_gateway.app import App
from model_gateway.config.schema import (
    BreakerConfig,
    CacheConfig,
    CanaryConfig,
    HedgeConfig,
    RetryBudgetConfig,
    RoutingConfig,
    ShadowConfig,
)
from model_gateway.domain.chat import ChatRequest
from model_gateway.domain.errors import GatewayError
from model_gateway.domain.record import Record
from model_gateway.wire import openai as wire
from upstream import Answer, FixtureUpstream, Seen, chat, events, fixture, silence, until, whole

NO_CACHE = CacheConfig(enabled=False)


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as held:
        yield held


@pytest.fixture
async def first(stack: AsyncExitStack) -> FixtureUpstream:
    return await stack.enter_async_context(FixtureUpstream())


@pytest.fixture
async def second(stack: AsyncExitStack) -> FixtureUpstream:
    return await stack.enter_async_context(FixtureUpstream())


async def start(
    stack: AsyncExitStack,
    tmp_path: Path,
    first: FixtureUpstream,
    second: FixtureUpstream | None = None,
    routing: RoutingConfig | None = None,
    **options: Any,
) -> App:
    """`options` are the first provider's; it is the better of the two by its price."""
    providers = {"first": fixture_provider(first.url, cost_efficiency=1.0, **options)}
    if second is not None:
        providers["second"] = fixture_provider(second.url, cost_efficiency=0.0, default_model="second-model")
    config = config_for(tmp_path, providers, cache=NO_CACHE, routing=routing or RoutingConfig())
    return await stack.enter_async_context(App(config))


def request(*, stream: bool = False, model: str = "auto", **options: Any) -> ChatRequest:
    body, fields = wire.decode_chat(
        wire.encode({"model": model, "messages": [{"role": "user", "content": QUESTION}], "stream": stream})
    )
    return ChatRequest(request_id="r", model=model, messages=body.messages, body=fields, stream=stream, **options)


async def run(app: App, asked: ChatRequest | None = None) -> tuple[Record, GatewayError | None]:
    """One request through the pipeline, streams read to their end."""
    asked = asked or request()
    held: Record | None = None
    failure: GatewayError | None = None
    try:
        with app.gateway.journal("test") as record:
            held = record
            caller = app.gateway.admit("", record)
            if asked.stream:
                async for _chunks in await app.gateway.stream(asked, caller, record):
                    pass
            else:
                await app.gateway.complete(asked, caller, record)
    except GatewayError as error:
        failure = error
    assert held is not None
    return held, failure


def idle(app: App) -> bool:
    return all(state.load.in_flight == 0 and state.load.waiting == 0 for state in app.gateway.states)


def fails(status: int = 500, **headers: str) -> Answer:
    return whole(b'{"error":{"message":"no"}}', status, **headers)


# --- breaker ----------------------------------------------------------------------------------------------------------


async def test_a_single_upstream_is_left_alone_after_failing_and_tried_again(
    stack: AsyncExitStack, tmp_path: Path, first: FixtureUpstream
) -> None:
    app = await start(stack, tmp_path, first, breaker=BreakerConfig(failures=3, cooldown=300))
    first.answer = fails()
    for _ in range(3):
        await run(app)
    assert len(first.seen) == 3
    record, error = await run(app)
    assert len(first.seen) == 3, "an open breaker asks nobody"
    assert record.status == "model_unavailable" and record.attempts == []
    assert error is not None and error.retry_after_s is not None and 0 < error.retry_after_s <= 0.3
    first.answer = chat
    await asyncio.sleep(0.35)
    results = await asyncio.gather(*(run(app) for _ in range(5)))
    assert [record.status for record, _ in results].count("ok") == 1, "one call tries, the others are told to wait"
    record, error = await run(app)
    assert error is None and idle(app)


async def test_while_a_breaker_is_open_its_tier_is_served_by_another(
    stack: AsyncExitStack, tmp_path: Path, first: FixtureUpstream, second: FixtureUpstream
) -> None:
    app = await start(stack, tmp_path, first, second, breaker=BreakerConfig(failures=2))
    first.answer = fails()
    for _ in range(2):
        record, error = await run(app)
        assert error is None and [a.provider for a in record.attempts] == ["first", "second"]
    record, error = await run(app)
    assert error is None and [a.provider for a in record.attempts] == ["second"]
    assert len(first.seen) == 2


# --- Retry-After and keys ---------------------------------------------------------------------------------------------


async def test_a_retry_after_is_never_undercut_by_anyone(
    stack: AsyncExitStack, tmp_path: Path, first: FixtureUpstream, second: FixtureUpstream
) -> None:
    app = await start(stack, tmp_path, first, second, retry_count=3)
    first.answer = fails(429, retry_after="2")
    begun = time.monotonic()
    record, error = await run(app)
    assert error is None and [a.provider for a in record.attempts] == ["first", "second"], "nobody waits for it"
    first.answer = chat
    record, error = await run(app)
    assert [a.provider for a in record.attempts] == ["second"] and len(first.seen) == 1
    await asyncio.sleep(2.05 - (time.monotonic() - begun))
    record, error = await run(app)
    assert [a.provider for a in record.attempts] == ["first"]


async def test_the_only_provider_is_waited_for_if_it_asks_for_little(
    stack: AsyncExitStack, tmp_path: Path, first: FixtureUpstream
) -> None:
    app = await start(stack, tmp_path, first, queue_timeout=5_000)
    times: list[float] = []

    async def answer(seen: Seen, writer: asyncio.StreamWriter) -> None:
        times.append(time.monotonic())
        await (fails(429, retry_after="1") if len(times) == 1 else chat)(seen, writer)

    first.answer = answer
    _, error = await run(app)
    assert error is not None and error.retry_after_s == 1
    record, error = await run(app)
    assert error is None and record.status == "ok"
    assert times[1] - times[0] >= 1.0


async def test_keys_are_rotated_on_429_and_401_within_one_request(
    stack: AsyncExitStack, tmp_path: Path, first: FixtureUpstream
) -> None:
    keys = ("key-limited", "key-revoked", "key-good")
    app = await start(stack, tmp_path, first, api_keys=tuple(SecretStr(key) for key in keys))

    async def answer(seen: Seen, writer: asyncio.StreamWriter) -> None:
        key = seen.headers["authorization"].removeprefix("Bearer ")
        await {"key-limited": fails(429), "key-revoked": fails(401)}.get(key, chat)(seen, writer)

    first.answer = answer
    record, error = await run(app)
    assert error is None
    assert [seen.headers["authorization"].removeprefix("Bearer ") for seen in first.seen] == list(keys)
    assert [a.outcome for a in record.attempts] == ["upstream_status", "upstream_status", "ok"]
    for _ in range(3):
        await run(app)
    assert {seen.headers["authorization"] for seen in first.seen[3:]} == {"Bearer key-good"}
    assert app.gateway.states[0].success_rate == 1.0, "a key's refusal is not the target's failure"


# --- places, queue and retry budget -----------------------------------------------------------------------------------


async def test_more_than_fit_wait_in_a_bounded_queue(
    stack: AsyncExitStack, tmp_path: Path, first: FixtureUpstream
) -> None:
    app = await start(stack, tmp_path, first, max_concurrent_queries=2, queue_size=3, queue_timeout=5_000)
    most = 0

    async def answer(seen: Seen, writer: asyncio.StreamWriter) -> None:
        nonlocal most
        most = max(most, app.gateway.states[0].load.in_flight)
        await asyncio.sleep(0.05)
        await chat(seen, writer)

    first.answer = answer
    results = await asyncio.gather(*(run(app, request(stream=i % 2 == 0)) for i in range(8)))
    statuses = sorted(record.status for record, _ in results)
    assert statuses == ["ok"] * 5 + ["overloaded"] * 3
    assert most == 2 and idle(app)


async def test_who_waits_too_long_is_told_so(stack: AsyncExitStack, tmp_path: Path, first: FixtureUpstream) -> None:
    app = await start(stack, tmp_path, first, max_concurrent_queries=1, queue_timeout=50, first_token_timeout=700)
    first.answer = silence
    holder = asyncio.ensure_future(run(app, request(stream=True)))
    await until(lambda: len(first.seen) == 1)
    record, error = await run(app)
    assert record.status == "overloaded" and error is not None and error.retry_after_s == 1
    await holder
    assert idle(app)


async def test_queued_callers_that_leave_give_up_their_turn(
    stack: AsyncExitStack, tmp_path: Path, first: FixtureUpstream
) -> None:
    app = await start(stack, tmp_path, first, max_concurrent_queries=1)
    first.answer = events(fixture("stream.sse"), pace_s=0.01)
    tasks = [asyncio.ensure_future(run(app, request(stream=True))) for _ in range(10)]
    await until(lambda: app.gateway.states[0].load.waiting == 9)
    for task in tasks[1::2]:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    done = [result for result in results if isinstance(result, tuple)]
    assert [record.status for record, _ in done] == ["ok"] * 5
    assert idle(app)


async def test_retries_of_all_requests_share_one_budget(
    stack: AsyncExitStack, tmp_path: Path, first: FixtureUpstream
) -> None:
    routing = RoutingConfig(retry_budget=RetryBudgetConfig(ratio=0.1, min_per_second=0.1))
    app = await start(stack, tmp_path, first, None, routing, retry_count=5, breaker=BreakerConfig(enabled=False))
    first.answer = fails()
    await asyncio.gather(*(run(app) for _ in range(40)))
    assert 40 <= len(first.seen) <= 40 + 0.1 * 40 + 1


# --- hedging ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
async def test_a_slow_first_target_is_hedged_and_the_loser_is_cancelled(
    stack: AsyncExitStack, tmp_path: Path, first: FixtureUpstream, second: FixtureUpstream, stream: bool
) -> None:
    routing = RoutingConfig(
        hedge=HedgeConfig(enabled=True, percentile=95, min_delay=30),
        retry_budget=RetryBudgetConfig(ratio=1.0, min_per_second=10),
    )
    app = await start(stack, tmp_path, first, second, routing)
    for _ in range(20):
        await run(app, request(stream=stream))
    assert not second.seen, "nothing is unusual yet"
    first.answer = silence
    begun = time.monotonic()
    record, error = await run(app, request(stream=stream))
    assert error is None and time.monotonic() - begun < 0.5
    assert [(a.provider, a.outcome) for a in record.attempts] == [("first", "cancelled"), ("second", "ok")]
    assert record.provider == "second"
    await until(lambda: first.hung_up == 1)
    await until(lambda: idle(app))
    assert record.usage is not None and record.cost_nano > 37_000 + 2 * 27_000, "the loser has read the prompt too"


async def test_without_budget_there_is_no_hedge(
    stack: AsyncExitStack, tmp_path: Path, first: FixtureUpstream, second: FixtureUpstream
) -> None:
    routing = RoutingConfig(
        hedge=HedgeConfig(enabled=True, min_delay=10), retry_budget=RetryBudgetConfig(ratio=0, min_per_second=0)
    )
    app = await start(stack, tmp_path, first, second, routing)
    for _ in range(20):
        await run(app)

    async def slow(seen: Seen, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.2)
        await chat(seen, writer)

    first.answer = slow
    record, error = await run(app)
    assert error is None and [a.provider for a in record.attempts] == ["first"]


@pytest.mark.parametrize("seed", range(3))
async def test_hedges_cancelled_at_any_moment_leave_nothing_behind(
    stack: AsyncExitStack, tmp_path: Path, first: FixtureUpstream, second: FixtureUpstream, seed: int
) -> None:
    routing = RoutingConfig(
        hedge=HedgeConfig(enabled=True, percentile=1, min_delay=1),
        retry_budget=RetryBudgetConfig(ratio=1.0, min_per_second=1000),
    )
    app = await start(stack, tmp_path, first, second, routing)
    for _ in range(20):
        await run(app, request(stream=True))
    first.answer = second.answer = events(fixture("stream.sse"), pace_s=0.003)
    tasks = [asyncio.ensure_future(run(app, request(stream=True))) for _ in range(30)]
    for at, task in enumerate(tasks):
        await asyncio.sleep(0.001 * ((at * 7 + seed) % 4))
        if at % 3 == 0:
            task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await until(lambda: idle(app))


# --- names, canary, shadow --------------------------------------------------------------------------------------------


async def test_aliases_share_by_weight_and_fall_back_to_each_other(
    stack: AsyncExitStack, tmp_path: Path, first: FixtureUpstream, second: FixtureUpstream
) -> None:
    routing = RoutingConfig(aliases={"team": {"first/fixture-model": 3, "second/second-model": 1}, "one": "auto:best"})
    app = await start(stack, tmp_path, first, second, routing, breaker=BreakerConfig(enabled=False))
    for _ in range(200):
        await run(app, request(model="team"))
    assert 110 <= len(first.seen) <= 185 and len(first.seen) + len(second.seen) == 200
    first.answer = fails()
    for _ in range(20):
        record, error = await run(app, request(model="team"))
        assert error is None and record.provider == "second"
    record, error = await run(app, request(model="one"))
    assert error is None and record.asked_model == "one"


async def test_a_canary_is_tried_first_by_its_share_and_falls_back(
    stack: AsyncExitStack, tmp_path: Path, first: FixtureUpstream, second: FixtureUpstream
) -> None:
    routing = RoutingConfig(canary=CanaryConfig(model="second/second-model", share=1.0))
    app = await start(stack, tmp_path, first, second, routing)
    record, _ = await run(app)
    assert record.provider == "second" and record.route_reason.startswith("canary")
    second.answer = fails()
    record, error = await run(app)
    assert error is None and record.provider == "first"


async def test_a_shadow_is_recorded_and_never_seen(
    stack: AsyncExitStack, tmp_path: Path, first: FixtureUpstream, second: FixtureUpstream
) -> None:
    routing = RoutingConfig(shadow=ShadowConfig(model="second-model", share=1.0))
    closed: list[Record] = []
    app = await start(stack, tmp_path, first, second, routing)
    app.gateway.observers.append(closed.append)
    record, error = await run(app, request(stream=True))
    assert error is None and record.provider == "first" and len(record.attempts) == 1
    await until(lambda: len(closed) == 2)
    shadow = next(record for record in closed if record.door == "shadow")
    assert shadow.provider == "second" and shadow.cost_nano > 0 and shadow.request_id.endswith("-shadow")
    second.answer = fails()
    record, error = await run(app)
    assert error is None
    await until(lambda: len(closed) == 4)
    assert [r.status for r in closed if r.door == "shadow"] == ["ok", "model_unavailable"]


# --- callers that leave -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
async def test_a_caller_that_leaves_before_the_answer_is_charged_an_estimate(
    stack: AsyncExitStack, tmp_path: Path, first: FixtureUpstream, stream: bool
) -> None:
    app = await start(stack, tmp_path, first, first_token_timeout=10_000)
    closed: list[Record] = []
    app.gateway.observers.append(closed.append)
    first.answer = silence
    task = asyncio.ensure_future(run(app, request(stream=stream)))
    await until(lambda: len(first.seen) == 1)
    left = time.monotonic()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await until(lambda: first.hung_up == 1)
    assert time.monotonic() - left < 0.1
    (record,) = closed
    assert record.status == "cancelled" and record.usage is not None
    assert record.usage.estimated and record.usage.input_tokens > 0 and record.cost_nano > 0
    assert idle(app)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_draining_provider_is_read_to_its_end_and_charged_exactly(
    stack: AsyncExitStack, tmp_path: Path, first: FixtureUpstream, stream: bool
) -> None:
    app = await start(stack, tmp_path, first, on_disconnect="drain")
    closed: list[Record] = []
    app.gateway.observers.append(closed.append)

    async def slow(seen: Seen, writer: asyncio.StreamWriter) -> None:
        if stream:
            await events(fixture("stream.sse"), pace_s=0.02)(seen, writer)
        else:
            await asyncio.sleep(0.2)
            await chat(seen, writer)

    first.answer = slow
    task = asyncio.ensure_future(run(app, request(stream=stream)))
    await until(lambda: len(first.seen) == 1)
    await asyncio.sleep(0.05)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert closed == []
    await until(lambda: len(closed) == 1)
    (record,) = closed
    assert record.status == "cancelled" and record.usage is not None and not record.usage.estimated
    assert record.cost_nano == record.usage.input_tokens * 1_000 + record.usage.output_tokens * 2_000
    assert first.hung_up == 0 and idle(app)
