"""The official google-genai SDK as a black-box client of a running gateway, before providers of both schemas."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from google.genai import Client, errors, types
from pydantic import BaseModel, SecretStr

from gateway import QUESTION, config_for, fixture_provider
from model_gateway.app import App
from model_gateway.config.schema import CallerKey, GatewayConfig
from upstream import Answer, FixtureUpstream, events, fixture, hang_up, recorded, whole

WEATHER = "What is the weather in Paris and in Tokyo?"
MODEL = "fixture-model"
CAPABILITIES = ("tools", "vision", "audio", "files", "json_schema")
GEMINI, OPENAI = recorded("gemini"), recorded("openai")
GET_WEATHER = types.FunctionDeclaration(
    name="get_weather",
    description="The weather",
    parameters=types.Schema(
        type=types.Type.OBJECT,
        properties={"city": types.Schema(type=types.Type.STRING, nullable=True)},
        required=["city"],
    ),
)
TOOLS: Any = [types.Tool(function_declarations=[GET_WEATHER])]
Config = types.GenerateContentConfig


@pytest.fixture(params=["gemini", "openai"])
async def upstream(request: pytest.FixtureRequest) -> AsyncIterator[FixtureUpstream]:
    async with FixtureUpstream(GEMINI if request.param == "gemini" else OPENAI) as server:
        yield server


@pytest.fixture
def config(tmp_path: Path, upstream: FixtureUpstream) -> GatewayConfig:
    return config_for(tmp_path, {"fixture": provider_of(upstream)})


def provider_of(upstream: FixtureUpstream, **options: Any) -> Any:
    kind = "gemini" if upstream.answer is GEMINI else "openai"
    given = {"kind": kind, "capabilities": CAPABILITIES, "api_key": SecretStr("sk-upstream"), **options}
    return fixture_provider(upstream.url, **given)


@pytest.fixture
async def app(config: GatewayConfig) -> AsyncIterator[App]:
    async with App(config) as running:
        yield running


def sync_client(app: App, key: str = "unused", **headers: str) -> Client:
    options = types.HttpOptions(base_url=f"http://127.0.0.1:{app.http_port}", headers=headers)
    return Client(api_key=key, http_options=options)


@pytest.fixture
async def client(app: App) -> AsyncIterator[Any]:
    async with sync_client(app).aio as sdk:
        yield sdk.models


def is_native(upstream: FixtureUpstream) -> bool:
    return ":" in upstream.seen[-1].path


async def streamed(client: Any, **asked: Any) -> list[types.GenerateContentResponse]:
    return [event async for event in await client.generate_content_stream(**asked)]


def text_of(events: list[types.GenerateContentResponse]) -> str:
    return "".join(event.text or "" for event in events)


def reason_of(reply: types.GenerateContentResponse) -> types.FinishReason | None:
    assert reply.candidates
    return reply.candidates[0].finish_reason


def usage_of(reply: types.GenerateContentResponse) -> tuple[int | None, ...]:
    usage = reply.usage_metadata
    assert usage
    return (
        usage.prompt_token_count,
        usage.cached_content_token_count,
        usage.candidates_token_count,
        usage.thoughts_token_count,
    )


async def test_a_reply(client: Any, upstream: FixtureUpstream) -> None:
    reply = await client.generate_content(
        model="auto",
        contents=QUESTION,
        config=Config(
            system_instruction="Be brief.", stop_sequences=["END"], max_output_tokens=100, seed=7, temperature=0.5
        ),
    )
    assert reply.text.startswith("A black hole is a region") and reason_of(reply) is types.FinishReason.STOP
    seen = upstream.seen[0]
    if is_native(upstream):
        assert seen.path == f"/v1/models/{MODEL}:generateContent"
        assert seen.headers["x-goog-api-key"] == "sk-upstream" and "authorization" not in seen.headers
        assert seen.json["systemInstruction"]["parts"] == [{"text": "Be brief."}]
        assert seen.json["generationConfig"]["stopSequences"] == ["END"]
        assert usage_of(reply) == (21, 8, 34, 92)
    else:
        assert seen.json["messages"][0] == {"role": "system", "content": "Be brief."}
        assert (seen.json["max_tokens"], seen.json["stop"], seen.json["seed"]) == (100, ["END"], 7)
        assert usage_of(reply) == (39, None, 27, None)


async def test_a_stream(client: Any, upstream: FixtureUpstream) -> None:
    told = await streamed(client, model="auto", contents=QUESTION)
    assert text_of(told).startswith("A black hole is a region")
    reasons = [reason_of(event) for event in told]
    assert reasons[-1] is types.FinishReason.STOP and set(reasons[:-1]) == {None}
    assert usage_of(told[-1])[2:] == ((34, 92) if is_native(upstream) else (27, None))


async def test_tools_whole_and_streamed(client: Any, upstream: FixtureUpstream) -> None:
    forced = types.ToolConfig(
        function_calling_config=types.FunctionCallingConfig(mode=types.FunctionCallingConfigMode.ANY)
    )
    first = await client.generate_content(model="auto", contents=WEATHER, config=Config(tools=TOOLS))
    told = await streamed(
        client, model="auto", contents=WEATHER, config=Config(tools=TOOLS, tool_config=forced, temperature=0.1)
    )
    for calls in (first.function_calls or [], [call for event in told for call in event.function_calls or ()]):
        assert calls and calls[0].args and calls[0].args["city"] == "Paris"
        assert all(call.name == "get_weather" and call.id for call in calls)
        assert len(calls) == (2 if is_native(upstream) else 1)
    sent = upstream.seen[-1].json
    if is_native(upstream):
        assert sent["toolConfig"] == {"functionCallingConfig": {"mode": "ANY"}}
    else:
        assert sent["tool_choice"] == "required"
        assert sent["tools"][0]["function"]["parameters"] == {
            "type": "object",
            "properties": {"city": {"type": ["string", "null"]}},
            "required": ["city"],
        }


async def test_a_tools_results_go_back(client: Any, upstream: FixtureUpstream) -> None:
    config = Config(tools=TOOLS)
    first = await client.generate_content(model="auto", contents=WEATHER, config=config)
    results = [
        types.Part(function_response=types.FunctionResponse(id=call.id, name=call.name, response={"result": "sunny"}))
        for call in first.function_calls
    ]
    assert first.candidates
    turns = [
        types.Content(role="user", parts=[types.Part.from_text(text=WEATHER)]),
        first.candidates[0].content,
        types.Content(role="user", parts=results),
    ]
    await client.generate_content(model="auto", contents=turns, config=config)
    if is_native(upstream):
        sent = upstream.seen[-1].json["contents"]
        assert sent[2]["parts"][0]["functionResponse"]["response"] == {"result": "sunny"}
        assert sent[1]["parts"][1]["thoughtSignature"], "Gemini refuses its own call without it"
    else:
        messages = upstream.seen[-1].json["messages"]
        assert [message["role"] for message in messages] == ["user", "assistant", "tool"]
        assert messages[2] == {
            "role": "tool",
            "tool_call_id": messages[1]["tool_calls"][0]["id"],
            "content": "sunny",
        }


class Person(BaseModel):
    name: str
    born: int


async def test_output_by_a_schema(client: Any, upstream: FixtureUpstream) -> None:
    config = Config(response_mime_type="application/json", response_schema=Person)
    reply = await client.generate_content(model="auto", contents="Who was Ada Lovelace?", config=config)
    assert isinstance(reply.parsed, Person) and reply.parsed.name.startswith("Ada") and reply.parsed.born == 1815
    if not is_native(upstream):
        schema = upstream.seen[0].json["response_format"]["json_schema"]
        assert schema["schema"]["properties"]["born"]["type"] == "integer" and schema["schema"]["type"] == "object"


async def test_pictures_and_files(client: Any, upstream: FixtureUpstream) -> None:
    contents = [
        types.Part.from_bytes(data=b"\x89PNG", mime_type="image/png"),
        types.Part.from_uri(file_uri="https://example.org/cat.png", mime_type="image/png"),
        types.Part.from_text(text="What is on them?"),
    ]
    await client.generate_content(model="auto", contents=contents)
    if not is_native(upstream):
        parts = upstream.seen[0].json["messages"][0]["content"]
        assert [part["image_url"]["url"] for part in parts[:2]] == [
            "data:image/png;base64,iVBORw==",
            "https://example.org/cat.png",
        ]


async def test_what_only_this_schema_can_say_needs_a_provider_of_it(client: Any, upstream: FixtureUpstream) -> None:
    search = Config(tools=[types.Tool(google_search=types.GoogleSearch())], safety_settings=[])
    if upstream.answer is GEMINI:
        with_search = await client.generate_content(model="auto", contents=QUESTION, config=search)
        assert with_search.candidates and upstream.seen[-1].json["tools"] == [{"googleSearch": {}}]
    else:
        with pytest.raises(errors.ClientError, match="protocol:gemini"):
            await client.generate_content(model="auto", contents=QUESTION, config=search)
        assert upstream.seen == []


async def test_tokens_are_counted_without_a_provider(client: Any, upstream: FixtureUpstream) -> None:
    bare = (await client.count_tokens(model="auto", contents=QUESTION)).total_tokens
    assert bare == 9 + 4  # by o200k_base, and the frame of a message
    assert upstream.seen == []


async def test_the_models(client: Any) -> None:
    listed = [model.name async for model in await client.list()]
    assert f"models/{MODEL}" in listed
    assert (await client.get(model=MODEL)).name == f"models/{MODEL}"
    with pytest.raises(errors.ClientError, match="does not exist"):
        await client.get(model="gemini-none")


async def test_typed_errors(client: Any) -> None:
    with pytest.raises(errors.ClientError) as missing:
        await client.generate_content(model="gemini-none", contents=QUESTION)
    assert (missing.value.code, missing.value.status) == (404, "NOT_FOUND")
    with pytest.raises(errors.ClientError, match="maxOutputTokens") as bad:
        await client.generate_content(
            model="auto", contents=QUESTION, config=Config.model_construct(max_output_tokens="many")
        )
    assert (bad.value.code, bad.value.status) == (400, "INVALID_ARGUMENT")
    with pytest.raises(errors.ClientError, match="unsafe"):
        await client.generate_content(model="auto", contents="please exec ('x')")


async def test_keys_by_header_and_in_the_address(config: GatewayConfig) -> None:
    key = "sk-right-key-0123456789"
    keyed = config.model_copy(update={"keys": (CallerKey(name="one", key=SecretStr(key)),)})
    async with App(keyed) as app, sync_client(app, "sk-wrong").aio as wrong, sync_client(app, key).aio as right:
        for refused in (wrong.models.generate_content, wrong.models.count_tokens):
            with pytest.raises(errors.ClientError) as caught:
                await refused(model="auto", contents=QUESTION)
            assert (caught.value.code, caught.value.status) == (401, "UNAUTHENTICATED")
        assert (await right.models.generate_content(model="auto", contents=QUESTION)).text
        url = f"http://127.0.0.1:{app.http_port}/v1beta/models/auto:generateContent?key={key}"
        # Google's own examples write some names in snake_case.
        body: dict[str, Any] = {
            "system_instruction": {"parts": {"text": "Be brief."}},
            "contents": [{"parts": [{"text": "Hi"}]}],
        }
        async with httpx.AsyncClient() as http:
            assert (await http.post(url, json=body)).status_code == 400, "parts must be a list"
            body["system_instruction"] = {"parts": [{"text": "Be brief."}]}
            assert (await http.post(url, json=body)).json()["candidates"]
            unframed = await http.post(url.replace("generateContent", "streamGenerateContent"), json=body)
            assert unframed.status_code == 400 and "alt=sse" in unframed.json()["error"]["message"]


@pytest.mark.parametrize("streams", [False, True])
async def test_a_repeated_question_is_answered_from_the_cache(
    client: Any, upstream: FixtureUpstream, streams: bool
) -> None:
    said: list[str] = []
    for _ in range(2):
        if streams:
            told = await streamed(client, model="auto", contents=QUESTION)
            assert reason_of(told[-1]) is types.FinishReason.STOP
            said.append(text_of(told))
        else:
            said.append((await client.generate_content(model="auto", contents=QUESTION)).text)
    assert said[0] == said[1] and said[0].startswith("A black hole")
    assert len(upstream.seen) == 1


async def test_the_gateways_own_words_disturb_nobody(app: App) -> None:
    async with sync_client(app, **{"x-gateway-details": "1"}).aio as client:
        reply = await client.models.generate_content(model="auto", contents=QUESTION)
        told = await streamed(client.models, model="auto", contents=QUESTION)
    assert reply.text and text_of(told) == reply.text


@pytest.mark.parametrize("cut_at", [40, 900, 1_300])
async def test_a_cut_stream_is_an_error(client: Any, upstream: FixtureUpstream, cut_at: int) -> None:
    stream_of = fixture("stream.sse", "gemini" if upstream.answer is GEMINI else "openai")
    upstream.answer = events(stream_of, cut_at=cut_at)
    for _ in range(2):
        told: list[types.GenerateContentResponse] = []
        with pytest.raises(errors.ServerError):
            async for event in await client.generate_content_stream(model="auto", contents=QUESTION):
                told.append(event)  # noqa: PERF401 (what came before the error counts)
        assert all(reason_of(event) is None for event in told)
    assert len(upstream.seen) == 2


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (whole(fixture("error_429.json", "gemini"), 429), errors.ServerError),
        (whole(fixture("error_503.json", "gemini"), 503), errors.ServerError),
        (whole(fixture("error_400.json", "gemini"), 400), errors.ClientError),
        (whole(b'{"candidates":5,"choices":5}'), errors.ServerError),
        (hang_up, errors.ServerError),
    ],
)
async def test_a_failing_provider_gives_one_typed_error(
    client: Any, upstream: FixtureUpstream, answer: Answer, kind: type[errors.APIError]
) -> None:
    upstream.answer = answer
    with pytest.raises(kind) as caught:
        await client.generate_content(model="auto", contents=QUESTION)
    assert "fixture" in str(caught.value)


async def test_the_synchronous_client(app: App) -> None:
    def ask() -> tuple[str | None, str]:
        with sync_client(app) as client:
            reply = client.models.generate_content(model="auto", contents=QUESTION)
            chat = client.chats.create(model="auto")
            return reply.text, "".join(event.text or "" for event in chat.send_message_stream(QUESTION))

    said, told = await asyncio.to_thread(ask)
    assert said == told
