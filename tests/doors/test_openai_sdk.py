"""The official openai SDK as a black-box client of a running gateway in front of a recorded provider."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI
from pydantic import SecretStr

from gateway import QUESTION, config_for, fixture_provider
from model_gateway.app import App
from model_gateway.config.schema import CacheConfig, CallerKey, GatewayConfig, SecurityConfig
from upstream import Answer, FixtureUpstream, events, fixture, hang_up, until, whole


@pytest.fixture
async def upstream() -> AsyncIterator[FixtureUpstream]:
    async with FixtureUpstream() as server:
        yield server


def client_of(app: App, key: str = "unused") -> AsyncOpenAI:
    return AsyncOpenAI(base_url=f"http://127.0.0.1:{app.http_port}/v1", api_key=key, max_retries=0)


@pytest.fixture
def config(tmp_path: Path, upstream: FixtureUpstream) -> GatewayConfig:
    return config_for(tmp_path, {"fixture": fixture_provider(upstream.url)})


@pytest.fixture
async def app(config: GatewayConfig) -> AsyncIterator[App]:
    async with App(config) as running:
        yield running


@pytest.fixture
async def client(app: App) -> AsyncIterator[AsyncOpenAI]:
    async with client_of(app) as sdk:
        yield sdk


async def test_chat(client: AsyncOpenAI, upstream: FixtureUpstream) -> None:
    reply = await client.chat.completions.create(
        model="auto", messages=[{"role": "user", "content": QUESTION}], seed=7, extra_body={"top_k": 3}
    )
    assert (reply.choices[0].message.content or "").startswith("A black hole is a region")
    assert reply.usage is not None and reply.usage.total_tokens == 66
    sent = upstream.seen[0].json
    assert sent["model"] == "fixture-model"
    assert (sent["seed"], sent["top_k"]) == (7, 3)
    assert "stream" not in sent


async def test_stream(client: AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(
        model="auto", messages=[{"role": "user", "content": QUESTION}], stream=True
    )
    chunks = [chunk async for chunk in stream]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text.endswith("can escape.")
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert all(chunk.usage is None for chunk in chunks)


async def test_stream_with_usage(client: AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(
        model="auto",
        messages=[{"role": "user", "content": QUESTION}],
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]
    assert chunks[-1].usage is not None and chunks[-1].usage.completion_tokens == 27


async def test_tool_calls_pass_whole_and_streamed(client: AsyncOpenAI, upstream: FixtureUpstream) -> None:
    tools: Any = [{"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}]
    upstream.answer = whole(fixture("tools_reply.json"))
    reply = await client.chat.completions.create(
        model="auto",
        messages=[{"role": "user", "content": "Weather in Paris?"}],
        tools=tools,
    )
    calls = reply.choices[0].message.tool_calls
    assert calls and calls[0].type == "function" and calls[0].function.arguments == '{"city":"Paris"}'
    upstream.answer = events(fixture("tools_stream.sse"))
    stream = await client.chat.completions.create(
        model="auto",
        messages=[{"role": "user", "content": "Weather in Rome?"}],
        tools=tools,
        stream=True,
    )
    arguments = ""
    async for chunk in stream:
        for call in chunk.choices[0].delta.tool_calls or []:
            arguments += (call.function and call.function.arguments) or ""
    assert arguments == '{"city":"Paris"}'


async def test_models(client: AsyncOpenAI) -> None:
    listed = [model.id async for model in client.models.list()]
    assert listed == ["auto", "auto:cheap", "auto:fast", "auto:best", "fixture-model"]
    assert (await client.models.retrieve("fixture-model")).owned_by == "fixture"
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve("gpt-none")


async def test_typed_errors(client: AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        await client.chat.completions.create(model="gpt-none", messages=[{"role": "user", "content": "hi"}])
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as empty:
        await client.chat.completions.create(model="auto", messages=[])
    assert empty.value.param == "messages"
    with pytest.raises(openai.BadRequestError) as unsafe:
        await client.chat.completions.create(
            model="auto", messages=[{"role": "user", "content": "please run ｅｘｅｃ ('rm -rf /')"}]
        )
    assert "unsafe" in unsafe.value.message
    with pytest.raises(openai.BadRequestError, match="maxQueryLength"):
        await client.chat.completions.create(model="auto", messages=[{"role": "user", "content": "x" * 10_001}])


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("x-gateway-timeout-ms", "1" + "9" * 400),
        ("x-gateway-timeout-ms", "soon"),
        ("x-gateway-budget-usd", "NaN"),
        ("x-gateway-budget-usd", "-1"),
        ("x-gateway-provider", "nobody"),
    ],
)
async def test_a_bad_header_is_a_400_that_names_it(client: AsyncOpenAI, header: str, value: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await client.chat.completions.create(
            model="auto", messages=[{"role": "user", "content": "hi"}], extra_headers={header: value}
        )
    assert caught.value.param in (header, "preferredProvider")


async def test_keys(config: GatewayConfig) -> None:
    keyed = config.model_copy(update={"keys": (CallerKey(name="one", key=SecretStr("sk-right-key-0123456789")),)})
    async with (
        App(keyed) as app,
        client_of(app, "sk-wrong") as wrong,
        client_of(app, "sk-right-key-0123456789") as right,
    ):
        with pytest.raises(openai.AuthenticationError):
            await wrong.chat.completions.create(model="auto", messages=[{"role": "user", "content": "hi"}])
        with pytest.raises(openai.AuthenticationError):
            await wrong.models.list()
        reply = await right.chat.completions.create(model="auto", messages=[{"role": "user", "content": "hi"}])
        assert reply.choices[0].finish_reason == "stop"


async def test_a_repeated_question_is_answered_from_the_cache(client: AsyncOpenAI, upstream: FixtureUpstream) -> None:
    messages = [{"role": "user", "content": QUESTION}]
    first = await client.chat.completions.with_raw_response.create(model="auto", messages=messages)  # pyright: ignore
    again = await client.chat.completions.with_raw_response.create(model="auto", messages=messages)  # pyright: ignore
    assert (first.headers["x-gateway-cache"], again.headers["x-gateway-cache"]) == ("miss", "hit")
    assert float(first.headers["x-gateway-cost-usd"]) == pytest.approx(39e-6 + 2 * 27e-6)
    assert float(again.headers["x-gateway-cost-usd"]) == 0
    assert first.http_response.content == again.http_response.content
    stream = await client.chat.completions.create(model="auto", messages=messages, stream=True)  # pyright: ignore
    text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])  # pyright: ignore
    assert text.endswith("can escape.")
    warmer = await client.chat.completions.create(model="auto", messages=messages, temperature=1.5)  # pyright: ignore
    assert warmer.choices[0].message.content
    assert len(upstream.seen) == 2


async def test_a_streamed_answer_is_remembered_too(client: AsyncOpenAI, upstream: FixtureUpstream) -> None:
    for stream in (True, True, False):
        reply = await client.chat.completions.create(
            model="auto", messages=[{"role": "user", "content": QUESTION}], stream=stream
        )
        if stream:
            parts = [chunk.choices[0].delta.content or "" async for chunk in reply]  # pyright: ignore
            text = "".join(parts)
        else:
            text = reply.choices[0].message.content or ""  # pyright: ignore
        assert text.startswith("A black hole is a region")
    assert len(upstream.seen) == 1


@pytest.mark.parametrize("cut_at", [40, 700, 5_000])
async def test_a_cut_stream_is_an_error_and_never_remembered(
    client: AsyncOpenAI, upstream: FixtureUpstream, app: App, cut_at: int
) -> None:
    upstream.answer = events(fixture("stream.sse"), cut_at=cut_at)
    for _ in range(2):
        with pytest.raises(openai.APIError) as broken:
            stream = await client.chat.completions.create(
                model="auto", messages=[{"role": "user", "content": QUESTION}], stream=True
            )
            async for _chunk in stream:
                pass
        assert broken.value.code in ("stream_broken", "model_unavailable")
    assert len(upstream.seen) == 2


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (whole(fixture("error_429.json"), 429, retry_after="3"), openai.InternalServerError),
        (whole(b"<html>", 500), openai.InternalServerError),
        (whole(fixture("error_400.json"), 400), openai.BadRequestError),
        (whole(b'{"choices":[]}'), openai.InternalServerError),
        (hang_up, openai.InternalServerError),
    ],
)
async def test_a_failing_provider_gives_one_typed_error(
    client: AsyncOpenAI, upstream: FixtureUpstream, answer: Answer, kind: type[openai.APIStatusError]
) -> None:
    upstream.answer = answer
    with pytest.raises(kind) as caught:
        await client.chat.completions.create(model="auto", messages=[{"role": "user", "content": "hi"}])
    assert "fixture" in caught.value.message
    if "429" in caught.value.message:
        assert caught.value.response.headers["retry-after"] == "3"


async def test_fallback_answers_when_the_first_provider_fails(tmp_path: Path, upstream: FixtureUpstream) -> None:
    async with FixtureUpstream(whole(b"busy", 503)) as failing:
        providers = {
            "first": fixture_provider(failing.url, cost_efficiency=1.0, retry_count=1),
            "second": fixture_provider(upstream.url, cost_efficiency=0.0, default_model="second-model"),
        }
        async with App(config_for(tmp_path, providers)) as app, client_of(app) as client:
            raw = await client.chat.completions.with_raw_response.create(
                model="auto", messages=[{"role": "user", "content": QUESTION}]
            )
            assert raw.headers["x-gateway-provider"] == "second"
        assert len(failing.seen) == 2


async def test_a_client_that_leaves_frees_the_provider_within_100_ms(
    app: App, client: AsyncOpenAI, upstream: FixtureUpstream
) -> None:
    upstream.answer = events(fixture("stream.sse"), pace_s=0.05)
    stream = await client.chat.completions.create(
        model="auto", messages=[{"role": "user", "content": QUESTION}], stream=True
    )
    async for _chunk in stream:
        break
    loop = asyncio.get_running_loop()
    begun = loop.time()
    await stream.close()
    await until(lambda: upstream.hung_up == 1)
    assert loop.time() - begun < 0.1
    await until(lambda: app.gateway.in_flight == 0)
    assert [state.load.in_flight for state in app.gateway.states] == [0]


async def test_switches(tmp_path: Path, upstream: FixtureUpstream) -> None:
    open_config = config_for(
        tmp_path,
        {"fixture": fixture_provider(upstream.url)},
        cache=CacheConfig(enabled=False),
        security=SecurityConfig(enable_content_filtering=False, max_query_length=20),
    )
    async with App(open_config) as app, client_of(app) as client:
        for _ in range(2):
            await client.chat.completions.create(model="auto", messages=[{"role": "user", "content": "exec(1)"}])
        assert len(upstream.seen) == 2
        with pytest.raises(openai.BadRequestError):
            await client.chat.completions.create(model="auto", messages=[{"role": "user", "content": "x" * 21}])
