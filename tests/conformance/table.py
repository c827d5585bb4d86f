"""What every protocol's fixtures say: the facts that its adapter and its translations are held to.

A protocol that is registered in wire/protocols.py needs an entry in TABLE, and every fixture a line there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Required

import anthropic.types
import anthropic.types.message_create_params
import openai.types.chat
import openai.types.chat.completion_create_params
import openai.types.responses
import openai.types.responses.response_create_params
from google.genai import types as gemini
from typing_extensions import TypedDict

from model_gateway.domain.conversation import Answer, Reasoning, Text, ToolUse
from model_gateway.domain.usage import Usage
from model_gateway.providers.adapter import Adapter
from model_gateway.providers.anthropic import AnthropicAdapter
from model_gateway.providers.gemini import GeminiAdapter
from model_gateway.providers.openai import OpenAIAdapter
from model_gateway.providers.responses import ResponsesAdapter

FIXTURES = Path(__file__).parents[1] / "fixtures"


@dataclass(frozen=True)
class Entry:
    """One protocol. `replies` and `streams`: fixture → what it says. `failing`: streams that say that they failed.

    `body`: a caller's body with a field that nobody knows; `changed`: which of its fields may differ upstream.
    `refuses`, `leaves_out`: what a request cannot say, by the names of test_requests.py.
    `waits`: seconds that an error's own body asks for, by status. `elsewhere`: fixtures that other tests are for.
    `sdk_request`, `sdk_reply`, `sdk_event`: the types of the vendor's official SDK, where it has them.
    """

    adapter: Adapter
    replies: Mapping[str, Answer]
    streams: Mapping[str, Answer]
    body: Mapping[str, Any]
    refuses: frozenset[str]
    changed: frozenset[str] = frozenset(("model", "stream"))
    failing: tuple[str, ...] = ()
    elsewhere: tuple[str, ...] = ()
    leaves_out: frozenset[str] = frozenset()
    waits: Mapping[int, float] = field(default_factory=dict[int, float])
    model: str = "a-model"
    sdk_request: Any = None
    sdk_reply: Any = None
    sdk_event: Any = None


def said(*parts: Text | Reasoning | ToolUse, usage: Usage | None) -> Answer:
    called = any(isinstance(part, ToolUse) for part in parts)
    return Answer(parts=parts, finish_reason="tool_calls" if called else "stop", usage=usage)


@dataclass(frozen=True)
class Status:
    """What an error's status means for the next attempt, in every protocol over HTTP."""

    code: int
    retryable: bool
    recorded: Mapping[str, str] = field(default_factory=dict[str, str])


# `recorded`: what the vendor's own words hold, by protocol, where there is a fixture.
STATUSES = (
    Status(
        400,
        False,
        {
            "openai": "Unsupported value",
            "responses": "Unsupported value",
            "anthropic": "max_tokens",
            "gemini": "contents is not specified",
        },
    ),
    Status(401, False, dict.fromkeys(("openai", "responses", "anthropic"), "the gateway's key was refused")),
    Status(403, False, dict.fromkeys(("openai", "anthropic"), "the gateway's key was refused")),
    Status(404, False, {"openai": "`gpt-9`", "responses": "`gpt-9`", "anthropic": "claude-nope"}),
    Status(408, True),
    Status(413, False, {"anthropic": "maximum allowed number of bytes"}),
    Status(422, False),
    Status(
        429,
        True,
        {"openai": "Rate limit", "responses": "Rate limit", "anthropic": "rate limit", "gemini": "current quota"},
    ),
    Status(500, True, {"openai": "had an error", "responses": "had an error", "anthropic": "Internal server error"}),
    Status(502, True),
    Status(503, True, {"openai": "currently overloaded", "gemini": "model is overloaded"}),
    Status(529, True, {"anthropic": "Overloaded"}),
)

_HOLE = (
    "A black hole is a region in space where the gravitational pull is so strong that nothing, including light and"
    " matter, can escape."
)
_GREATER = (Reasoning("0.80 is more than 0.11."), Text("9.8 is greater."))
_BOTH = (
    Text("Both at once."),
    ToolUse("call_a1", "get_weather", '{"city":"Paris"}'),
    ToolUse("call_b2", "get_weather", '{"city":"東京"}'),
)

_OPENAI = Entry(
    adapter=OpenAIAdapter(),
    replies={
        "reply.json": said(Text(_HOLE), usage=Usage(39, 27)),
        "tools_reply.json": said(ToolUse("call_1", "get_weather", '{"city":"Paris"}'), usage=Usage(82, 17, 64, 8)),
        "parallel_reply.json": said(*_BOTH, usage=Usage(128, 46, 64)),
        "schema_reply.json": said(Text('{"name":"Ada","born":1815}'), usage=Usage(48, 11)),
        "reasoning_reply.json": said(*_GREATER, usage=Usage(21, 70, 16, 52)),
        "parts_reply.json": said(*_GREATER, usage=Usage(21, 70)),
    },
    streams={
        "stream.sse": said(Text(_HOLE), usage=Usage(39, 27, 38)),
        "tools_stream.sse": said(ToolUse("call_1", "get_weather", '{"city":"Paris"}'), usage=None),
        "parallel_stream.sse": said(*_BOTH, usage=Usage(128, 46, 64)),
        "reasoning_stream.sse": said(*_GREATER, usage=Usage(21, 70, 16, 52)),
    },
    elsewhere=("embeddings_reply.json",),
    body={
        "model": "auto",
        "messages": [{"role": "user", "content": "hi", "name": "ada"}],
        "logit_bias": {"50256": -100},
        "not_known_yet": {"a": [1.50, None]},
    },
    refuses=frozenset(("top_k", "file_url")),
    changed=frozenset(("model", "stream", "stream_options")),
    sdk_request=openai.types.chat.completion_create_params.CompletionCreateParamsNonStreaming,
    sdk_reply=openai.types.chat.ChatCompletion,
    sdk_event=openai.types.chat.ChatCompletionChunk,
)

_SPACE = "A black hole is a region of space whose gravity lets nothing escape, not even light."
_CITIES = (
    ToolUse("call_paris", "get_weather", '{"city":"Paris"}'),
    ToolUse("call_beijing", "get_weather", '{"city":"北京"}'),
)
_PLAN = Reasoning("Two cities, two calls.", signature="gAAAAAB-proof")

_RESPONSES = Entry(
    adapter=ResponsesAdapter(),
    replies={
        "reply.json": said(Text(_SPACE), usage=Usage(36, 27)),
        "tools_reply.json": said(_PLAN, *_CITIES, usage=Usage(95, 41, 64, 8)),
        "schema_reply.json": said(Text('{"name":"Ada","born":1815}'), usage=Usage(48, 11)),
    },
    streams={
        "stream.sse": said(Text(_SPACE), usage=Usage(36, 27)),
        "tools_stream.sse": said(*_CITIES, usage=Usage(95, 41, 64, 8)),
        "reasoning_stream.sse": said(_PLAN, Text(_SPACE), usage=Usage(36, 60, 0, 33)),
    },
    failing=("failed_stream.sse",),
    body={
        "model": "auto",
        "input": [{"role": "user", "content": "hi"}],
        "previous_response_id": "resp_1",
        "not_known_yet": {"a": [1.50, None]},
    },
    refuses=frozenset(("stop", "seed", "frequency_penalty", "presence_penalty", "top_k", "audio")),
    sdk_request=openai.types.responses.response_create_params.ResponseCreateParamsNonStreaming,
    sdk_reply=openai.types.responses.Response,
    sdk_event=openai.types.responses.ResponseStreamEvent,
)

_LIGHT = "A black hole is a region of space whose gravity lets nothing out, not even light."
_WEATHER = (
    Text("I'll look up both cities."),
    ToolUse("toolu_01T1x1fJ34qAmk2tNTrN7Up6", "get_weather", '{"city":"Paris","unit":"celsius"}'),
    ToolUse("toolu_01A09q90qw90lq917835lq9g", "get_weather", '{"city":"東京","unit":"celsius"}'),
)
_PRODUCT = (
    Reasoning(
        "27 times 453: 27 × 400 is 10800, 27 × 53 is 1431, together 12231.",
        signature="EqQBCgIYAhIM1gbcDa9GJwZA2b3hGgxBdjrkzLoky3dl1pkiMOYdsKmNvQ==",
    ),
    Reasoning("", redacted="EmwKAhgBEgy3va3pzix/LafPsn4aDFIT2Xlxh0L5L8rLVyIwxtE3rAFBa8cr3qpP"),
    Text("27 × 453 = 12231"),
)

_ANTHROPIC = Entry(
    adapter=AnthropicAdapter(),
    replies={
        "reply.json": said(Text(_LIGHT), usage=Usage(2069, 19, 2048)),
        "tools_reply.json": said(*_WEATHER, usage=Usage(2460, 124, 1800, cache_write_tokens=188)),
        "schema_reply.json": said(Text('{"name":"Ada Lovelace","born":1815}'), usage=Usage(232, 18)),
    },
    streams={
        "stream.sse": said(Text(_LIGHT), usage=Usage(2069, 19, 2048)),
        "tools_stream.sse": said(*_WEATHER, usage=Usage(2460, 124, 1800, cache_write_tokens=188)),
        "thinking_stream.sse": said(*_PRODUCT, usage=Usage(38, 86, 0, 52)),
    },
    body={
        "model": "auto",
        "max_tokens": 5,
        "messages": [{"role": "user", "content": "hi"}],
        "mcp_servers": [{"name": "x"}],
        "not_known_yet": {"a": [1.50, None]},
    },
    refuses=frozenset(("seed", "frequency_penalty", "presence_penalty", "json", "audio")),
    model="claude-sonnet-4-5",
    sdk_request=anthropic.types.message_create_params.MessageCreateParamsNonStreaming,
    sdk_reply=anthropic.types.Message,
    sdk_event=anthropic.types.RawMessageStreamEvent,
)

_CAN = (
    "A black hole is a region of space where gravity is so strong that nothing, including light, can escape it."
    " 黑洞连光也无法逃脱。"
)
_SIGNED = "CiQBcsjafLJ0pVlVsL0mA1Rk9mG2hXq8wTzYdQkJt3nUe5oBXg=="
_LOOKED_UP = (
    Text("I'll look up both cities."),
    ToolUse("fc_7k2m1p0q", "get_weather", '{"city":"Paris","unit":"celsius"}', signature=_SIGNED),
    ToolUse("fc_9x4n8r3t", "get_weather", '{"city":"東京","unit":"celsius"}'),
)
_BALL = "**Weighing the numbers**\n\nA ball costs five cents: then the bat is a dollar more."


class _GeminiRequest(TypedDict, total=False):
    """generateContent's body, of the SDK's types: it has none for the whole."""

    contents: Required[list[gemini.Content]]
    systemInstruction: gemini.Content
    tools: list[gemini.Tool]
    toolConfig: gemini.ToolConfig
    generationConfig: gemini.GenerationConfig


_GEMINI = Entry(
    adapter=GeminiAdapter(),
    replies={
        "reply.json": said(Text(_CAN), usage=Usage(21, 126, 8, 92)),
        "tools_reply.json": said(*_LOOKED_UP, usage=Usage(112, 99, 0, 61)),
        "schema_reply.json": said(
            Text('{"name":"Ada Lovelace","born":1815,"fields":["mathematics","computing"]}'), usage=Usage(30, 22)
        ),
        "blocked_reply.json": Answer(parts=(), finish_reason="content_filter", usage=Usage(12)),
    },
    streams={
        "stream.sse": said(Text(_CAN), usage=Usage(21, 126, 8, 92)),
        "tools_stream.sse": said(*_LOOKED_UP, usage=Usage(112, 99, 0, 61)),
        "thinking_stream.sse": said(Reasoning(_BALL), Text("Five cents."), usage=Usage(15, 29, 0, 25)),
    },
    elsewhere=("error_key.json",),
    body={
        "contents": [{"role": "user", "parts": [{"text": "hi"}]}],
        "safetySettings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}],
        "not_known_yet": {"a": [1.50, None]},
    },
    refuses=frozenset(("one_at_a_time",)),
    leaves_out=frozenset(("user",)),
    waits={429: 34.074824224},
    changed=frozenset(("model",)),
    model="gemini-2.5-flash",
    sdk_request=_GeminiRequest,
    sdk_reply=gemini.GenerateContentResponse,
    sdk_event=gemini.GenerateContentResponse,
)

TABLE: Mapping[str, Entry] = {"openai": _OPENAI, "responses": _RESPONSES, "anthropic": _ANTHROPIC, "gemini": _GEMINI}
REPLIES = [(protocol, name) for protocol, entry in TABLE.items() for name in entry.replies]
STREAMS = [(protocol, name) for protocol, entry in TABLE.items() for name in entry.streams]
