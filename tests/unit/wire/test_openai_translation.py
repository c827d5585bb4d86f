"""OpenAI's chat completions as conversations and answers: what tests/conformance does not say of every schema."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from model_gateway.domain.conversation import (
    Answer,
    Conversation,
    Delta,
    Ended,
    Media,
    Part,
    Reasoning,
    ReasoningDelta,
    Refusal,
    RefusalDelta,
    ResponseFormat,
    Text,
    TextDelta,
    Tool,
    ToolArguments,
    ToolBegan,
    ToolChoice,
    ToolResult,
    ToolUse,
    Turn,
    UsageSeen,
)
from model_gateway.domain.errors import InvalidRequest
from model_gateway.domain.usage import Usage
from model_gateway.wire.openai_answer import Reader, Writer, answer, reply
from model_gateway.wire.openai_conversation import conversation
from model_gateway.wire.openai_request import request
from model_gateway.wire.protocol import Head
from model_gateway.wire.sse import SseParser
from told import collected

HEAD = Head("id-1", "m", 1)
USER: dict[str, Any] = {"role": "user", "content": "hi"}
HI = Turn("user", (Text("hi"),))
PDF = "JVBERi0xLjQK"


def read(**said: Any) -> Conversation:
    body = {"model": "m", "messages": [USER], **said}
    return conversation(msgspec.json.decode(msgspec.json.encode(body), type=dict[str, msgspec.Raw]))


def part(**said: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [said]}]}


def assistant(**said: Any) -> dict[str, Any]:
    return {"messages": [USER, {"role": "assistant", **said}]}


def sent(*turns: Turn, model: str = "m", **said: Any) -> dict[str, Any]:
    return json.loads(msgspec.json.encode(request(Conversation(turns=turns or (HI,), **said), model, False)))


# --- requests, read ---------------------------------------------------------------------------------------------------


def test_every_kind_of_message_is_read() -> None:
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}}
    found = read(
        messages=[
            {"role": "developer", "content": [{"type": "text", "text": "be kind"}]},
            USER,
            {
                "role": "assistant",
                "content": None,
                "reasoning_content": "hm",
                "tool_calls": [call, {**call, "id": "b"}],
            },
            {"role": "tool", "tool_call_id": "a", "content": "sunny"},
            {"role": "tool", "tool_call_id": "b", "content": [{"type": "text", "text": "rain"}], "name": "f"},
            {"role": "assistant", "content": [{"type": "text", "text": "no"}, {"type": "refusal", "refusal": "sorry"}]},
            {"role": "tool", "tool_call_id": "c", "content": None},
        ]
    )
    assert found.turns == (
        Turn("system", (Text("be kind"),)),
        HI,
        Turn("assistant", (Reasoning("hm"), ToolUse("a", "f", '{"x":1}'), ToolUse("b", "f", '{"x":1}'))),
        Turn("user", (ToolResult("a", (Text("sunny"),)), ToolResult("b", (Text("rain"),), "f"))),
        Turn("assistant", (Text("no"), Refusal("sorry"))),
        Turn("user", (ToolResult("c", ()),)),
    )


@pytest.mark.parametrize(
    ("said", "media"),
    [
        (
            {"type": "image_url", "image_url": {"url": "https://x/y", "detail": "low"}},
            Media("image", url="https://x/y", detail="low"),
        ),
        (
            {"type": "input_audio", "input_audio": {"data": "AA==", "format": "mp3"}},
            Media("audio", mime="audio/mp3", data="AA=="),
        ),
        (
            {"type": "file", "file": {"file_data": f"data:application/pdf;base64,{PDF}", "filename": "a.pdf"}},
            Media("file", mime="application/pdf", data=PDF, name="a.pdf"),
        ),
        ({"type": "file", "file": {"file_data": PDF}}, Media("file", mime="application/pdf", data=PDF)),
        (
            {"type": "file", "file": {"file_data": "aGk=", "filename": "A.TXT"}},
            Media("file", mime="text/plain", data="aGk=", name="A.TXT"),
        ),
    ],
)
def test_media_are_read(said: dict[str, Any], media: Media) -> None:
    assert read(**part(**said)).turns == (Turn("user", (media,)),)


@pytest.mark.parametrize(
    ("said", "param"),
    [
        ({"messages": [{"role": "function", "name": "f", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
        ({"messages": [{"role": "tool", "tool_call_id": None, "content": "x"}]}, "messages[0].tool_call_id"),
        (part(type="video_url"), "messages[0].content[0]"),
        (part(type="image_url"), "messages[0].content[0]"),
        (part(type="image_url", image_url={"url": ""}), "messages[0].content[0]"),
        (part(type="image_url", image_url={"url": "data:image/png,text"}), "messages[0].content[0]"),
        (part(type="image_url", image_url={"url": "data:;base64,AAAA"}), "messages[0].content[0]"),
        (part(type="image_url", image_url={"url": "data:image/png;base64,"}), "messages[0].content[0]"),
        (part(type="file", file={"file_id": "file-1"}), "messages[0].content[0]"),
        (part(type="file", file={"file_data": "https://x/a.pdf"}), "messages[0].content[0].file.file_data"),
        (part(type="file", file={"file_data": "aGk="}), "messages[0].content[0].file.file_data"),
        (assistant(content=[{"type": "image_url", "image_url": {"url": "x"}}]), "messages[1].content[0]"),
        (assistant(content="x", audio={"id": "audio_1"}), "messages[1].audio"),
        (assistant(function_call={"name": "f", "arguments": "{}"}), "messages[1].function_call"),
        (assistant(tool_calls=[{"id": "a", "type": "custom", "custom": {}}]), "messages[1].tool_calls[0]"),
        (assistant(tool_calls=[{"function": {"name": "f"}}]), "messages[1].tool_calls[0].id"),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools"),
        ({"tools": [{"type": "function", "function": {"name": "f", "parameters": 5}}]}, "tools[0].function.parameters"),
        ({"tool_choice": "any"}, "tool_choice"),
        ({"tool_choice": {"type": "allowed_tools", "allowed_tools": {}}}, "tool_choice"),
        ({"response_format": {"type": "grammar"}}, "response_format"),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": []}}},
            "response_format.json_schema.schema",
        ),
        ({"stop": 5}, "stop"),
        ({"max_tokens": "many"}, "max_tokens"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(said: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read(**said)
    assert caught.value.param == param and caught.value.message


def test_fields_are_read() -> None:
    found = read(
        tools=[{"type": "function", "function": {"name": "f", "parameters": None, "strict": True}}],
        tool_choice={"type": "function", "function": {"name": "f"}},
        parallel_tool_calls=False,
        response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}},
        max_tokens=5,
        max_completion_tokens=6,
        stop="END",
        seed=3,
        reasoning_effort="high",
        user="old",
        safety_identifier="new",
    )
    assert found.tools == (Tool("f", strict=True),)
    assert (found.tool_choice, found.parallel_tool_calls) == (ToolChoice("named", "f"), False)
    assert found.response_format == ResponseFormat("schema", "n", msgspec.Raw(b'{"type":"object"}'))
    assert (found.max_tokens, found.stop, found.seed) == (6, ("END",), 3)
    assert (found.reasoning_effort, found.user) == ("high", "new")
    assert read(stop=["a", "b"], response_format={"type": "text"}, max_tokens=5) == Conversation(
        turns=(HI,), stop=("a", "b"), max_tokens=5
    )


# --- requests, written ------------------------------------------------------------------------------------------------


def test_results_are_messages_of_their_own_and_their_images_go_to_the_user() -> None:
    image = Media("image", mime="image/png", data="AAAA")
    parts: tuple[Part, ...] = (Text("look"), ToolResult("a", (Text("no"), image), is_error=True), ToolResult("b", ()))
    calls = (Text("on it"), ToolUse("a", "f", "{}"), ToolUse("b", "f", "{}"), Reasoning("hm", "s"), Refusal("sorry"))
    _, asked, *rest = sent(HI, Turn("assistant", calls), Turn("user", parts))["messages"]
    assert (asked["content"], asked["refusal"], [call["id"] for call in asked["tool_calls"]]) == (
        "on it",
        "sorry",
        ["a", "b"],
    )
    assert rest == [
        {"role": "tool", "tool_call_id": "a", "content": "Error: no"},
        {"role": "tool", "tool_call_id": "b", "content": ""},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "look"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
            ],
        },
    ]
    assert sent(HI, Turn("assistant", (ToolUse("a", "f", "{}"),)))["messages"][1]["content"] is None


@pytest.mark.parametrize(
    ("mime", "form"),
    [("audio/wav", "wav"), ("audio/x-wav", "wav"), ("audio/mpeg", "mp3"), ("audio/ogg;codecs=opus", "ogg")],
)
def test_sounds_are_named_as_this_schema_names_them(mime: str, form: str) -> None:
    (message,) = sent(Turn("user", (Media("audio", mime=mime, data="AA=="),)))["messages"]
    assert message["content"][0]["input_audio"] == {"data": "AA==", "format": form}


@pytest.mark.parametrize("role", ["system", "assistant"])
def test_images_outside_a_users_turn_are_refused(role: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        sent(HI, Turn(role, (Text("x"), Media("image", url="https://x/y"))))
    assert caught.value.param == "messages"


@pytest.mark.parametrize(
    ("model", "effort", "limit", "said"),
    [
        ("gpt-4.1", "none", "max_tokens", None),
        ("gpt-4.1", "low", "max_tokens", "low"),
        ("o3", "none", "max_completion_tokens", "none"),
        ("openai/gpt-5.2-pro", "high", "max_completion_tokens", "high"),
        ("gpt-6-luna", "", "max_completion_tokens", None),
        ("gpt-oss-120b", "", "max_tokens", None),
    ],
)
def test_models_that_think_are_asked_in_their_own_words(model: str, effort: str, limit: str, said: str | None) -> None:
    body = sent(model=model, max_tokens=9, reasoning_effort=effort)
    assert body[limit] == 9 and body.get("reasoning_effort") == said


# --- answers, read ----------------------------------------------------------------------------------------------------


def chunk(delta: dict[str, Any], reason: str | None = None, **more: Any) -> bytes:
    return msgspec.json.encode({"choices": [{"index": 0, "delta": delta, "finish_reason": reason}], **more})


def call(index: int | None = None, call_id: str | None = None, name: str | None = None, arguments: Any = None) -> Any:
    fields = {"id": call_id, "function": {"name": name, "arguments": arguments}}
    return {"tool_calls": [fields if index is None else {"index": index, **fields}]}


TWO = (ToolUse("a", "f", '{"x":1}'), ToolUse("b", "g", '{"y":2}'))


@pytest.mark.parametrize(
    "deltas",
    [
        [call(1, "a", "f"), call(1, arguments='{"x":1}'), call(2, "b", "g"), call(2, arguments='{"y":2}')],
        [call(0, "a", "f", '{"x":1}'), call(0, "b", "g", '{"y":2}')],
        [call(0, "a", "f", '{"x":'), call(0, "a", "f", "1}"), call(1, "b", "g", '{"y":2}')],
        [call(None, "a", "f"), call(None, None, None, '{"x":1}'), call(None, "b", "g", '{"y":2}')],
        [call(0, "a", "f", {"x": 1}), call(1, "b", "g", {"y": 2})],
        [call(0, "a", "f"), call(1, "b", "g"), call(1, arguments='{"y":2}'), call(0, "z", None, '{"x":1}')],
    ],
    ids=["from one", "all zero", "id repeated", "unnumbered", "objects", "interleaved"],
)
def test_calls_are_told_apart_however_vendors_number_them(deltas: list[Any]) -> None:
    reader = Reader()
    told: list[Delta] = []
    for delta in deltas:
        told += reader.feed(chunk(delta))
    assert collected([*told, *reader.feed(chunk({}, "stop"))]) == Answer(parts=TWO, finish_reason="tool_calls")


def test_a_call_without_an_id_gets_one() -> None:
    reader = Reader()
    told = [*reader.feed(chunk(call(None, None, "f"))), *reader.feed(chunk(call(None, None, None, "{}")))]
    assert told == [ToolBegan(0, "call_0", "f"), ToolArguments(0, "{}")]
    message = {"role": "assistant", "content": None, **call(0, None, "f")}
    body = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    assert answer(msgspec.json.encode(body)) == Answer(
        parts=(ToolUse("call_0", "f", "{}"),), finish_reason="tool_calls"
    )


def test_the_end_is_told_once_and_an_empty_reason_is_none() -> None:
    reader = Reader()
    assert reader.feed(chunk({"content": "a"}, "")) == [TextDelta("a")]
    assert reader.feed(chunk({}, "length")) == [Ended("length")]
    assert reader.feed(chunk({}, "length", usage={"prompt_tokens": 1})) == [UsageSeen(Usage(1))]
    assert reader.feed(b"[DONE]") == ()


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("stop", "stop"),
        ("length", "length"),
        ("model_length", "length"),
        ("insufficient_system_resource", "length"),
        ("tool_calls", "tool_calls"),
        ("function_call", "tool_calls"),
        ("content_filter", "content_filter"),
        ("eos", "stop"),
        (None, "stop"),
    ],
)
def test_finish_reasons(said: str | None, reason: str) -> None:
    body = {"choices": [{"message": {"content": "x"}, "finish_reason": said}]}
    assert answer(msgspec.json.encode(body)).finish_reason == reason


def test_only_the_first_choice_is_told() -> None:
    choices = [{"index": 1, "delta": {"content": "b"}}, {"index": 0, "delta": {"content": "a"}}]
    assert Reader().feed(msgspec.json.encode({"choices": choices})) == [TextDelta("a")]


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_thoughts_and_refusals_are_told(name: str) -> None:
    assert Reader().feed(chunk({name: "hm", "refusal": "no"})) == [ReasoningDelta("hm"), RefusalDelta("no")]
    body = {"choices": [{"message": {name: "hm", "refusal": "no"}, "finish_reason": "stop"}]}
    assert answer(msgspec.json.encode(body)).parts == (Reasoning("hm"), Refusal("no"))


@pytest.mark.parametrize(
    ("usage", "counted"),
    [
        ({"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14}, Usage(9, 5)),
        (
            {"prompt_tokens": 9, "completion_tokens": 5, "completion_tokens_details": {"reasoning_tokens": 3}},
            Usage(9, 5, 0, 3),
        ),
        (
            {
                "prompt_tokens": 9,
                "completion_tokens": 5,
                "total_tokens": 17,
                "completion_tokens_details": {"reasoning_tokens": 3},
            },
            Usage(9, 8, 0, 3),
        ),
        ({"prompt_tokens": -9, "completion_tokens": None, "prompt_tokens_details": {"cached_tokens": 5}}, Usage()),
    ],
)
def test_usage_counts_thoughts_as_output_and_nothing_below_nothing(usage: dict[str, Any], counted: Usage) -> None:
    assert Reader().feed(msgspec.json.encode({"choices": [], "usage": usage})) == [UsageSeen(counted)]


# --- answers, written -------------------------------------------------------------------------------------------------


def test_a_refusal_has_no_content_and_an_empty_answer_an_empty_one() -> None:
    refused = json.loads(reply(Answer(parts=(Refusal("no"),), finish_reason="stop"), HEAD))["choices"][0]["message"]
    assert refused == {"role": "assistant", "content": None, "refusal": "no"}
    thought = json.loads(reply(Answer(parts=(Reasoning("hm"),), finish_reason="length"), HEAD))["choices"][0]["message"]
    assert thought == {"role": "assistant", "content": "", "refusal": None, "reasoning_content": "hm"}
    assert "usage" not in json.loads(reply(Answer(parts=(), finish_reason="stop"), HEAD))


def test_the_role_comes_first_and_the_counts_last_if_asked_for() -> None:
    deltas: list[Delta] = [UsageSeen(Usage(3, 1)), ReasoningDelta("", "proof"), TextDelta("a"), Ended("stop")]
    for include_usage in (True, False):
        writer = Writer(HEAD, include_usage)
        events = SseParser().feed(writer.feed(deltas) + writer.end())
        assert events[-1] == b"[DONE]"
        first, last, *counts = [json.loads(event) for event in events[:-1]]
        assert first["choices"][0]["delta"] == {"role": "assistant", "content": "a"}
        assert last["choices"][0] == {"index": 0, "delta": {}, "finish_reason": "stop"}
        assert [(count["choices"], count["usage"]["prompt_tokens"]) for count in counts] == [([], 3)] * include_usage


@pytest.mark.parametrize(("deltas", "reason"), [([], "stop"), ([ToolBegan(0, "a", "f")], "tool_calls")])
def test_an_end_that_nobody_told_is_told(deltas: list[Delta], reason: str) -> None:
    writer = Writer(HEAD, False)
    *_, last, done = SseParser().feed(writer.feed(deltas) + writer.end())
    assert json.loads(last)["choices"][0]["finish_reason"] == reason and done == b"[DONE]"
