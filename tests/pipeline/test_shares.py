"""Aliases, canary and shadow requests, and callers that leave, against real local providers."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from asking import fails, idle, request, run, start
from model_gateway.config.schema import BreakerConfig, CanaryConfig, RoutingConfig, ShadowConfig
from model_gateway.domain.record import Record
from upstream import FixtureUpstream, Seen, chat, events, fixture, silence, until

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
