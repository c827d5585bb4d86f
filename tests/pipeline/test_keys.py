"""Keys within a running pipeline: places come back however a request ends, tokens are settled, scopes hold."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from asking import NO_CACHE, fails, request
from gateway import config_for, fixture_provider
from model_gateway.app import App
from model_gateway.config.schema import CacheConfig, CallerKey, RoutingConfig, ServerConfig, ShadowConfig
from model_gateway.domain.chat import ChatRequest
from model_gateway.domain.errors import GatewayError, Overloaded, PermissionDenied, RateLimited
from model_gateway.domain.record import Record
from upstream import FixtureUpstream, Seen, chat, events, fixture, silence, until

TOKENS = 39 + 27  # what the recorded reply says


def key(name: str, tenant: str = "default", **options: Any) -> CallerKey:
    return CallerKey(name=name, key=SecretStr(name), tenant=tenant, **options)


async def start(
    stack: AsyncExitStack,
    tmp_path: Path,
    keys: Sequence[CallerKey],
    first: FixtureUpstream,
    second: FixtureUpstream | None = None,
    *,
    provider: dict[str, Any] | None = None,
    cache: CacheConfig = NO_CACHE,
    **sections: Any,
) -> App:
    """`provider`: options of the first, which is the better one; each serves one model of its own."""
    providers = {"first": fixture_provider(first.url, cost_efficiency=1.0, **(provider or {}))}
    if second is not None:
        providers["second"] = fixture_provider(second.url, cost_efficiency=0.0, default_model="second-model")
    config = config_for(tmp_path, providers, keys=tuple(keys), cache=cache, **sections)
    return await stack.enter_async_context(App(config))


async def run(app: App, who: str, asked: ChatRequest | None = None) -> Record:
    """One request of a key, streams read to their end."""
    asked = asked or request()
    with app.gateway.journal("http") as record:
        caller = app.gateway.admit(who, record)
        if asked.stream:
            async for _chunks in await app.gateway.stream(asked, caller, record):
                pass
        else:
            await app.gateway.complete(asked, caller, record)
    return record


def left(app: App, who: str) -> tuple[int, int]:
    """Requests and tokens."""
    record = Record("r", "http", 0.0, key_name=who)
    quota = app.gateway.quota(record)
    assert quota is not None and quota.requests is not None and quota.tokens is not None
    return quota.requests.remaining, quota.tokens.remaining


# --- places -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("end", ["answer", "error", "cancel", "stall"])
async def test_a_place_comes_back_however_the_request_ends(
    stack: AsyncExitStack, tmp_path: Path, first: FixtureUpstream, end: str, stream: bool
) -> None:
    impatient = {"timeout": 300, "first_token_timeout": 300}
    app = await start(stack, tmp_path, [key("a", max_concurrent=1)], first, provider=impatient)
    gate = asyncio.Event()

    async def answer(seen: Seen, writer: asyncio.StreamWriter) -> None:
        await gate.wait()
        if end == "error":
            await fails()(seen, writer)
        elif end == "stall":
            await silence(seen, writer)
        else:
            await chat(seen, writer)

    first.answer = answer
    task = asyncio.ensure_future(run(app, "a", request(stream=stream)))
    await until(lambda: len(first.seen) == 1)
    with pytest.raises(RateLimited, match="1 request at once"):
        await run(app, "a")
    if end == "cancel":
        task.cancel()
    gate.set()
    (result,) = await asyncio.gather(task, return_exceptions=True)
    assert isinstance(
        result, Record if end == "answer" else asyncio.CancelledError if end == "cancel" else GatewayError
    )
    first.answer = chat
    assert (await run(app, "a")).status == "ok"


async def test_a_stream_that_is_abandoned_gives_its_place_back(
    stack: AsyncExitStack, tmp_path: Path, first: FixtureUpstream
) -> None:
    app = await start(stack, tmp_path, [key("a", max_concurrent=1)], first)
    first.answer = events(fixture("stream.sse"), pace_s=0.05)
    with app.gateway.journal("http") as record:
        stream = await app.gateway.stream(request(stream=True), app.gateway.admit("a", record), record)
        async for _chunks in stream:
            with pytest.raises(RateLimited):
                await run(app, "a")
            break
        stream.abandon(asyncio.CancelledError())
    first.answer = chat
    assert (await run(app, "a")).status == "ok"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_call_that_is_drained_holds_its_place_to_its_end(
    stack: AsyncExitStack, tmp_path: Path, first: FixtureUpstream, stream: bool
) -> None:
    limited = key("a", max_concurrent=1, requests_per_minute=9, tokens_per_minute=10_000)
    app = await start(stack, tmp_path, [limited], first, provider={"on_disconnect": "drain"})
    closed: list[Record] = []
    app.gateway.observers.append(closed.append)

    async def slow(seen: Seen, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0 if stream else 0.2)
        await (events(fixture("stream.sse"), pace_s=0.03) if stream else chat)(seen, writer)

    first.answer = slow
    task = asyncio.ensure_future(run(app, "a", request(stream=stream)))
    await until(lambda: len(first.seen) == 1)
    await asyncio.sleep(0.05)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    with pytest.raises(RateLimited, match="at once"):
        await run(app, "a")
    await until(lambda: any(record.status == "cancelled" for record in closed))
    assert left(app, "a")[1] == 10_000 - TOKENS
    first.answer = chat
    assert (await run(app, "a")).status == "ok"


async def test_more_than_the_gateway_holds_is_shed_at_once(
    stack: AsyncExitStack, tmp_path: Path, first: FixtureUpstream
) -> None:
    server = ServerConfig(port=0, http_port=0, control_port=0, shutdown_grace=2_000, max_in_flight=2)
    app = await start(stack, tmp_path, [], first, server=server)
    first.answer = silence
    tasks = [asyncio.ensure_future(run(app, "")) for _ in range(2)]
    await until(lambda: len(first.seen) == 2)
    with pytest.raises(Overloaded, match="maxInFlight") as shed:
        await run(app, "")
    assert shed.value.retry_after_s == 1
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    first.answer = chat
    assert (await run(app, "")).status == "ok"


async def test_one_tenants_queue_does_not_delay_anothers_first(
    stack: AsyncExitStack, tmp_path: Path, first: FixtureUpstream
) -> None:
    keys = [key("loud", "loud"), key("quiet", "quiet"), key("small", "small", max_queue=1)]
    provider = {"max_concurrent_queries": 1, "queue_size": 10}
    app = await start(stack, tmp_path, keys, first, provider=provider)
    order: list[str] = []

    async def asking(who: str) -> str:
        try:
            await run(app, who)
        except Overloaded:
            return "refused"
        order.append(who)
        return "served"

    async def slow(seen: Seen, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.03)
        await chat(seen, writer)

    first.answer = slow
    loud = [asyncio.ensure_future(asking("loud")) for _ in range(11)]
    await until(lambda: app.gateway.states[0].load.waiting == 10)
    quiet = [asyncio.ensure_future(asking(who)) for who in ("quiet", "small", "small")]
    await asyncio.gather(*loud, *quiet)
    assert order[0] == "loud", "it was being answered already"
    assert order.index("quiet") <= 2 and order.index("small") <= 3
    assert [task.result() for task in quiet] == ["served", "served", "refused"]
    assert [task.result() for task in loud].count("refused") == 2, "the flood makes room, from its end"
    assert loud[-1].result() == "refused"


# --- requests and tokens ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
async def test_tokens_are_reserved_and_settled_with_what_the_provider_counted(
    stack: AsyncExitStack, tmp_path: Path, first: FixtureUpstream, stream: bool
) -> None:
    limited = key("a", requests_per_minute=5, tokens_per_minute=1_000)
    app = await start(stack, tmp_path, [limited], first)
    await run(app, "a", request(stream=stream, max_tokens=900))
    assert left(app, "a") == (4, 1_000 - TOKENS)
    first.answer = fails()
    with pytest.raises(GatewayError):
        await run(app, "a", request(stream=stream))
    assert left(app, "a") == (3, 1_000 - TOKENS), "who got nothing has used nothing"
    with pytest.raises(RateLimited, match="tokensPerMinute"):
        await run(app, "a", request(stream=stream, max_tokens=950))
    assert left(app, "a") == (2, 1_000 - TOKENS) and len(first.seen) == 2


async def test_an_answer_from_the_cache_takes_a_request_and_no_tokens(
    stack: AsyncExitStack, tmp_path: Path, first: FixtureUpstream
) -> None:
    limited = key("a", requests_per_minute=3, tokens_per_minute=10_000)
    app = await start(stack, tmp_path, [limited], first, cache=CacheConfig())
    for _ in range(3):
        await run(app, "a")
    assert left(app, "a") == (0, 10_000 - TOKENS) and len(first.seen) == 1
    with pytest.raises(RateLimited, match="3 requests a minute") as refused:
        await run(app, "a")
    assert refused.value.retry_after_s is not None and 58 < refused.value.retry_after_s <= 60


# --- scopes -----------------------------------------------------------------------------------------------------------


async def test_a_model_outside_is_denied_by_name_and_not_routed_to(
    stack: AsyncExitStack, tmp_path: Path, first: FixtureUpstream, second: FixtureUpstream
) -> None:
    keys = [key("all"), key("narrow", models=("second-model",))]
    app = await start(stack, tmp_path, keys, first, second)
    assert (await run(app, "all")).provider == "first"
    assert (await run(app, "narrow")).provider == "second"
    second.answer = fails()
    with pytest.raises(GatewayError):
        await run(app, "narrow")
    assert len(first.seen) == 1, "no fallback leads outside"
    for name in ("fixture-model", "first/fixture-model"):
        with pytest.raises(PermissionDenied, match=name):
            await run(app, "narrow", request(model=name))


async def test_a_cached_answer_of_a_model_outside_is_not_read(
    stack: AsyncExitStack, tmp_path: Path, first: FixtureUpstream, second: FixtureUpstream
) -> None:
    keys = [key("all"), key("narrow", models=("second/*",)), key("same", models=("second-model",)), key("other", "t")]
    app = await start(stack, tmp_path, keys, first, second, cache=CacheConfig())
    assert ((await run(app, "all")).provider, (await run(app, "all")).cache) == ("first", "hit")
    await run(app, "all", request(model="fixture-model"))
    narrow = await run(app, "narrow")
    assert (narrow.provider, narrow.cache) == ("second", "miss")
    assert (await run(app, "same")).cache == "hit", "what may come from the same models may be shared in a tenant"
    assert (await run(app, "all")).provider == "first", "nor does the narrow key's answer reach the others"
    assert (await run(app, "other")).cache == "miss"
    with pytest.raises(PermissionDenied):
        await run(app, "narrow", request(model="fixture-model"))


async def test_no_mirror_leads_outside(
    stack: AsyncExitStack, tmp_path: Path, first: FixtureUpstream, second: FixtureUpstream
) -> None:
    keys = [key("all"), key("narrow", models=("first/*",))]
    routing = RoutingConfig(shadow=ShadowConfig(model="second-model", share=1.0))
    app = await start(stack, tmp_path, keys, first, second, routing=routing)
    await run(app, "narrow")
    await run(app, "all")
    await until(lambda: len(second.seen) == 1)
    await asyncio.sleep(0.05)
    assert len(second.seen) == 1 and len(first.seen) == 2
