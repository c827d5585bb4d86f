from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings

from conversations import conversations
from model_gateway.domain.conversation import (
    Conversation,
    Media,
    Part,
    Reasoning,
    ResponseFormat,
    Text,
    Tool,
    ToolChoice,
    ToolResult,
    ToolUse,
    Turn,
)
from model_gateway.domain.errors import InvalidRequest
from model_gateway.wire import anthropic_conversation
from model_gateway.wire.anthropic_models import is_adaptive, version_of, without_thinking
from model_gateway.wire.anthropic_request import request

MODEL = "claude-sonnet-4-5-20250929"
HI = (Turn("user", (Text("hi"),)),)
TOOL = Tool("f", "does it")


def sent(model: str = MODEL, *, stream: bool = False, turns: tuple[Turn, ...] = HI, **said: Any) -> dict[str, Any]:
    """The body as it goes over the wire."""
    body = request(Conversation(turns=turns, **said), model, stream)
    return msgspec.json.decode(msgspec.json.encode(body))


def raw(body: dict[str, Any]) -> dict[str, msgspec.Raw]:
    return msgspec.json.decode(msgspec.json.encode(body), type=dict[str, msgspec.Raw])


@given(conversations())
@settings(max_examples=80, deadline=None)
def test_a_conversation_survives_the_schema(conversation: Conversation) -> None:
    body = raw(request(conversation, MODEL, True))
    assert anthropic_conversation.native_fields(body) == []
    assert anthropic_conversation.conversation(body) == conversation


def test_system_turns_are_hoisted_and_turns_of_one_role_merged() -> None:
    body = sent(
        turns=(
            Turn("system", (Text("be kind"),)),
            Turn("user", (Text("one"),)),
            Turn("system", (Text("be brief"),)),
            Turn("user", (Text("two"), Text(" "))),
            Turn("assistant", (Text(""),)),
            Turn("assistant", (Text("three"),)),
        )
    )
    assert body["system"] == "be kind\n\nbe brief"
    assert body["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "three"}]},
    ]
    assert body["max_tokens"] == 4096
    assert "stream" not in body and sent(stream=True)["stream"] is True


def test_results_come_first_with_their_images_and_errors() -> None:
    image = Media("image", mime="image/png", data="AAAA")
    parts: tuple[Part, ...] = (
        Text("look"),
        ToolResult("functions.f:0", (Text("sunny"), image)),
        ToolResult("b", (), is_error=True),
    )
    turns = (*HI, Turn("assistant", (ToolUse("functions.f:0", "f", ""), ToolUse("b", "f", '{"a":1}'))))
    messages = sent(turns=(*turns, Turn("user", parts)))["messages"]
    assert messages[1]["content"] == [
        {"type": "tool_use", "id": "functions_f_0", "name": "f", "input": {}},
        {"type": "tool_use", "id": "b", "name": "f", "input": {"a": 1}},
    ]
    source = {"type": "base64", "media_type": "image/png", "data": "AAAA"}
    assert messages[2]["content"] == [
        {
            "type": "tool_result",
            "tool_use_id": "functions_f_0",
            "content": [{"type": "text", "text": "sunny"}, {"type": "image", "source": source}],
        },
        {"type": "tool_result", "tool_use_id": "b", "is_error": True},
        {"type": "text", "text": "look"},
    ]


def test_only_signed_thoughts_go_back() -> None:
    thoughts = (Reasoning("unsigned"), Reasoning("signed", signature="s"), Reasoning("", redacted="r"), Text("t"))
    content = sent(turns=(*HI, Turn("assistant", thoughts)))["messages"][1]["content"]
    assert content == [
        {"type": "thinking", "thinking": "signed", "signature": "s"},
        {"type": "redacted_thinking", "data": "r"},
        {"type": "text", "text": "t"},
    ]


@pytest.mark.parametrize(
    ("media", "block"),
    [
        (Media("image", url="https://x/y"), {"type": "image", "source": {"type": "url", "url": "https://x/y"}}),
        (
            Media("file", mime="application/pdf", data="AAAA", name="a.pdf"),
            {
                "type": "document",
                "source": {"type": "base64", "media_type": "application/pdf", "data": "AAAA"},
                "title": "a.pdf",
            },
        ),
        (
            Media("file", mime="text/plain;charset=utf-8", data="aGkh"),
            {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "hi!"}},
        ),
        (
            Media("file", mime="application/pdf", url="https://x/y.pdf"),
            {"type": "document", "source": {"type": "url", "url": "https://x/y.pdf"}},
        ),
    ],
)
def test_media_are_blocks(media: Media, block: dict[str, Any]) -> None:
    assert sent(turns=(Turn("user", (media,)),))["messages"][0]["content"] == [block]


@pytest.mark.parametrize(
    ("said", "param"),
    [
        ({"seed": 1}, "seed"),
        ({"frequency_penalty": 0.5}, "frequency_penalty"),
        ({"presence_penalty": -1}, "presence_penalty"),
        ({"temperature": 1.5}, "temperature"),
        ({"stop": ("\n",)}, "stop"),
        ({"response_format": ResponseFormat("json")}, "response_format"),
        ({"reasoning_budget": 500}, "reasoning_budget"),
        ({"reasoning_budget": 2048, "max_tokens": 2048}, "max_tokens"),
        ({"reasoning_effort": "high", "max_tokens": 1024}, "max_tokens"),
        ({"turns": (Turn("system", (Text("x"),)),)}, "messages"),
        ({"turns": (Turn("system", (Media("image", url="https://x"),)), *HI)}, "messages"),
        ({"turns": (Turn("user", (Media("audio", mime="audio/wav", data="AA=="),)),)}, "messages"),
        ({"turns": (Turn("user", (Media("file", mime="application/zip", data="AA=="),)),)}, "messages"),
        ({"turns": (Turn("user", (Media("file", mime="text/plain", data="/w=="),)),)}, "messages"),
        ({"turns": (*HI, Turn("assistant", (ToolUse("a", "f", "[1]"),)))}, "messages"),
        ({"turns": (*HI, Turn("assistant", (ToolUse("a", "f", '{"a"'),)))}, "messages"),
    ],
)
def test_what_cannot_be_said_is_refused_by_name(said: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        sent(**said)
    assert caught.value.param == param


def test_penalties_of_nothing_are_nothing() -> None:
    body = sent(frequency_penalty=0.0, presence_penalty=0.0, response_format=ResponseFormat("text"), top_k=5)
    assert body.keys() == {"model", "max_tokens", "messages", "top_k"}


@pytest.mark.parametrize(
    ("choice", "parallel", "field"),
    [
        (None, None, None),
        (None, False, {"type": "auto", "disable_parallel_tool_use": True}),
        (ToolChoice("auto"), None, {"type": "auto"}),
        (ToolChoice("required"), True, {"type": "any", "disable_parallel_tool_use": False}),
        (ToolChoice("none"), False, {"type": "none"}),
        (ToolChoice("named", "f"), None, {"type": "tool", "name": "f"}),
    ],
)
def test_tool_choices(choice: ToolChoice | None, parallel: bool | None, field: dict[str, Any] | None) -> None:
    body = sent(tools=(TOOL,), tool_choice=choice, parallel_tool_calls=parallel)
    assert body.get("tool_choice") == field
    assert "tool_choice" not in sent(tool_choice=choice, parallel_tool_calls=parallel)


def test_a_schema_is_an_output_format() -> None:
    wanted = ResponseFormat("schema", "answer", msgspec.Raw(b'{"type":"object"}'), "what it is", True)
    assert sent(response_format=wanted)["output_config"] == {
        "format": {"type": "json_schema", "schema": {"type": "object"}}
    }


@pytest.mark.parametrize(
    ("model", "said", "thinking", "effort", "max_tokens"),
    [
        (MODEL, {"reasoning_budget": 2000}, {"type": "enabled", "budget_tokens": 2000}, None, 6096),
        (MODEL, {"reasoning_effort": "low"}, {"type": "enabled", "budget_tokens": 1024}, None, 5120),
        (
            MODEL,
            {"reasoning_effort": "high", "max_tokens": 6000},
            {"type": "enabled", "budget_tokens": 3000},
            None,
            6000,
        ),
        (MODEL, {"reasoning_effort": "none"}, None, None, 4096),
        (MODEL, {"reasoning_budget": 0}, None, None, 4096),
        ("claude-opus-4-8", {"reasoning_effort": "minimal"}, {"type": "adaptive"}, "low", 5120),
        ("claude-opus-4-8", {"reasoning_effort": "none"}, None, None, 4096),
        ("claude-opus-5-5", {"reasoning_budget": 20000, "max_tokens": 100}, {"type": "adaptive"}, "high", 100),
        ("claude-sonnet-5-5", {"reasoning_effort": "xhigh"}, {"type": "adaptive"}, "xhigh", 36864),
        ("claude-sonnet-5-5", {"reasoning_effort": "none"}, {"type": "between_tools"}, None, 4096),
        ("claude-haiku-5-5", {"reasoning_effort": "none"}, {"type": "disabled"}, None, 4096),
        ("claude-opus-5", {"reasoning_budget": 0}, {"type": "disabled"}, None, 4096),
    ],
)
def test_every_model_is_asked_to_think_in_its_own_way(
    model: str, said: dict[str, Any], thinking: dict[str, Any] | None, effort: str | None, max_tokens: int
) -> None:
    body = sent(model, **said)
    assert body.get("thinking") == thinking
    assert body.get("output_config", {}).get("effort") == effort
    assert body["max_tokens"] == max_tokens


@pytest.mark.parametrize("model", ["claude-opus-5-5", "claude-fable-5-1", "claude-mythos-preview"])
def test_a_model_that_always_thinks_is_not_told_to_stop(model: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        sent(model, reasoning_effort="none")
    assert caught.value.param == "reasoning_effort" and "low" in caught.value.message


@pytest.mark.parametrize(
    ("model", "version"),
    [
        ("claude-3-7-sonnet-20250219", (3, 7)),
        ("claude-sonnet-4-20250514", (4, 0)),
        ("claude-haiku-4-5-20251001", (4, 5)),
        ("anthropic.claude-opus-4-6-v1", (4, 6)),
        ("claude-opus-4-7", (4, 7)),
        ("claude-sonnet-5", (5, 0)),
        ("claude-mythos-preview", (5, 0)),
        ("claude-instant", (0, 0)),
        ("deepseek-v3.2", (0, 0)),
    ],
)
def test_a_models_name_says_its_version(model: str, version: tuple[int, int]) -> None:
    assert version_of(model) == version
    assert is_adaptive(model) is (version >= (4, 7))
    assert (without_thinking(model) == "omit") is (version < (5, 0))
