"""Limits and scopes of keys, as callers meet them with the official SDK and over gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import openai
import pytest
from pydantic import SecretStr

from gateway import QUESTION, config_for, fixture_provider
from model_gateway.app import App
from model_gateway.config.schema import CacheConfig, CallerKey
from model_gateway.pb import gateway_pb2, gateway_pb2_grpc
from upstream import FixtureUpstream, chat, events, fixture, silence, until

ASK: Any = [{"role": "user", "content": QUESTION}]
PAST = datetime.now(UTC) - timedelta(seconds=1)


def key(name: str, **options: Any) -> CallerKey:
    return CallerKey(name=name, key=SecretStr(f"sk-same-beginning-{name}"), **options)


@pytest.fixture
async def upstream() -> AsyncIterator[FixtureUpstream]:
    async with FixtureUpstream(chat) as server:
        yield server


def app_with(folder: Path, upstream: FixtureUpstream, *keys: CallerKey, **sections: Any) -> App:
    providers = {
        "small": fixture_provider(upstream.url, default_model="small", supported_model_types=("local", "hybrid")),
        "large": fixture_provider(upstream.url, default_model="large", supported_model_types=("remote",)),
    }
    sections.setdefault("cache", CacheConfig(enabled=False))
    return App(config_for(folder, providers, keys=keys, **sections))


def client_of(app: App, name: str) -> openai.AsyncOpenAI:
    url = f"http://127.0.0.1:{app.http_port}/v1"
    return openai.AsyncOpenAI(base_url=url, api_key=f"sk-same-beginning-{name}", max_retries=0)


async def test_a_rate_is_kept_and_said_and_no_other_key_pays_for_it(tmp_path: Path, upstream: FixtureUpstream) -> None:
    app = app_with(tmp_path, upstream, key("ada", requests_per_minute=3), key("bob"))
    async with app, client_of(app, "ada") as ada, client_of(app, "bob") as bob:
        replies = await asyncio.gather(
            *(ada.chat.completions.create(model="auto", messages=ASK) for _ in range(8)), return_exceptions=True
        )
        refused = [reply for reply in replies if isinstance(reply, openai.RateLimitError)]
        assert len(refused) == 5 and len(upstream.seen) == 3
        assert "3 requests a minute" in str(refused[0])
        assert 55 <= int(refused[0].response.headers["retry-after"]) <= 60
        await bob.chat.completions.create(model="auto", messages=ASK)


async def test_places_are_given_back_however_a_request_ends(tmp_path: Path, upstream: FixtureUpstream) -> None:
    app = app_with(tmp_path, upstream, key("ada", max_concurrent=1))
    async with app, client_of(app, "ada") as ada:
        ask: Any = {"model": "auto", "messages": ASK}
        upstream.answer = silence
        waiting = asyncio.ensure_future(ada.chat.completions.create(**ask))
        await until(lambda: len(upstream.seen) == 1)
        with pytest.raises(openai.RateLimitError, match="1 request at once"):
            await ada.chat.completions.create(**ask)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await until(lambda: app.gateway.in_flight == 0)
        body = fixture("stream.sse")
        upstream.answer = events(body, cut_at=len(body) // 2)
        stream = await ada.chat.completions.create(**ask, stream=True)
        with pytest.raises(openai.APIError):
            async for _ in stream:
                pass
        upstream.answer = chat
        with pytest.raises(openai.NotFoundError):
            await ada.chat.completions.create(model="nobody", messages=ASK)
        await ada.chat.completions.create(**ask)


async def test_tokens_are_reserved_and_corrected(tmp_path: Path, upstream: FixtureUpstream) -> None:
    """66 tokens each, of which 112 are reserved: 250 are enough for three one after the other, not for a fourth."""
    app = app_with(tmp_path, upstream, key("ada", tokens_per_minute=250))
    async with app, client_of(app, "ada") as ada:
        for _ in range(3):
            await ada.chat.completions.create(model="auto", messages=ASK, max_tokens=90)
        with pytest.raises(openai.RateLimitError, match="250 tokens a minute"):
            await ada.chat.completions.create(model="auto", messages=ASK, max_tokens=90)
        with pytest.raises(openai.BadRequestError, match="250 tokens a minute"):
            await ada.chat.completions.create(model="auto", messages=ASK, max_tokens=1000)


async def test_a_key_gets_only_its_models(tmp_path: Path, upstream: FixtureUpstream) -> None:
    app = app_with(tmp_path, upstream, key("ada", models=("small",)), key("tier", tiers=("remote",)))
    async with app, client_of(app, "ada") as ada, client_of(app, "tier") as tier:
        for model in ("auto", "auto:best", "small", "small/small"):
            await ada.chat.completions.create(model=model, messages=ASK)
            assert upstream.seen[-1].json["model"] == "small"
        with pytest.raises(openai.PermissionDeniedError, match="may not use the model `large`"):
            await ada.chat.completions.create(model="large", messages=ASK)
        await tier.chat.completions.create(model="auto", messages=ASK)
        assert upstream.seen[-1].json["model"] == "large"
        with pytest.raises(openai.PermissionDeniedError):
            await tier.chat.completions.create(model="small", messages=ASK)
        listed = {model.id for model in (await ada.models.list()).data}
        assert listed >= {"auto", "small"} and "large" not in listed


async def test_a_key_may_expire_and_may_have_its_doors(tmp_path: Path, upstream: FixtureUpstream) -> None:
    app = app_with(tmp_path, upstream, key("old", expires_at=PAST), key("grpc", doors=("grpc",)))
    async with app, client_of(app, "old") as old, client_of(app, "grpc") as other:
        with pytest.raises(openai.AuthenticationError, match="expired"):
            await old.chat.completions.create(model="auto", messages=ASK)
        with pytest.raises(openai.PermissionDeniedError, match="it may use grpc"):
            await other.chat.completions.create(model="auto", messages=ASK)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{app.grpc_port}") as channel:
            stub = gateway_pb2_grpc.ModelGatewayServiceStub(channel)
            metadata = (("authorization", "Bearer sk-same-beginning-grpc"),)
            assert (await stub.ProcessQuery(gateway_pb2.ModelRequest(query=QUESTION), metadata=metadata)).response
    assert len(upstream.seen) == 1


async def test_grpc_is_told_of_a_limit(tmp_path: Path, upstream: FixtureUpstream) -> None:
    async with (
        app_with(tmp_path, upstream, key("ada", requests_per_minute=1)) as app,
        grpc.aio.insecure_channel(f"127.0.0.1:{app.grpc_port}") as channel,
    ):
        stub = gateway_pb2_grpc.ModelGatewayServiceStub(channel)
        metadata = (("authorization", "Bearer sk-same-beginning-ada"),)
        request = gateway_pb2.ModelRequest(query=QUESTION)
        await stub.ProcessQuery(request, metadata=metadata)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.ProcessQuery(request, metadata=metadata)
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "1 request a minute" in (refused.value.details() or "")


async def test_two_keys_with_the_same_beginning_share_no_answer(tmp_path: Path, upstream: FixtureUpstream) -> None:
    keys = key("ada", tenant="a"), key("adam", tenant="b")
    app = app_with(tmp_path, upstream, *keys, cache=CacheConfig())
    async with app, client_of(app, "ada") as ada, client_of(app, "adam") as adam:
        for client in (ada, ada, adam, adam):
            await client.chat.completions.create(model="auto", messages=ASK)
    assert len(upstream.seen) == 2, "each team asks once, and has its own answer in the cache"
