"""Scopes and limits as the official SDKs see them: typed errors, when to come back, what is left, which models."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anthropic
import grpc
import openai
import pytest
from anthropic import AsyncAnthropic
from google.genai import Client, errors, types
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from openai import AsyncOpenAI
from pydantic import SecretStr

from asking import NO_CACHE
from gateway import QUESTION, config_for, fixture_provider
from model_gateway.app import App
from model_gateway.config.schema import CallerKey, RoutingConfig
from model_gateway.pb import gateway_pb2 as pb
from model_gateway.pb import gateway_pb2_grpc
from upstream import FixtureUpstream, recorded

ASK: Any = [{"role": "user", "content": QUESTION}]
NAMES = ["auto", "auto:cheap", "auto:fast", "auto:best"]


def key(name: str, **options: Any) -> CallerKey:
    return CallerKey(name=name, key=SecretStr(f"sk-{name}"), **options)


KEYS = (
    key("free"),
    key("once", requests_per_minute=1),
    key("once-more", requests_per_minute=1),  # begins like the one before
    key("frugal", requests_per_minute=9, tokens_per_minute=500),
    key("narrow", models=("second-model",)),
    key("remote-control", doors=("grpc",)),
    key("chat-only", doors=("http",)),
    key("old", expires_at=datetime(2020, 1, 1, tzinfo=UTC)),
    key("soon-old", expires_at=datetime.now(UTC) + timedelta(hours=1)),
)


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[App]:
    async with FixtureUpstream(recorded("openai")) as first, FixtureUpstream(recorded("openai")) as second:
        providers = {
            "first": fixture_provider(first.url, cost_efficiency=1.0, embedding_models=("vectors",)),
            "second": fixture_provider(second.url, cost_efficiency=0.0, default_model="second-model"),
        }
        routing = RoutingConfig(aliases={"mine": "second-model", "theirs": "fixture-model"})
        async with App(config_for(tmp_path, providers, keys=KEYS, cache=NO_CACHE, routing=routing)) as running:
            yield running


def openai_of(app: App, name: str, retries: int = 0) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=f"http://127.0.0.1:{app.http_port}/v1", api_key=f"sk-{name}", max_retries=retries)


def anthropic_of(app: App, name: str) -> AsyncAnthropic:
    return AsyncAnthropic(base_url=f"http://127.0.0.1:{app.http_port}", api_key=f"sk-{name}", max_retries=0)


def genai_of(app: App, name: str) -> Client:
    options = types.HttpOptions(base_url=f"http://127.0.0.1:{app.http_port}")
    return Client(api_key=f"sk-{name}", http_options=options)


async def chat(client: AsyncOpenAI, model: str = "auto", **options: Any) -> Any:
    return await client.chat.completions.with_raw_response.create(model=model, messages=ASK, **options)


# --- limits -----------------------------------------------------------------------------------------------------------


async def test_too_many_requests_by_openai(app: App) -> None:
    async with openai_of(app, "once") as client:
        answered = await chat(client)
        assert answered.headers["x-ratelimit-limit-requests"] == "1"
        assert answered.headers["x-ratelimit-remaining-requests"] == "0"
        assert answered.headers["x-ratelimit-reset-requests"].startswith(("59.", "1m0s"))
        assert "x-ratelimit-limit-tokens" not in answered.headers
        for asks in (
            chat(client),
            chat(client, stream=True),
            client.responses.create(model="auto", input=QUESTION),
            client.embeddings.create(model="vectors", input="hi"),
        ):
            with pytest.raises(openai.RateLimitError) as refused:
                await asks
            headers = refused.value.response.headers
            assert 58 < int(headers["retry-after"]) <= 60
            assert 58_000 < int(headers["retry-after-ms"]) <= 60_000
            assert headers["x-ratelimit-remaining-requests"] == "0"
            assert refused.value.code == "rate_limited" and "1 request a minute" in refused.value.message
    async with openai_of(app, "once-more") as another:
        assert (await chat(another)).headers["x-ratelimit-remaining-requests"] == "0"


async def test_tokens_by_openai(app: App) -> None:
    async with openai_of(app, "frugal", retries=5) as client:
        for stream in (False, True):
            answered = await chat(client, max_tokens=100, stream=stream)
            assert answered.headers["x-ratelimit-limit-tokens"] == "500"
            assert int(answered.headers["x-ratelimit-remaining-tokens"]) < 400
            if stream:
                assert [chunk async for chunk in answered.parse()]
        with pytest.raises(openai.BadRequestError, match="shorten it") as refused:
            await chat(client, max_tokens=600)
        headers = refused.value.response.headers
        assert "retry-after" not in headers
        assert headers["x-ratelimit-remaining-tokens"] == str(500 - 2 * 66)
        assert headers["x-ratelimit-remaining-requests"] == "6", "the SDK does not try it again"


async def test_a_key_without_limits_is_told_of_none(app: App) -> None:
    async with openai_of(app, "free") as client:
        assert not [name for name in (await chat(client)).headers if "ratelimit" in name]


async def test_too_much_by_anthropic(app: App) -> None:
    async with anthropic_of(app, "once") as client:
        answered = await client.messages.with_raw_response.create(model="auto", max_tokens=50, messages=ASK)
        assert answered.headers["anthropic-ratelimit-requests-limit"] == "1"
        assert answered.headers["anthropic-ratelimit-requests-remaining"] == "0"
        reset = datetime.fromisoformat(answered.headers["anthropic-ratelimit-requests-reset"])
        assert timedelta(seconds=57) < reset - datetime.now(UTC) < timedelta(seconds=62)
        with pytest.raises(anthropic.RateLimitError) as refused:
            await client.messages.create(model="auto", max_tokens=50, messages=ASK)
    headers = refused.value.response.headers
    assert 58 < int(headers["retry-after"]) <= 60
    assert headers["anthropic-ratelimit-requests-remaining"] == "0"
    assert refused.value.response.json()["error"]["type"] == "rate_limit_error"


async def test_too_much_by_gemini(app: App) -> None:
    async with genai_of(app, "once").aio as client:
        await client.models.generate_content(model="auto", contents=QUESTION)
        with pytest.raises(errors.ClientError) as refused:
            await client.models.generate_content(model="auto", contents=QUESTION)
    assert (refused.value.code, refused.value.status) == (429, "RESOURCE_EXHAUSTED")
    assert 58 < int(refused.value.response.headers["Retry-After"]) <= 60


async def test_too_much_by_grpc(app: App) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{app.grpc_port}") as channel:
        stub: Any = gateway_pb2_grpc.ModelGatewayServiceStub(channel)
        token = (("authorization", "Bearer sk-once"),)
        await stub.ProcessQuery(pb.ModelRequest(query=QUESTION), metadata=token)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.ProcessQuery(pb.ModelRequest(query=QUESTION), metadata=token)
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    status = rpc_status.from_call(refused.value)  # pyright: ignore[reportArgumentType]
    info = error_details_pb2.ErrorInfo()
    assert status is not None and status.details[0].Unpack(info)
    assert info.reason == "RATE_LIMITED" and 58 < float(info.metadata["retry_after"]) <= 60


# --- scopes -----------------------------------------------------------------------------------------------------------


async def test_models_outside_are_denied_and_not_listed(app: App) -> None:
    async with openai_of(app, "narrow") as client:
        assert (await chat(client)).headers["x-gateway-model"] == "second-model"
        assert (await chat(client, "mine")).headers["x-gateway-model"] == "second-model"
        for model in ("fixture-model", "first/fixture-model", "theirs"):
            with pytest.raises(openai.PermissionDeniedError) as denied:
                await chat(client, model)
            assert denied.value.param == "model" and model in denied.value.message
        with pytest.raises(openai.PermissionDeniedError):
            await client.embeddings.create(model="vectors", input="hi")
        with pytest.raises(openai.PermissionDeniedError):
            await chat(client, extra_headers={"x-gateway-provider": "first"})
        with pytest.raises(openai.NotFoundError):
            await chat(client, "nowhere")
        assert [model.id async for model in client.models.list()] == [*NAMES, "mine", "second-model"]
        assert (await client.models.retrieve("second-model")).owned_by == "second"
        with pytest.raises(openai.NotFoundError):
            await client.models.retrieve("fixture-model")
    async with openai_of(app, "free") as client:
        listed = [model.id async for model in client.models.list()]
        assert listed == [*NAMES, "mine", "theirs", "fixture-model", "vectors", "second-model"]


async def test_the_other_doors_list_and_deny_alike(app: App) -> None:
    async with anthropic_of(app, "narrow") as client:
        assert [model.id async for model in client.models.list()] == [*NAMES, "mine", "second-model"]
        with pytest.raises(anthropic.NotFoundError):
            await client.models.retrieve("fixture-model")
        with pytest.raises(anthropic.PermissionDeniedError):
            await client.messages.create(model="fixture-model", max_tokens=50, messages=ASK)
    async with genai_of(app, "narrow").aio as gemini:
        names = [model.name async for model in await gemini.models.list()]
        assert names == [f"models/{name}" for name in (*NAMES, "mine", "second-model")]
        assert (await gemini.models.get(model="second-model")).name == "models/second-model"
        with pytest.raises(errors.ClientError) as denied:
            await gemini.models.generate_content(model="fixture-model", contents=QUESTION)
    assert (denied.value.code, denied.value.status) == (403, "PERMISSION_DENIED")
    async with grpc.aio.insecure_channel(f"127.0.0.1:{app.grpc_port}") as channel:
        stub: Any = gateway_pb2_grpc.ModelGatewayServiceStub(channel)
        told = await stub.GetModelCapabilities(pb.Empty(), metadata=(("x-api-key", "sk-narrow"),))
        assert [provider.provider_name for provider in told.providers] == ["second"]


async def test_keys_keep_to_their_doors(app: App) -> None:
    async with openai_of(app, "remote-control") as client:
        for asks in (
            chat(client),
            client.responses.create(model="auto", input="hi"),
            client.embeddings.create(model="vectors", input="hi"),
        ):
            with pytest.raises(openai.PermissionDeniedError, match="it may use grpc"):
                await asks
    async with openai_of(app, "chat-only") as client:
        await chat(client)
    async with anthropic_of(app, "chat-only") as other:
        with pytest.raises(anthropic.PermissionDeniedError):
            await other.messages.create(model="auto", max_tokens=50, messages=ASK)
        with pytest.raises(anthropic.PermissionDeniedError):
            await other.messages.count_tokens(model="auto", messages=ASK)
    async with genai_of(app, "chat-only").aio as gemini:
        for asked in (
            gemini.models.generate_content(model="auto", contents="hi"),
            gemini.models.count_tokens(model="auto", contents="hi"),
        ):
            with pytest.raises(errors.ClientError, match="may not use the door"):
                await asked
    async with grpc.aio.insecure_channel(f"127.0.0.1:{app.grpc_port}") as channel:
        stub: Any = gateway_pb2_grpc.ModelGatewayServiceStub(channel)
        reply = await stub.ProcessQuery(pb.ModelRequest(query="hi"), metadata=(("x-api-key", "sk-remote-control"),))
        assert reply.response
        for call in (
            stub.ProcessQuery(pb.ModelRequest(query="hi"), metadata=(("x-api-key", "sk-chat-only"),)),
            stub.EvaluateComplexity(
                pb.ComplexityEvaluationRequest(query="hi"), metadata=(("x-api-key", "sk-chat-only"),)
            ),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as denied:
                await call
            assert denied.value.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_an_expired_key_is_no_key(app: App) -> None:
    async with openai_of(app, "old") as client:
        for asks in (chat(client), client.models.list()):
            with pytest.raises(openai.AuthenticationError, match="expired at 2020-01-01T00:00:00Z"):
                await asks
    async with openai_of(app, "soon-old") as client:
        await chat(client)
