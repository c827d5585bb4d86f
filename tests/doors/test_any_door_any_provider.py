"""Every door before a provider of every schema: the same answer comes out, whole or streamed, with tools, by a schema.

The official SDKs ask; the provider answers from the fixtures of its schema, so what each must say is known.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anthropic
import grpc
import openai
import pytest
from google.genai import Client, types

from gateway import config_for, fixture_provider
from model_gateway.app import App
from model_gateway.config.schema import CacheConfig
from model_gateway.domain.record import Record
from model_gateway.pb import gateway_pb2, gateway_pb2_grpc
from upstream import FixtureUpstream, recorded, until

KINDS = ("openai", "responses", "anthropic", "gemini")
CAPABILITIES = ("tools", "vision", "audio", "files", "json_schema")
QUESTION = "What is the weather in Paris and in Tokyo?"
PARAMETERS: dict[str, Any] = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
SCHEMA: dict[str, Any] = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
PICTURE = "iVBORw0KGgo="


@dataclass
class Told:
    """What a client was told, whatever the schema: tokens as (input, output)."""

    text: str = ""
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list[tuple[str, dict[str, Any]]])
    ended: str = ""
    tokens: tuple[int, int] = (0, 0)


@dataclass
class Asked:
    """`form`: text, tools or schema; tools ask with a picture too."""

    form: str
    stream: bool


Ask = Callable[[App, Asked], Awaitable[Told]]


def url(app: App) -> str:
    return f"http://127.0.0.1:{app.http_port}"


async def chat(app: App, asked: Asked) -> Told:
    content: Any = QUESTION
    more: dict[str, Any] = {}
    if asked.form == "tools":
        image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PICTURE}"}}
        content = [{"type": "text", "text": QUESTION}, image]
        more["tools"] = [{"type": "function", "function": {"name": "get_weather", "parameters": PARAMETERS}}]
    elif asked.form == "schema":
        more["response_format"] = {"type": "json_schema", "json_schema": {"name": "person", "schema": SCHEMA}}
    said: dict[str, Any] = {
        "model": "auto",
        "messages": [{"role": "user", "content": content}],
        "max_tokens": 90,
        **more,
    }
    async with openai.AsyncOpenAI(base_url=f"{url(app)}/v1", api_key="x", max_retries=0) as client:
        if asked.stream:
            async with client.chat.completions.stream(**said, stream_options={"include_usage": True}) as stream:
                reply = await stream.get_final_completion()
        else:
            reply = await client.chat.completions.create(**said)
    message, usage = reply.choices[0].message, reply.usage
    calls = [call.function for call in message.tool_calls or () if call.type == "function"]
    return Told(
        message.content or "",
        [(call.name, json.loads(call.arguments)) for call in calls],
        {"stop": "stop", "tool_calls": "tools"}[reply.choices[0].finish_reason],
        (usage.prompt_tokens, usage.completion_tokens) if usage else (0, 0),
    )


async def responses(app: App, asked: Asked) -> Told:
    content: Any = QUESTION
    more: dict[str, Any] = {}
    if asked.form == "tools":
        image = {"type": "input_image", "image_url": f"data:image/png;base64,{PICTURE}", "detail": "auto"}
        content = [{"role": "user", "content": [{"type": "input_text", "text": QUESTION}, image]}]
        more["tools"] = [{"type": "function", "name": "get_weather", "parameters": PARAMETERS, "strict": False}]
    elif asked.form == "schema":
        more["text"] = {"format": {"type": "json_schema", "name": "person", "schema": SCHEMA}}
    said: dict[str, Any] = {"model": "auto", "input": content, "max_output_tokens": 90, **more}
    async with openai.AsyncOpenAI(base_url=f"{url(app)}/v1", api_key="x", max_retries=0) as client:
        if asked.stream:
            async with client.responses.stream(**said) as stream:
                reply: Any = await stream.get_final_response()
        else:
            reply = await client.responses.create(**said)
    calls = [item for item in reply.output if item.type == "function_call"]
    assert reply.status == "completed"
    return Told(
        reply.output_text,
        [(call.name, json.loads(call.arguments)) for call in calls],
        "tools" if calls else "stop",
        (reply.usage.input_tokens, reply.usage.output_tokens) if reply.usage else (0, 0),
    )


async def messages(app: App, asked: Asked) -> Told:
    content: Any = QUESTION
    more: dict[str, Any] = {}
    if asked.form == "tools":
        image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PICTURE}}
        content = [{"type": "text", "text": QUESTION}, image]
        more["tools"] = [{"name": "get_weather", "input_schema": PARAMETERS}]
    elif asked.form == "schema":
        more["output_config"] = {"format": {"type": "json_schema", "schema": SCHEMA}}
    said: dict[str, Any] = {
        "model": "auto",
        "messages": [{"role": "user", "content": content}],
        "max_tokens": 90,
        **more,
    }
    async with anthropic.AsyncAnthropic(base_url=url(app), api_key="x", max_retries=0) as client:
        if asked.stream:
            async with client.messages.stream(**said) as stream:
                reply: Any = await stream.get_final_message()
        else:
            reply = await client.messages.create(**said)
    usage = reply.usage
    read = usage.input_tokens + (usage.cache_read_input_tokens or 0) + (usage.cache_creation_input_tokens or 0)
    return Told(
        "".join(block.text for block in reply.content if block.type == "text"),
        [(block.name, block.input) for block in reply.content if block.type == "tool_use"],
        {"end_turn": "stop", "tool_use": "tools"}[reply.stop_reason],
        (read, usage.output_tokens),
    )


async def generate(app: App, asked: Asked) -> Told:
    parts: list[Any] = [types.Part.from_text(text=QUESTION)]
    config = types.GenerateContentConfig(max_output_tokens=90)
    if asked.form == "tools":
        parts.append(types.Part(inline_data=types.Blob(mime_type="image/png", data=b"\x89PNG\r\n\x1a\n")))
        declared = types.FunctionDeclaration(name="get_weather", parameters_json_schema=PARAMETERS)
        config.tools = [types.Tool(function_declarations=[declared])]
    elif asked.form == "schema":
        config.response_mime_type = "application/json"
        config.response_json_schema = SCHEMA
    told = Told()
    async with Client(api_key="x", http_options=types.HttpOptions(base_url=url(app))).aio as client:
        if asked.stream:
            stream = await client.models.generate_content_stream(model="auto", contents=parts, config=config)
            replies = [event async for event in stream]
        else:
            replies = [await client.models.generate_content(model="auto", contents=parts, config=config)]
    for reply in replies:
        for part in (
            (reply.candidates[0].content.parts or ()) if reply.candidates and reply.candidates[0].content else ()
        ):
            if part.text and not part.thought:
                told.text += part.text
            if part.function_call:
                told.calls.append((part.function_call.name or "", part.function_call.args or {}))
    usage, candidates = replies[-1].usage_metadata, replies[-1].candidates
    assert usage and candidates and candidates[0].finish_reason is types.FinishReason.STOP
    told.ended = "tools" if told.calls else "stop"
    told.tokens = (
        usage.prompt_token_count or 0,
        (usage.candidates_token_count or 0) + (usage.thoughts_token_count or 0),
    )
    return told


DOORS: dict[str, Ask] = {
    "/v1/chat/completions": chat,
    "/v1/responses": responses,
    "/v1/messages": messages,
    "/v1beta/models": generate,
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
    provider = fixture_provider(upstream.url, kind=kind, capabilities=CAPABILITIES)
    async with App(config_for(tmp_path, {"fixture": provider}, cache=CacheConfig(enabled=False))) as running:
        yield running


async def test_the_same_comes_out_of_every_door(app: App, upstream: FixtureUpstream, kind: str) -> None:
    records: list[Record] = []
    app.gateway.observers.append(records.append)
    for form in ("text", "tools", "schema"):
        for stream in (False, True):
            if form == "schema" and stream:
                continue  # its fixtures tell it whole only
            told = {name: await ask(app, Asked(form, stream)) for name, ask in DOORS.items()}
            first = told["/v1/chat/completions"]
            assert all(each == first for each in told.values()), (kind, form, stream, told)
            if form == "tools":
                assert first.ended == "tools" and first.calls[0][0] == "get_weather"
                assert first.calls[0][1]["city"] == "Paris"
            elif form == "schema":
                assert json.loads(first.text)["name"].startswith("Ada")
            else:
                assert first.ended == "stop" and first.text.startswith("A black hole is a region")
            assert min(first.tokens) > 0 or (kind, form, stream) == ("openai", "tools", True), "that fixture has none"
    # What the provider was asked is the same too, whoever asked: picture, tool and limit.
    pictured = [seen for seen in upstream.seen if b"get_weather" in seen.body]
    assert len(pictured) == 2 * len(DOORS) and all(PICTURE.encode() in seen.body for seen in pictured)
    assert all(b"90" in seen.body for seen in upstream.seen)
    await until(lambda: len(records) == len(upstream.seen))
    for count in {(record.usage.input_tokens, record.usage.output_tokens) for record in records if record.usage}:
        assert min(count) > 0


async def test_grpc_is_told_the_same(app: App) -> None:
    """Its contract knows text alone."""
    request = gateway_pb2.ModelRequest(query=QUESTION, metadata={"maxTokens": "90"})
    async with grpc.aio.insecure_channel(f"127.0.0.1:{app.grpc_port}") as channel:
        stub = gateway_pb2_grpc.ModelGatewayServiceStub(channel)
        reply = await stub.ProcessQuery(request)
        pieces = [piece async for piece in stub.ProcessQueryStream(request)]
    first = await chat(app, Asked("text", False))
    assert (reply.response, (reply.input_tokens, reply.output_tokens)) == (first.text, first.tokens)
    first, result = await chat(app, Asked("text", True)), pieces[-1].result
    assert "".join(piece.delta for piece in pieces) == first.text
    assert (result.input_tokens, result.output_tokens) == first.tokens
