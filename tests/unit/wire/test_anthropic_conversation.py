from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from model_gateway.domain.conversation import Conversation, Media, Reasoning, Text, ToolResult, ToolUse, Turn
from model_gateway.domain.errors import InvalidRequest
from model_gateway.wire import anthropic as wire
from model_gateway.wire import needs
from model_gateway.wire.anthropic_conversation import conversation, native_fields
from model_gateway.wire.anthropic_request import FEATURES, request

USER: dict[str, Any] = {"role": "user", "content": "hi"}


def fields(**said: Any) -> dict[str, msgspec.Raw]:
    body = {"model": "m", "max_tokens": 10, "messages": [USER], **said}
    return wire.decode_messages(msgspec.json.encode(body))[1]


def read(**said: Any) -> Conversation:
    return conversation(fields(**said))


def block(**said: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [said]}]}


def test_every_kind_of_content_is_read() -> None:
    found = read(
        system=[{"type": "text", "text": "be kind"}],
        messages=[
            USER,
            {"role": "system", "content": "be brief"},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "hm", "signature": "s"},
                    {"type": "redacted_thinking", "data": "r"},
                    {"type": "tool_use", "id": "a", "name": "f", "input": {"x": 1.50}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "a", "content": "no", "is_error": True},
                    {"type": "tool_result", "tool_use_id": "b"},
                    {"type": "image", "source": {"type": "url", "url": "https://x/y"}},
                    {"type": "document", "title": "t", "source": {"type": "text", "data": "hi!"}},
                ],
            },
        ],
    )
    assert found.turns == (
        Turn("system", (Text("be kind"),)),
        Turn("user", (Text("hi"),)),
        Turn("system", (Text("be brief"),)),
        Turn("assistant", (Reasoning("hm", "s"), Reasoning("", redacted="r"), ToolUse("a", "f", '{"x":1.5}'))),
        Turn(
            "user",
            (
                ToolResult("a", (Text("no"),), is_error=True),
                ToolResult("b", ()),
                Media("image", url="https://x/y"),
                Media("file", mime="text/plain", data="aGkh", name="t"),
            ),
        ),
    )


@pytest.mark.parametrize(
    ("said", "effort", "budget"),
    [
        ({}, "", None),
        ({"thinking": {"type": "adaptive", "display": "summarized"}}, "", None),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}}, "low", None),
        ({"thinking": {"type": "enabled", "budget_tokens": 2048}}, "", 2048),
        ({"thinking": {"type": "disabled"}}, "none", None),
        ({"thinking": {"type": "between_tools"}, "output_config": {"effort": "low"}}, "none", None),
    ],
)
def test_thinking_is_an_effort_or_a_budget(said: dict[str, Any], effort: str, budget: int | None) -> None:
    found = read(**said)
    assert (found.reasoning_effort, found.reasoning_budget) == (effort, budget)


@pytest.mark.parametrize(
    ("said", "param"),
    [
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        (block(type="tool_use", id="a", name="f", input=[1]), "messages[0].content[0].input"),
        (block(type="search_result"), "messages[0].content[0]"),
        (block(type="image", source={"type": "file"}), "messages[0].content[0]"),
        (block(type="tool_result", content=[{"type": "tool_reference"}]), "messages[0].content[0].content[0]"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0].type"),
        ({"tools": [{"description": "x"}]}, "tools[0].name"),
        ({"tool_choice": {"type": "tool"}}, "tool_choice"),
        ({"tool_choice": {"type": "required"}}, "tool_choice"),
        ({"thinking": {"type": "enabled"}}, "thinking"),
        ({"output_config": {"format": {"type": "xml"}}}, "output_config.format.type"),
        ({"top_k": "many"}, "top_k"),
    ],
)
def test_bad_requests_name_the_field(said: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read(**said)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("said", "names"),
    [
        ({"service_tier": "auto", "temperature": 0.5, "metadata": {"user_id": "u"}, "container": None}, []),
        ({"speed": "standard", "stream": True, "thinking": {"type": "adaptive"}}, []),
        (block(type="tool_use", id="a", name="f", input={}, caller={"type": "direct"}), []),
        (block(type="text", text="x", citations=None), []),
        (block(type="document", source={"type": "url", "url": "u"}, citations={"enabled": False}), []),
        ({"tools": [{"name": "f", "type": "custom", "input_schema": {}, "strict": True}]}, []),
        ({"container": "c", "mcp_servers": [{"name": "x"}], "speed": "fast"}, ["container", "mcp_servers", "speed"]),
        ({"cache_control": {"type": "ephemeral"}}, []),
        (block(type="text", text="x", cache_control={"type": "ephemeral"}), []),
        ({"system": [{"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}]}, []),
        (block(type="document", source={"type": "file", "file_id": "f"}), ["messages.content.source.file"]),
        (block(type="document", source={"type": "content", "content": []}), ["messages.content.source.content"]),
        (block(type="server_tool_use", id="a"), ["messages.content.server_tool_use"]),
        (
            block(type="tool_result", content=[{"type": "tool_reference", "tool_name": "f"}]),
            ["messages.content.content.tool_reference"],
        ),
        (
            {"tools": [{"type": "web_search_20250305", "name": "w"}, {"name": "f", "cache_control": {"type": "e"}}]},
            ["tools.web_search_20250305"],
        ),
        ({"output_config": {"effort": "max", "task_budget": 5}}, ["output_config.effort", "output_config.task_budget"]),
        ({"max_tokens": 0}, ["max_tokens"]),
    ],
)
def test_what_only_this_schema_can_say_is_found_everywhere(said: dict[str, Any], names: list[str]) -> None:
    body = fields(**said)
    assert native_fields(body) == names
    if not names:
        found = conversation(body)
        assert needs.native("anthropic") not in needs.needs_of(found, "anthropic", names)
        request(found, "claude-sonnet-5", False)
    else:
        assert needs.needs_of(read(), "anthropic", names) <= FEATURES


def test_bodies_of_odd_shapes_are_refused_or_have_nothing_native() -> None:
    for said in ({"system": 5}, {"messages": 5}, {"messages": [5]}, {"messages": [{"role": "user", "content": [5]}]}):
        with pytest.raises(InvalidRequest):
            fields(**said)
    assert native_fields(fields(tools=[5], output_config=[])) == []
    with pytest.raises(InvalidRequest) as caught:
        read(tools=[5])
    assert caught.value.param == "tools[0]"
    with pytest.raises(InvalidRequest):
        wire.decode_messages(b"{")
    deep = b'{"model":"m","messages":[],"x":' + b"[" * 1_000_000 + b"]" * 1_000_000 + b"}"
    with pytest.raises(InvalidRequest):
        wire.decode_messages(deep)


def test_a_body_is_seen_with_all_its_text_whatever_its_blocks() -> None:
    body = {
        "model": "m",
        "system": [{"type": "text", "text": "be kind", "cache_control": {"type": "ephemeral"}}],
        "messages": [
            USER,
            {"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "f", "input": {"q": "odd"}}]},
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "content": [{"type": "text", "text": "inner"}, {"type": "image"}]},
                    {"type": "tool_result", "content": "plain"},
                    {"type": "document", "source": {"type": "text", "data": "paper"}},
                    {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "cut"}]}},
                    {"type": "web_search_tool_result", "content": {"type": "error"}},
                    {"type": "text", "text": "and?"},
                ],
            },
        ],
    }
    seen = wire.decode_messages(json.dumps(body).encode())[0].all_messages()
    assert [message.role for message in seen] == ["system", "user", "assistant", "user"]
    assert [message.text() for message in seen] == [
        "be kind",
        "hi",
        '{"q": "odd"}',
        "inner\nplain\npaper\ncut\nand?",
    ]


def test_text_hidden_at_any_depth_is_seen() -> None:
    block: dict[str, Any] = {"type": "text", "text": "hidden"}
    for _ in range(200):
        block = {"type": "tool_result", "tool_use_id": "a", "content": [block]}
    body = msgspec.json.encode({"model": "m", "messages": [{"role": "user", "content": [block]}]})
    assert "hidden" in wire.decode_messages(body)[0].all_messages()[0].text()
    odd = b'{"model":"m","messages":[{"role":"user","content":[{"type":"tool_result","content":"\xff"}]}]}'
    with pytest.raises(InvalidRequest, match="not valid JSON"):
        wire.decode_messages(odd)
