"""The official anthropic SDK as a black-box client of a running gateway, before providers of both schemas."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anthropic
import pytest
from anthropic import AsyncAnthropic
from pydantic import SecretStr

from gateway import QUESTION, config_for, fixture_provider
from model_gateway.app import App
from model_gateway.config.schema import CallerKey, GatewayConfig
from upstream import Answer, FixtureUpstream, Seen, events, fixture, hang_up, whole

ASK: Any = [{"role": "user", "content": QUESTION}]
WEATHER: Any = [{"role": "user", "content": "What is the weather in Paris and in Tokyo?"}]
TOOLS: Any = [{"name": "get_weather", "description": "The weather", "input_schema": {"type": "object"}}]
MODEL = "fixture-model"
CAPABILITIES = ("tools", "vision", "files", "json_schema")


def recorded(name: str) -> bytes:
    return fixture(name, "anthropic")


def messages(seen: Seen, writer: asyncio.StreamWriter) -> Any:
    """The usual provider of Anthropic's schema."""
    kind = "tools_" if seen.json.get("tools") else ""
    if seen.json.get("stream"):
        return events(recorded(f"{kind}stream.sse"))(seen, writer)
    return whole(recorded(f"{kind}reply.json"))(seen, writer)


def completions(seen: Seen, writer: asyncio.StreamWriter) -> Any:
    """The usual provider of OpenAI's schema."""
    kind = "tools_" if seen.json.get("tools") else ""
    if seen.json.get("stream"):
        return events(fixture(f"{kind}stream.sse"))(seen, writer)
    return whole(fixture(f"{kind}reply.json"))(seen, writer)


@pytest.fixture(params=["anthropic", "openai"])
async def upstream(request: pytest.FixtureRequest) -> AsyncIterator[FixtureUpstream]:
    async with FixtureUpstream(messages if request.param == "anthropic" else completions) as server:
        yield server


@pytest.fixture
def config(tmp_path: Path, upstream: FixtureUpstream) -> GatewayConfig:
    return config_for(tmp_path, {"fixture": provider_of(upstream)})


def provider_of(upstream: FixtureUpstream, **options: Any) -> Any:
    kind = "anthropic" if upstream.answer is messages else "openai"
    given = {"kind": kind, "capabilities": CAPABILITIES, "api_key": SecretStr("sk-upstream"), **options}
    return fixture_provider(upstream.url, **given)


@pytest.fixture
async def app(config: GatewayConfig) -> AsyncIterator[App]:
    async with App(config) as running:
        yield running


def client_of(app: App, key: str = "unused") -> AsyncAnthropic:
    return AsyncAnthropic(base_url=f"http://127.0.0.1:{app.http_port}", api_key=key, max_retries=0)


@pytest.fixture
async def client(app: App) -> AsyncIterator[AsyncAnthropic]:
    async with client_of(app) as sdk:
        yield sdk


def is_native(upstream: FixtureUpstream) -> bool:
    return upstream.seen[-1].path == "/v1/messages"


async def test_a_message(client: AsyncAnthropic, upstream: FixtureUpstream) -> None:
    reply = await client.messages.create(
        model="auto", max_tokens=100, system="Be brief.", messages=ASK, stop_sequences=["END"]
    )
    assert reply.type == "message" and reply.role == "assistant" and reply.stop_reason == "end_turn"
    assert reply.content[0].type == "text" and reply.content[0].text.startswith("A black hole is a region")
    assert reply._request_id
    seen = upstream.seen[0]
    assert seen.json["model"] == MODEL and "stream" not in seen.json
    if is_native(upstream):
        assert (seen.headers["x-api-key"], seen.headers["anthropic-version"]) == ("sk-upstream", "2023-06-01")
        assert "authorization" not in seen.headers
        assert seen.json["system"] == "Be brief." and seen.json["stop_sequences"] == ["END"]
        assert (reply.usage.input_tokens, reply.usage.cache_read_input_tokens) == (21, 2048)
    else:
        assert seen.json["messages"][0] == {"role": "system", "content": "Be brief."}
        assert seen.json["max_tokens"] == 100 and seen.json["stop"] == ["END"]
        assert (reply.usage.input_tokens, reply.usage.output_tokens) == (39, 27)


async def test_a_stream(client: AsyncAnthropic, upstream: FixtureUpstream) -> None:
    async with client.messages.stream(model="auto", max_tokens=100, messages=ASK) as stream:
        text = "".join([piece async for piece in stream.text_stream])
        final = await stream.get_final_message()
    assert text.startswith("A black hole is a region")
    assert final.content[0].type == "text" and final.content[0].text == text
    assert final.stop_reason == "end_turn" and final.usage.output_tokens == (19 if is_native(upstream) else 27)
    read, cached = final.usage.input_tokens, final.usage.cache_read_input_tokens
    assert (read, cached) == ((21, 2048) if is_native(upstream) else (1, 38))


async def test_raw_events_come_in_order(client: AsyncAnthropic) -> None:
    stream = await client.messages.create(model="auto", max_tokens=100, messages=ASK, stream=True)
    kinds = [event.type async for event in stream]
    assert kinds[:2] == ["message_start", "content_block_start"]
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert set(kinds[2:-3]) == {"content_block_delta"}


async def test_tools_whole_and_streamed(client: AsyncAnthropic, upstream: FixtureUpstream) -> None:
    whole_reply = await client.messages.create(model="auto", max_tokens=200, messages=WEATHER, tools=TOOLS)
    async with client.messages.stream(
        model="auto", max_tokens=201, messages=WEATHER, tools=TOOLS, tool_choice={"type": "any"}
    ) as stream:
        streamed = await stream.get_final_message()
    for reply in (whole_reply, streamed):
        calls = [block for block in reply.content if block.type == "tool_use"]
        assert reply.stop_reason == "tool_use"
        assert calls[0].input["city"] == "Paris"
        assert all(call.name == "get_weather" and call.id for call in calls)
        assert len(calls) == (2 if is_native(upstream) else 1)
    sent = upstream.seen[-1].json
    assert sent["tool_choice"] == ({"type": "any"} if is_native(upstream) else "required")


async def test_a_tools_results_go_back(client: AsyncAnthropic, upstream: FixtureUpstream) -> None:
    first = await client.messages.create(model="auto", max_tokens=200, messages=WEATHER, tools=TOOLS)
    image: Any = {"type": "base64", "media_type": "image/png", "data": "AAAA"}
    results: Any = [
        {
            "type": "tool_result",
            "tool_use_id": block.id,
            "content": [{"type": "text", "text": "sunny"}, {"type": "image", "source": image}],
        }
        for block in first.content
        if block.type == "tool_use"
    ]
    turns: Any = [*WEATHER, {"role": "assistant", "content": first.content}, {"role": "user", "content": results}]
    await client.messages.create(model="auto", max_tokens=200, messages=turns, tools=TOOLS)
    sent = upstream.seen[-1].json["messages"]
    if is_native(upstream):
        assert sent[-1]["content"] == results
    else:
        assert [message["role"] for message in sent] == ["user", "assistant", "tool", "user"]
        assert json.loads(sent[1]["tool_calls"][0]["function"]["arguments"]) == {"city": "Paris"}
        assert sent[2] == {"role": "tool", "tool_call_id": results[0]["tool_use_id"], "content": "sunny"}
        assert sent[3]["content"][0]["image_url"]["url"] == "data:image/png;base64,AAAA"


async def test_what_only_this_schema_can_say_needs_a_provider_of_it(
    client: AsyncAnthropic, upstream: FixtureUpstream
) -> None:
    marked: Any = [{"type": "text", "text": QUESTION, "cache_control": {"type": "ephemeral"}}]
    ask: Any = [{"role": "user", "content": marked}]
    search: Any = [{"type": "web_search_20250305", "name": "web_search"}]
    if upstream.answer is messages:
        await client.messages.create(model="auto", max_tokens=100, messages=ask)
        assert upstream.seen[-1].json["messages"] == ask
        await client.messages.create(model="auto", max_tokens=100, messages=ask, tools=search)
        assert upstream.seen[-1].json["tools"] == search
    else:
        await client.messages.create(model="auto", max_tokens=100, messages=ask)
        assert upstream.seen[-1].json["messages"] == [{"role": "user", "content": QUESTION}], "a mark only saves money"
        with pytest.raises(anthropic.APIStatusError, match="protocol:anthropic"):
            await client.messages.create(model="auto", max_tokens=100, messages=ask, tools=search)
        assert len(upstream.seen) == 1


async def test_what_a_caller_wants_to_try_reaches_its_own_schema(
    client: AsyncAnthropic, upstream: FixtureUpstream
) -> None:
    reply = await client.beta.messages.create(model="auto", max_tokens=100, messages=ASK, betas=["a-2025", "b-2026"])
    assert reply.content
    seen = upstream.seen[0]
    assert seen.headers.get("anthropic-beta") == ("a-2025,b-2026" if is_native(upstream) else None)
    assert b"beta" not in seen.body


async def test_tokens_are_counted_without_a_provider(client: AsyncAnthropic, upstream: FixtureUpstream) -> None:
    bare = (await client.messages.count_tokens(model="auto", messages=ASK)).input_tokens
    assert bare == 9 + 4  # by o200k_base, and the frame of a message
    tooled = await client.messages.count_tokens(model="auto", messages=ASK, tools=TOOLS, system="Be brief.")
    image: Any = {"type": "image", "source": {"type": "url", "url": "https://example.org/cat.png"}}
    seen = await client.messages.count_tokens(model="auto", messages=[{"role": "user", "content": [image]}])
    assert tooled.input_tokens > bare + 10 and seen.input_tokens > 1000
    with pytest.raises(anthropic.BadRequestError, match="messages"):
        await client.messages.count_tokens(model="auto", messages=[])
    assert upstream.seen == []


async def test_typed_errors(client: AsyncAnthropic) -> None:
    with pytest.raises(anthropic.NotFoundError) as missing:
        await client.messages.create(model="claude-none", max_tokens=5, messages=ASK)
    body: Any = missing.value.body
    assert body["type"] == "error" and body["error"]["type"] == "not_found_error"
    assert missing.value.request_id
    with pytest.raises(anthropic.BadRequestError, match="messages"):
        await client.messages.create(model="auto", max_tokens=5, messages=[])
    with pytest.raises(anthropic.BadRequestError, match="max_tokens"):
        await client.messages.create(model="auto", max_tokens=-1, messages=ASK)
    with pytest.raises(anthropic.BadRequestError, match="tool_choice"):
        await client.messages.create(model="auto", max_tokens=5, messages=ASK, tool_choice={"type": "all"})  # pyright: ignore
    unsafe: Any = [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a", "content": "exec ('x')"}]}]
    with pytest.raises(anthropic.BadRequestError, match="unsafe"):
        await client.messages.create(model="auto", max_tokens=5, messages=unsafe)


async def test_keys_by_either_header(config: GatewayConfig) -> None:
    key = "sk-right-key-0123456789"
    keyed = config.model_copy(update={"keys": (CallerKey(name="one", key=SecretStr(key)),)})
    async with App(keyed) as app, client_of(app, "sk-wrong") as wrong, client_of(app, key) as right:
        with pytest.raises(anthropic.AuthenticationError):
            await wrong.messages.create(model="auto", max_tokens=5, messages=ASK)
        with pytest.raises(anthropic.AuthenticationError):
            await wrong.messages.count_tokens(model="auto", messages=ASK)
        assert (await right.messages.create(model="auto", max_tokens=5, messages=ASK)).content
        url = f"http://127.0.0.1:{app.http_port}"
        async with AsyncAnthropic(base_url=url, auth_token=key, api_key=None, max_retries=0) as bearer:
            assert (await bearer.messages.create(model="auto", max_tokens=5, messages=ASK)).content


@pytest.mark.parametrize("streams", [False, True])
async def test_a_repeated_question_is_answered_from_the_cache(
    client: AsyncAnthropic, upstream: FixtureUpstream, streams: bool
) -> None:
    said: list[tuple[str, str | None, int]] = []
    for _ in range(2):
        if streams:
            async with client.messages.stream(model="auto", max_tokens=100, messages=ASK) as stream:
                reply: anthropic.types.Message = await stream.get_final_message()
        else:
            reply = await client.messages.create(model="auto", max_tokens=100, messages=ASK)
        assert reply.content[0].type == "text"
        said.append((reply.content[0].text, reply.stop_reason, reply.usage.output_tokens))
    assert said[0] == said[1] and said[0][0].startswith("A black hole")
    assert len(upstream.seen) == 1


async def test_the_gateways_own_words_disturb_nobody(client: AsyncAnthropic) -> None:
    asked: Any = {"model": "auto", "max_tokens": 100, "messages": ASK, "extra_headers": {"x-gateway-details": "1"}}
    whole_reply = await client.messages.create(**asked)
    assert whole_reply.model_extra and whole_reply.model_extra["gateway"]["provider"] == "fixture"
    async with client.messages.stream(**asked) as stream:
        kinds = [event.type async for event in stream]
        final = await stream.get_final_message()
    assert final.stop_reason == "end_turn" and final.content
    assert kinds[-2:] == ["gateway", "message_stop"]


@pytest.mark.parametrize("cut_at", [40, 900, 1_300])
async def test_a_cut_stream_is_an_error(client: AsyncAnthropic, upstream: FixtureUpstream, cut_at: int) -> None:
    stream_of = recorded("stream.sse") if upstream.answer is messages else fixture("stream.sse")
    upstream.answer = events(stream_of, cut_at=cut_at)
    for _ in range(2):
        with pytest.raises(anthropic.APIStatusError) as broken:
            async with client.messages.stream(model="auto", max_tokens=100, messages=ASK) as stream:
                await stream.get_final_message()
        body: Any = broken.value.body
        assert body["type"] == "error" and body["error"]["type"] in ("api_error", "overloaded_error")
    assert len(upstream.seen) == 2


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (whole(recorded("error_429.json"), 429, retry_after="3"), anthropic.InternalServerError),
        (whole(recorded("error_529.json"), 529), anthropic.InternalServerError),
        (whole(recorded("error_400.json"), 400), anthropic.BadRequestError),
        (whole(b'{"content":5,"choices":5}'), anthropic.InternalServerError),
        (hang_up, anthropic.InternalServerError),
    ],
)
async def test_a_failing_provider_gives_one_typed_error(
    client: AsyncAnthropic, upstream: FixtureUpstream, answer: Answer, kind: type[anthropic.APIStatusError]
) -> None:
    upstream.answer = answer
    with pytest.raises(kind) as caught:
        await client.messages.create(model="auto", max_tokens=5, messages=ASK)
    assert "fixture" in caught.value.message
    if "429" in caught.value.message:
        assert caught.value.response.headers["retry-after"] == "3"


async def test_an_overloaded_provider_gives_way_to_one_of_another_schema(tmp_path: Path) -> None:
    overloaded = b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}'
    busy = events(b"event: error\ndata: " + overloaded + b"\n\n")
    async with FixtureUpstream(messages) as first, FixtureUpstream(completions) as second:
        providers = {
            "first": provider_of(first, cost_efficiency=1.0),
            "second": provider_of(second, cost_efficiency=0.0, default_model="other-model"),
        }
        first.answer = busy
        async with App(config_for(tmp_path, providers)) as app, client_of(app) as client:
            async with client.messages.stream(model="auto", max_tokens=100, messages=ASK) as stream:
                final = await stream.get_final_message()
            assert final.content[0].type == "text" and final.content[0].text.endswith("can escape.")
            assert final.model == "other-model"
        assert (len(first.seen), len(second.seen)) == (1, 1)


async def test_the_synchronous_client(app: App) -> None:
    def ask() -> tuple[str, str]:
        url = f"http://127.0.0.1:{app.http_port}"
        with anthropic.Anthropic(base_url=url, api_key="unused", max_retries=0) as client:
            reply = client.messages.create(model="auto", max_tokens=100, messages=ASK)
            assert reply.content[0].type == "text"
            with client.messages.stream(model="auto", max_tokens=101, messages=ASK) as stream:
                return reply.content[0].text, "".join(stream.text_stream)

    said, streamed = await asyncio.to_thread(ask)
    assert said == streamed


async def test_the_models_are_listed_as_anthropic_does(app: App) -> None:
    async with client_of(app) as client:
        listed = [model async for model in client.models.list()]
        assert {"auto", MODEL} <= {model.id for model in listed}
        one = await client.models.retrieve(MODEL)
        assert (one.type, one.display_name, one.lifecycle) == ("model", MODEL, "active")
        with pytest.raises(anthropic.NotFoundError, match="GET /v1/models"):
            await client.models.retrieve("claude-nope")
