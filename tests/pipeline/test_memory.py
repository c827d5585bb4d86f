"""What has been replaced, closed or left is given back at once, without the garbage collector having to find it."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from gateway import QUESTION, config_for, fixture_provider
from model_gateway.app import App
from model_gateway.assessing import routing_model
from model_gateway.budget import tokens
from model_gateway.budget.charges import MESSAGE_TOKENS
from model_gateway.domain.record import Record
from model_gateway.domain.usage import Usage
from model_gateway.pipeline import Gateway
from model_gateway.providers.connection import UpstreamConnection
from model_gateway.server.http.protocol import HttpConnection
from upstream import FixtureUpstream, chat, silence, until, whole

BODY = {"model": "auto", "messages": [{"role": "user", "content": QUESTION}]}


@pytest.fixture(autouse=True)
def no_collector() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


def alive(kind: type) -> int:
    return sum(isinstance(each, kind) for each in gc.get_objects())


async def test_a_reload_gives_back_what_it_replaces(tmp_path: Path) -> None:
    """The first configuration too, which was there before the modules were frozen."""
    async with (
        FixtureUpstream(chat) as upstream,
        App(config_for(tmp_path, {"p": fixture_provider(upstream.url)})) as app,
    ):
        replaced: list[weakref.ref[Gateway]] = []
        for _ in range(3):
            replaced.append(weakref.ref(app.gateway))
            await app.apply(app.config)
        await until(lambda: all(each() is None for each in replaced), 5)


def test_two_configurations_share_one_routing_model() -> None:
    one = routing_model()
    assert routing_model() is one


async def test_a_closed_connection_is_given_back(tmp_path: Path) -> None:
    answered_last = whole(b'{"choices":[{"message":{"content":"yes"},"finish_reason":"stop"}]}', connection="close")
    async with (
        FixtureUpstream(answered_last) as upstream,
        App(config_for(tmp_path, {"p": fixture_provider(upstream.url)}, cache={"enabled": False})) as app,
    ):
        before = alive(HttpConnection), alive(UpstreamConnection)
        for _ in range(5):
            async with httpx.AsyncClient() as client:
                reply = await client.post(f"http://127.0.0.1:{app.http_port}/v1/chat/completions", json=BODY)
                assert reply.is_success
        await until(lambda: alive(HttpConnection) <= before[0] and alive(UpstreamConnection) <= before[1], 5)


async def test_a_limit_on_tokens_that_is_far_costs_no_vocabulary(tmp_path: Path) -> None:
    tokens._vocabulary.cache_clear()
    limits = {"tokens_per_minute": 5_000}
    async with (
        FixtureUpstream(chat) as upstream,
        App(
            config_for(tmp_path, {"p": fixture_provider(upstream.url)}, cache={"enabled": False}, limits=limits)
        ) as app,
        httpx.AsyncClient() as client,
    ):
        url = f"http://127.0.0.1:{app.http_port}/v1/chat/completions"
        reply = await client.post(url, json=BODY)
        assert reply.is_success
        assert 4_000 < int(reply.headers["x-ratelimit-remaining-tokens"]) < 5_000
        assert tokens._vocabulary.cache_info().currsize == 0
        refused = await client.post(url, json=BODY | {"max_tokens": 4_960})
        assert refused.status_code == 429
        assert tokens._vocabulary.cache_info().currsize == 1


async def test_a_caller_who_leaves_before_the_answer_costs_no_vocabulary(tmp_path: Path) -> None:
    """It is charged what was held for the prompt."""
    records: list[Record] = []
    tokens._vocabulary.cache_clear()
    async with (
        FixtureUpstream(silence) as upstream,
        App(config_for(tmp_path, {"p": fixture_provider(upstream.url, first_token_timeout=9_000)})) as app,
    ):
        app.gateway.observers.append(records.append)
        async with httpx.AsyncClient() as client:
            with pytest.raises(httpx.ReadTimeout):
                await client.post(f"http://127.0.0.1:{app.http_port}/v1/chat/completions", json=BODY, timeout=0.3)
        await until(lambda: bool(records))
    assert records[0].status == "cancelled"
    assert records[0].usage == Usage(tokens.about(QUESTION) + MESSAGE_TOKENS, 0, estimated=True)
    assert records[0].cost_nano > 0
    assert tokens._vocabulary.cache_info().currsize == 0
