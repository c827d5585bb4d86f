"""Gemini's requests and answers, as conversations and back."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given

from conversations import answers, conversations
from model_gateway.domain.conversation import (
    Answer,
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
from model_gateway.domain.errors import InvalidRequest, UpstreamProtocolError
from model_gateway.wire import gemini, gemini_answer, gemini_conversation, gemini_request
from model_gateway.wire.protocol import Head
from model_gateway.wire.sse import SseParser

HEAD = Head("r", "m", 0)


def read(**body: Any) -> Conversation:
    fields = msgspec.json.decode(msgspec.json.encode(body), type=dict[str, msgspec.Raw])
    return gemini_conversation.conversation(fields)


def native(**body: Any) -> list[str]:
    return gemini_conversation.native_fields(
        msgspec.json.decode(msgspec.json.encode(body), type=dict[str, msgspec.Raw])
    )


def user(*parts: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"role": "user", "parts": list(parts)}]


def portable(conversation: Conversation) -> Conversation:
    """What of it this schema keeps: no thoughts of earlier turns, no `user`. Results are tested apart."""
    turns: list[Turn] = []
    for turn in conversation.turns:
        parts = [part for part in turn.parts if not isinstance(part, Reasoning | ToolResult)]
        turns.append(Turn(turn.role, tuple(map(_portable, parts))))
    return msgspec.structs.replace(
        conversation,
        turns=tuple(turns),
        user="",
        parallel_tool_calls=None,
        tools=tuple(msgspec.structs.replace(tool, strict=None) for tool in conversation.tools),
    )


def _portable(part: Part) -> Part:
    """A file has no name, and an address needs its type."""
    if not isinstance(part, Media):
        return part
    return msgspec.structs.replace(part, name="", mime="image/png" if part.url else part.mime)


@given(conversations())
def test_a_conversation_comes_back_as_it_went(said: Conversation) -> None:
    said = portable(said)
    body = msgspec.json.encode(gemini_request.request(said, "gemini-2.5-flash", stream=False))
    assert gemini.decode_generate(body)[0].contents
    fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    assert gemini_conversation.native_fields(fields) == []
    back = gemini_conversation.conversation(fields)
    choice = None if back.tool_choice is None and said.tool_choice == ToolChoice("auto") else said.tool_choice
    assert back == msgspec.structs.replace(said, tool_choice=choice)


@given(answers())
def test_an_answer_comes_back_as_it_went(said: Answer) -> None:
    parts = tuple(part for part in said.parts if not (isinstance(part, Reasoning) and not part.text))
    parts = tuple(Reasoning(part.text) if isinstance(part, Reasoning) else part for part in parts)
    said = msgspec.structs.replace(said, parts=parts)
    assert gemini_answer.answer(gemini_answer.reply(said, HEAD)) == said


@given(answers())
def test_a_stream_tells_what_the_whole_answer_says(said: Answer) -> None:
    writer, reader = gemini_answer.Writer(HEAD, True), gemini_answer.Reader()
    stream = writer.feed(said.deltas())
    assert b"finishReason" not in stream, "that is said at the end alone"
    events = SseParser().feed(stream + writer.end({"cost": 1}))
    assert [b"finishReason" in event for event in events] == [False] * (len(events) - 1) + [True]
    assert json.loads(events[-1])["gateway"] == {"cost": 1}
    told = [delta for event in events for delta in reader.feed(event)]
    whole = gemini_answer.Reader().feed(gemini_answer.reply(said, HEAD))
    assert [delta for delta in told if delta] == list(whole)


def test_calls_get_ids_and_results_find_them() -> None:
    call = {"functionCall": {"name": "f", "args": {"x": 1}}}
    result = {"functionResponse": {"name": "f", "response": {"output": "one"}}}
    failed = {"functionResponse": {"name": "f", "response": {"error": "no"}}}
    read_back = read(contents=[*user({"text": "go"}), {"role": "model", "parts": [call, call]}, *user(result, failed)])
    calls = [part for part in read_back.turns[1].parts if isinstance(part, ToolUse)]
    assert [part.id for part in calls] == ["call_0", "call_1"] and calls[0].arguments == '{"x":1}'
    assert read_back.turns[2].parts == (
        ToolResult("call_0", (Text("one"),), "f"),
        ToolResult("call_1", (Text("no"),), "f", is_error=True),
    )
    with pytest.raises(InvalidRequest, match=r"contents\[0\].parts\[0\].functionResponse"):
        read(contents=user(result))


def test_its_own_schemas_become_everybodys() -> None:
    schema = {
        "type": "OBJECT",
        "properties": {
            "mood": {"type": "STRING", "format": "enum", "enum": ["a"], "nullable": True},
            "type": {"type": "ARRAY", "items": {"type": "INTEGER"}, "maxItems": "3"},
            "either": {"anyOf": [{"type": "STRING"}, {"type": "NUMBER"}], "nullable": True},
        },
        "propertyOrdering": ["mood", "type"],
    }
    plain = {
        "type": "object",
        "properties": {
            "mood": {"type": ["string", "null"], "enum": ["a", None]},
            "type": {"type": "array", "items": {"type": "integer"}, "maxItems": 3},
            "either": {"anyOf": [{"type": "string"}, {"type": "number"}, {"type": "null"}]},
        },
    }
    config = {"responseMimeType": "application/json", "responseSchema": schema}
    said = read(
        contents=user({"text": "go"}),
        tools=[{"functionDeclarations": [{"name": "f", "parameters": schema}]}],
        generationConfig=config,
    )
    assert json.loads(bytes(said.tools[0].parameters)) == plain
    assert said.response_format is not None and json.loads(bytes(said.response_format.schema)) == plain


def test_both_spellings() -> None:
    body = {
        "system_instruction": {"parts": [{"text": "Be brief."}]},
        "contents": user({"inline_data": {"mime_type": "image/png", "data": "AAAA"}}),
        "generation_config": {
            "max_output_tokens": 5,
            "stop_sequences": ["x"],
            "thinking_config": {"thinking_budget": -1},
        },
        "tools": [{"function_declarations": [{"name": "f", "parameters": {"properties": {"my_name": {}}}}]}],
    }
    seen, fields = gemini.decode_generate(msgspec.json.encode(body))
    said = gemini_conversation.conversation(fields)
    assert seen.max_tokens() == said.max_tokens == 5
    assert said.turns == (
        Turn("system", (Text("Be brief."),)),
        Turn("user", (Media("image", mime="image/png", data="AAAA"),)),
    )
    assert (said.stop, said.reasoning_budget) == (("x",), None)
    assert json.loads(bytes(said.tools[0].parameters)) == {"properties": {"my_name": {}}}


@pytest.mark.parametrize(
    ("more", "names"),
    [
        ({"safetySettings": [{"category": "x"}]}, ["safetySettings"]),
        ({"cachedContent": "c"}, ["cachedContent"]),
        ({"tools": [{"googleSearch": {}}]}, ["tools.googleSearch"]),
        ({"generationConfig": {"candidateCount": 2}}, ["generationConfig.candidateCount"]),
        ({"generationConfig": {"speechConfig": {"x": 1}}}, ["generationConfig.speechConfig"]),
        ({"generationConfig": {"responseModalities": ["IMAGE"]}}, ["generationConfig.responseModalities"]),
        ({"generationConfig": {"responseMimeType": "text/x.enum"}}, ["generationConfig.responseMimeType"]),
        ({"generationConfig": {"candidateCount": 1, "responseModalities": ["TEXT"]}}, []),
        (
            {"toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["a", "b"]}}},
            ["toolConfig.functionCallingConfig.allowedFunctionNames"],
        ),
        ({"contents": user({"executableCode": {"code": "1"}})}, ["contents.parts.executableCode"]),
        (
            {"contents": user({"fileData": {"fileUri": "https://generativelanguage.googleapis.com/v1beta/files/1"}})},
            ["contents.parts.fileData.fileUri"],
        ),
        ({"contents": user({"inlineData": {"mimeType": "video/mp4"}})}, ["contents.parts.inlineData.mimeType"]),
        ({"model": "models/x"}, []),
    ],
)
def test_what_only_this_schema_can_say(more: dict[str, Any], names: list[str]) -> None:
    assert native(**{"contents": user({"text": "hi"}), **more}) == names


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"contents": 5}, "contents"),
        ({"contents": [{"role": "system", "parts": []}]}, "contents[0].role"),
        ({"contents": user({"functionCall": {"name": "f", "args": [1]}})}, "contents[0].parts[0].functionCall.args"),
        ({"toolConfig": {"functionCallingConfig": {"mode": "SOME"}}}, "toolConfig.functionCallingConfig.mode"),
        ({"generationConfig": {"temperature": "hot"}}, "generationConfig.temperature"),
        (
            {"generationConfig": {"thinkingConfig": {"thinkingLevel": "WILD"}}},
            "generationConfig.thinkingConfig.thinkingLevel",
        ),
        (
            {"tools": [{"functionDeclarations": [{"name": "f", "parameters": [1]}]}]},
            "tools.functionDeclarations[0].parameters",
        ),
    ],
)
def test_what_is_wrong_is_named(more: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read(**{"contents": user({"text": "hi"}), **more})
    assert caught.value.param == param


def test_choices_and_levels() -> None:
    calling = {"mode": "ANY", "allowedFunctionNames": ["f"]}
    config = {"thinkingConfig": {"thinkingLevel": "LOW"}, "responseMimeType": "application/json", "topK": 40.0}
    said = read(contents=user({"text": "hi"}), toolConfig={"functionCallingConfig": calling}, generationConfig=config)
    assert said.tool_choice == ToolChoice("named", "f")
    assert (said.reasoning_effort, said.response_format, said.top_k) == ("low", ResponseFormat("json"), 40)
    validated = read(
        contents=user({"text": "hi"}),
        tools=[{"functionDeclarations": [{"name": "f"}]}],
        toolConfig={"functionCallingConfig": {"mode": "VALIDATED"}},
    )
    assert validated.tools == (Tool("f", strict=True),) and validated.tool_choice is None


def test_arguments_that_are_no_object_are_the_providers_fault() -> None:
    called = Answer(parts=(ToolUse("a", "f", "[1"),), finish_reason="tool_calls")
    with pytest.raises(UpstreamProtocolError, match="called f"):
        gemini_answer.reply(called, HEAD)
    with pytest.raises(UpstreamProtocolError, match="called f"):
        gemini_answer.Writer(HEAD, True).feed(called.deltas())
    cut = msgspec.structs.replace(called, finish_reason="length")
    assert json.loads(gemini_answer.reply(cut, HEAD))["candidates"][0]["finishReason"] == "MAX_TOKENS"
