"""The official openai SDK at /v1/responses, answered by providers of this and of other schemas."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel

from gateway import QUESTION, config_for, fixture_provider
from model_gateway.app import App
from upstream import FixtureUpstream, events, recorded, whole

KINDS = ("openai", "responses")
TOOL: Any = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather in a city",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    "strict": False,
}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
async def upstream(kind: str) -> AsyncIterator[FixtureUpstream]:
    async with FixtureUpstream(recorded(kind)) as server:
        yield server


@pytest.fixture
async def app(tmp_path: Path, kind: str, upstream: FixtureUpstream) -> AsyncIterator[App]:
    async with App(config_for(tmp_path, {"fixture": fixture_provider(upstream.url, kind=kind)})) as running:
        yield running


@pytest.fixture
async def client(app: App) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"http://127.0.0.1:{app.http_port}/v1", api_key="x", max_retries=0) as sdk:
        yield sdk


async def test_create(client: AsyncOpenAI, upstream: FixtureUpstream, kind: str) -> None:
    reply = await client.responses.create(
        model="auto", instructions="Be brief.", input=QUESTION, max_output_tokens=100, temperature=0.2
    )
    assert reply.output_text.startswith("A black hole is a region")
    assert reply.status == "completed" and reply.error is None
    assert reply.usage is not None and (reply.usage.output_tokens, reply.usage.total_tokens) == (
        27,
        66 if kind == "openai" else 63,
    )
    sent = upstream.seen[0].json
    assert sent["temperature"] == 0.2 and "stream" not in sent
    if kind == "openai":
        assert [message["role"] for message in sent["messages"]] == ["system", "user"] and sent["max_tokens"] == 100
    else:
        assert sent == {
            "model": "fixture-model",
            "instructions": "Be brief.",
            "input": QUESTION,
            "max_output_tokens": 100,
            "temperature": 0.2,
        }


async def test_the_synchronous_client(app: App) -> None:
    def ask() -> str:
        with OpenAI(base_url=f"http://127.0.0.1:{app.http_port}/v1", api_key="x", max_retries=0) as sdk:
            return sdk.responses.create(model="auto", input=QUESTION).output_text

    assert (await asyncio.to_thread(ask)).startswith("A black hole")


async def test_stream_helper(client: AsyncOpenAI) -> None:
    kinds: list[str] = []
    numbers: list[int] = []
    async with client.responses.stream(model="auto", input=QUESTION) as stream:
        async for event in stream:
            kinds.append(event.type)
            numbers.append(event.sequence_number)
        final = await stream.get_final_response()
    assert final.output_text.startswith("A black hole is a region") and final.status == "completed"
    assert kinds[0] == "response.created" and kinds[-1] == "response.completed"
    assert kinds.count("response.completed") == 1
    assert numbers == sorted(numbers)
    assert final.usage is not None and final.usage.output_tokens == 27


async def test_tools_whole_and_streamed(client: AsyncOpenAI, upstream: FixtureUpstream, kind: str) -> None:
    reply = await client.responses.create(model="auto", input="Weather?", tools=[TOOL], tool_choice="required")
    calls = [item for item in reply.output if item.type == "function_call"]
    assert calls[0].name == "get_weather" and "Paris" in calls[0].arguments
    sent = upstream.seen[0].json
    assert sent["tool_choice"] == "required"
    assert (sent["tools"][0]["function"] if kind == "openai" else sent["tools"][0])["name"] == "get_weather"
    async with client.responses.stream(model="auto", input="Weather!", tools=[TOOL]) as stream:
        async for _event in stream:
            pass
        final = await stream.get_final_response()
    streamed = [item for item in final.output if item.type == "function_call"]
    assert streamed[0].arguments == calls[0].arguments and streamed[0].call_id


async def test_a_tools_results_go_back(client: AsyncOpenAI, upstream: FixtureUpstream, kind: str) -> None:
    conversation: Any = [
        {"role": "user", "content": "Weather in Paris and Rome?"},
        {"type": "function_call", "call_id": "a", "name": "get_weather", "arguments": '{"city":"Paris"}'},
        {"type": "function_call", "call_id": "b", "name": "get_weather", "arguments": '{"city":"Rome"}'},
        {"type": "function_call_output", "call_id": "a", "output": "20 °C"},
        {"type": "function_call_output", "call_id": "b", "output": "24 °C"},
    ]
    reply = await client.responses.create(model="auto", input=conversation)
    assert reply.output_text
    if kind == "openai":
        messages = upstream.seen[0].json["messages"]
        assert [message["role"] for message in messages] == ["user", "assistant", "tool", "tool"]
        assert [call["id"] for call in messages[1]["tool_calls"]] == ["a", "b"]
        assert messages[2] == {"role": "tool", "tool_call_id": "a", "content": "20 °C"}


async def test_an_image(client: AsyncOpenAI, upstream: FixtureUpstream, kind: str) -> None:
    url = "data:image/png;base64,iVBORw0KGgo="
    content: Any = [
        {"type": "input_text", "text": "What is it?"},
        {"type": "input_image", "image_url": url, "detail": "low"},
    ]
    await client.responses.create(model="auto", input=[{"role": "user", "content": content}])
    if kind == "openai":
        part = upstream.seen[0].json["messages"][0]["content"][1]
        assert part == {"type": "image_url", "image_url": {"url": url, "detail": "low"}}


class Person(BaseModel):
    name: str
    born: int


async def test_structured_output(client: AsyncOpenAI, upstream: FixtureUpstream, kind: str) -> None:
    reply = await client.responses.parse(model="auto", input="Who was Ada?", text_format=Person)
    assert reply.output_parsed == Person(name="Ada", born=1815)
    if kind == "openai":
        sent = upstream.seen[0].json["response_format"]
        assert sent["type"] == "json_schema" and sent["json_schema"]["strict"] is True


async def test_what_only_this_schema_knows_needs_a_provider_that_speaks_it(
    client: AsyncOpenAI, upstream: FixtureUpstream, kind: str
) -> None:
    ask = client.responses.create(model="auto", input="And then?", previous_response_id="resp_1")
    if kind == "responses":
        await ask
        assert upstream.seen[0].json["previous_response_id"] == "resp_1"
        return
    with pytest.raises(openai.BadRequestError) as caught:
        await ask
    assert "protocol:responses" in caught.value.message and not upstream.seen


async def test_a_stream_that_breaks_raises_and_never_completes(
    client: AsyncOpenAI, upstream: FixtureUpstream, kind: str
) -> None:
    folder = Path(__file__).parents[1] / "fixtures" / kind
    upstream.answer = events((folder / "stream.sse").read_bytes(), cut_at=3000)
    kinds: set[str] = set()
    with pytest.raises(openai.APIError):
        async for event in await client.responses.create(model="auto", input=QUESTION, stream=True):
            kinds.add(event.type)
    assert "response.output_text.delta" in kinds and "response.completed" not in kinds


async def test_errors_are_typed(client: AsyncOpenAI, upstream: FixtureUpstream, kind: str) -> None:
    folder = Path(__file__).parents[1] / "fixtures" / kind
    upstream.answer = whole((folder / "error_400.json").read_bytes(), 400)
    with pytest.raises(openai.BadRequestError) as caught:
        await client.responses.create(model="auto", input="hi")
    assert caught.value.param == "temperature"
    with pytest.raises(openai.BadRequestError) as caught:
        await client.responses.create(model="auto", input="")
    assert caught.value.param == "input"


async def test_a_cached_answer_is_replayed_as_it_was_asked(client: AsyncOpenAI, upstream: FixtureUpstream) -> None:
    for _ in range(2):
        reply = await client.responses.create(model="auto", input=QUESTION)
        assert reply.output_text.startswith("A black hole")
    assert len(upstream.seen) == 1
    for _ in range(2):
        async with client.responses.stream(model="auto", input=QUESTION) as stream:
            text = (await stream.get_final_response()).output_text
        assert text.startswith("A black hole")
    assert len(upstream.seen) == 2
