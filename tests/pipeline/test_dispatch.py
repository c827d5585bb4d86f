"""Failover, breaker, queue, keys, hedging, canary, shadow and drained calls, against real local providers."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from pydantic import SecretStr

from asking import fails, idle, request, run, start
from model_gateway.config.schema import (
    BreakerConfig,
    HedgeConfig,
    RetryBudgetConfig,
    RoutingConfig,
)
from upstream import FixtureUpstream, Seen, chat, events, fixture, silence, until

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
    assert all(attempt.usage is not None and attempt.cost_nano > 0 for attempt in record.attempts)
    assert sum(attempt.cost_nano for attempt in record.attempts) == record.cost_nano


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
