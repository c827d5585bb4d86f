"""What every protocol's fixtures say: the facts that its adapter and its translations are held to.

A protocol that is registered in wire/protocols.py needs an entry in TABLE, and every fixture a line there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anthropic.types
import anthropic.types.message_create_params
import openai.types.chat
import openai.types.chat.completion_create_params
import openai.types.responses
import openai.types.responses.response_create_params

from model_gateway.domain.conversation import Answer, Reasoning, Text, ToolUse
from model_gateway.domain.usage import Usage
from model_gateway.providers.adapter import Adapter
from model_gateway.providers.anthropic import AnthropicAdapter
from model_gateway.providers.openai import OpenAIAdapter
from model_gateway.providers.responses import ResponsesAdapter

FIXTURES = Path(__file__).parents[1] / "fixtures"


@dataclass(frozen=True)
class Entry:
    """One protocol. `replies` and `streams`: fixture → what it says. `failing`: streams that say that they failed.

    `body`: a caller's body with a field that nobody knows; `changed`: which of its fields may differ upstream.
    `refuses`: what a request cannot say, by the name of the Conversation's field, or image_url, pdf, audio, file_url.
    `sdk_request`, `sdk_reply`, `sdk_event`: the types of the vendor's official SDK, where it has them.
    """

    adapter: Adapter
    replies: Mapping[str, Answer]
    streams: Mapping[str, Answer]
    body: Mapping[str, Any]
    refuses: frozenset[str]
    changed: frozenset[str] = frozenset(("model", "stream"))
    failing: tuple[str, ...] = ()
    model: str = "a-model"
    sdk_request: Any = None
    sdk_reply: Any = None
    sdk_event: Any = None


def said(*parts: Text | Reasoning | ToolUse, usage: Usage | None, called: bool = False) -> Answer:
    return Answer(parts=parts, finish_reason="tool_calls" if called else "stop", usage=usage)


@dataclass(frozen=True)
class Status:
    """What an error's status means for the next attempt, in every protocol over HTTP."""

    code: int
    retryable: bool
    recorded: Mapping[str, str] = field(default_factory=dict[str, str])


# `recorded`: what the vendor's own words hold, by protocol, where there is a fixture.
STATUSES = (
    Status(400, False, {"openai": "Unsupported value", "responses": "Unsupported value", "anthropic": "max_tokens"}),
    Status(401, False, dict.fromkeys(("openai", "responses", "anthropic"), "the gateway's key was refused")),
    Status(403, False, dict.fromkeys(("openai", "anthropic"), "the gateway's key was refused")),
    Status(404, False, {"openai": "`gpt-9`", "responses": "`gpt-9`", "anthropic": "claude-nope"}),
    Status(408, True),
    Status(413, False, {"anthropic": "maximum allowed number of bytes"}),
    Status(422, False),
    Status(429, True, {"openai": "Rate limit", "responses": "Rate limit", "anthropic": "rate limit"}),
    Status(500, True, {"openai": "had an error", "responses": "had an error", "anthropic": "Internal server error"}),
    Status(502, True),
    Status(503, True, {"openai": "currently overloaded"}),
    Status(529, True, {"anthropic": "Overloaded"}),
)

_HOLE = "A black hole is a region in space where the gravitational pull is so strong that nothing, including light and"
_HOLE += " matter, can escape."
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
        "tools_reply.json": said(
            ToolUse("call_1", "get_weather", '{"city":"Paris"}'), usage=Usage(82, 17, 64, 8), called=True
        ),
        "parallel_reply.json": said(*_BOTH, usage=Usage(128, 46, 64), called=True),
        "schema_reply.json": said(Text('{"name":"Ada","born":1815}'), usage=Usage(48, 11)),
        "reasoning_reply.json": said(*_GREATER, usage=Usage(21, 70, 16, 52)),
        "parts_reply.json": said(*_GREATER, usage=Usage(21, 70)),
    },
    streams={
        "stream.sse": said(Text(_HOLE), usage=Usage(39, 27, 38)),
        "tools_stream.sse": said(ToolUse("call_1", "get_weather", '{"city":"Paris"}'), usage=None, called=True),
        "parallel_stream.sse": said(*_BOTH, usage=Usage(128, 46, 64), called=True),
        "reasoning_stream.sse": said(*_GREATER, usage=Usage(21, 70, 16, 52)),
    },
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
        "tools_reply.json": said(_PLAN, *_CITIES, usage=Usage(95, 41, 64, 8), called=True),
        "schema_reply.json": said(Text('{"name":"Ada","born":1815}'), usage=Usage(48, 11)),
    },
    streams={
        "stream.sse": said(Text(_SPACE), usage=Usage(36, 27)),
        "tools_stream.sse": said(*_CITIES, usage=Usage(95, 41, 64, 8), called=True),
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
        "tools_reply.json": said(*_WEATHER, usage=Usage(2460, 124, 1800), called=True),
        "schema_reply.json": said(Text('{"name":"Ada Lovelace","born":1815}'), usage=Usage(232, 18)),
    },
    streams={
        "stream.sse": said(Text(_LIGHT), usage=Usage(2069, 19, 2048)),
        "tools_stream.sse": said(*_WEATHER, usage=Usage(2460, 124, 1800), called=True),
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

TABLE: Mapping[str, Entry] = {"openai": _OPENAI, "responses": _RESPONSES, "anthropic": _ANTHROPIC}
REPLIES = [(protocol, name) for protocol, entry in TABLE.items() for name in entry.replies]
STREAMS = [(protocol, name) for protocol, entry in TABLE.items() for name in entry.streams]
