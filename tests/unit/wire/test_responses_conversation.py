"""What of OpenAI's Responses is read as a conversation, and what passes whatever its shape."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from model_gateway.domain.conversation import Conversation, Media, Text, ToolResult, ToolUse, Turn
from model_gateway.domain.errors import InvalidRequest
from model_gateway.providers.responses import ResponsesAdapter
from model_gateway.wire.responses_conversation import conversation_of_body, native_fields, read, texts_of
from model_gateway.wire.responses_request import request

# Items of a provider's own tools, as its SDK types them.
NATIVE: list[dict[str, Any]] = [
    {"type": "computer_call_output", "call_id": "c", "output": {"type": "computer_screenshot", "image_url": "x"}},
    {"type": "tool_search_call", "call_id": None, "arguments": {"query": "weather"}, "status": "completed"},
    {"type": "shell_call_output", "call_id": "c", "output": [{"stdout": "root", "stderr": "", "outcome": {}}]},
    {"type": "local_shell_call_output", "id": "l", "output": "{}"},
    {"type": "mcp_call", "id": "m", "name": "n", "arguments": "{}", "server_label": "s", "output": None},
    {"type": "web_search_call", "id": "w", "action": {"type": "search", "query": "q"}, "status": "completed"},
    {"type": "compaction", "id": "k", "encrypted_content": "gAAA"},
]


def body(*items: Any, **said: Any) -> bytes:
    return msgspec.json.encode({"model": "m", "input": list(items), **said})


def conversation(*items: Any, **said: Any) -> Conversation:
    return conversation_of_body(read(body(*items, **said)))


@pytest.mark.parametrize("item", NATIVE, ids=lambda item: item["type"])
def test_items_of_a_providers_own_tools_pass_whatever_their_shape(item: dict[str, Any]) -> None:
    found = read(body(item))
    fields = msgspec.json.decode(body(item), type=dict[str, msgspec.Raw])
    assert native_fields(found, fields) == ["input"]
    reply = {"id": "r", "status": "completed", "output": [item], "model": "m"}
    assert ResponsesAdapter().decode(msgspec.json.encode(reply)).text == ""
    event = {"type": "response.output_item.done", "output_index": 0, "item": item}
    chunk = ResponsesAdapter().stream_decoder().feed(msgspec.json.encode(event))
    assert chunk is not None and not chunk.plain


def test_deltas_of_a_providers_own_tools_pass() -> None:
    event = {"type": "response.shell_call_output_content.delta", "delta": {"stdout": "root"}}
    assert ResponsesAdapter().stream_decoder().feed(msgspec.json.encode(event)) is not None


def test_a_guard_sees_what_tools_were_called_with_and_put_out() -> None:
    items = read(body(*NATIVE, {"role": "user", "content": [{"type": "input_text", "text": "hi"}]})).input
    assert isinstance(items, list)
    seen = "\n".join(text for item in items for text in texts_of(item))
    for text in ("computer_screenshot", "weather", "root", "hi"):
        assert text in seen


def test_results_may_hold_parts() -> None:
    parts = [{"type": "input_text", "text": "a cat"}, {"type": "input_image", "image_url": "https://x/cat.png"}]
    found = conversation(
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": ""},
        {"type": "function_call_output", "call_id": "c", "output": parts},
        {"type": "function_call_output", "call_id": "d", "output": "plain"},
        {"type": "function_call_output", "call_id": "e"},
    )
    assert found.turns == (
        Turn("assistant", (ToolUse("c", "f", "{}"),)),
        Turn(
            "user",
            (
                ToolResult("c", (Text("a cat"), Media("image", url="https://x/cat.png"))),
                ToolResult("d", (Text("plain"),)),
                ToolResult("e", (Text(""),)),
            ),
        ),
    )


@pytest.mark.parametrize(
    ("item", "param"),
    [
        ({"type": "function_call_output", "call_id": "c", "output": {"a": 1}}, "input[0].output"),
        ({"type": "function_call_output", "call_id": "c", "output": [{"text": "x"}]}, "input[0].output"),
        ({"type": "web_search_call"}, "input[0]"),
        ({"role": "tool", "content": "x"}, "input[0].role"),
        ({"role": "user", "content": [{"type": "input_file", "file_data": "aGk="}]}, "input[0].content"),
        ({"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}, "input[0].content"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(item: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        conversation(item)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("said", "param"),
    [
        ({"tools": [{"type": "function", "name": "f", "parameters": []}]}, "tools[0].parameters"),
        ({"text": {"format": {"type": "json_schema", "name": "n", "schema": 5}}}, "text.format.schema"),
    ],
)
def test_schemas_are_objects(said: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        conversation({"role": "user", "content": "hi"}, **said)
    assert caught.value.param == param


def test_what_an_assistant_said_goes_back_as_plain_text() -> None:
    """Content in parts belongs to messages that have an id of the provider's own."""
    turns = (Turn("user", (Text("hi"),)), Turn("assistant", (Text("hel"), Text("lo"))))
    assert request(Conversation(turns=turns), "m", False)["input"] == [
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]},
        {"type": "message", "role": "assistant", "content": "hello"},
    ]
