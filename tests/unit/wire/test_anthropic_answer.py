from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conversations import answers
from model_gateway.domain.conversation import (
    Answer,
    Delta,
    Ended,
    Reasoning,
    Refusal,
    RefusalDelta,
    Text,
    TextDelta,
    ToolArguments,
    ToolBegan,
    ToolUse,
    UsageSeen,
)
from model_gateway.domain.errors import UpstreamProtocolError
from model_gateway.domain.usage import Usage
from model_gateway.wire.anthropic_answer import Reader, Writer, answer, reply
from model_gateway.wire.protocol import Head
from model_gateway.wire.sse import SseParser
from told import collected, put_together
from upstream import fixture

HEAD = Head("msg_1", "claude", 1_700_000_000)


def events(stream: bytes) -> list[dict[str, Any]]:
    """All events, checked: each names its type twice, blocks are numbered and end before the next begins."""
    found: list[dict[str, Any]] = []
    for event in stream.split(b"\n\n")[:-1]:
        first, second = event.split(b"\n")
        decoded = json.loads(second.removeprefix(b"data: "))
        assert first == b"event: " + decoded["type"].encode()
        found.append(decoded)
    opened = -1
    is_open = False
    for event in found:
        kind = event["type"]
        if kind == "content_block_start":
            assert not is_open and event["index"] == opened + 1
            opened, is_open = opened + 1, True
        elif kind.startswith("content_block"):
            assert is_open and event["index"] == opened
            is_open = kind != "content_block_stop"
    assert not is_open
    assert [e["type"] for e in found[:1] + found[-2:]] == ["message_start", "message_delta", "message_stop"]
    return found


@given(answers())
@settings(max_examples=80, deadline=None)
def test_an_answer_survives_the_schema(said: Answer) -> None:
    assert answer(reply(said, HEAD)) == said


@given(answers(), st.integers(1, 5))
@settings(max_examples=80, deadline=None)
def test_a_streamed_answer_survives_the_schema(said: Answer, step: int) -> None:
    writer, deltas = Writer(HEAD, False), said.deltas()
    stream = b"".join(writer.feed(deltas[at : at + step]) for at in range(0, len(deltas), step)) + writer.end()
    events(stream)
    assert put_together(stream, Reader()) == said


def test_thoughts_keep_their_signatures_in_a_stream() -> None:
    told = put_together(fixture("thinking_stream.sse", "anthropic"), Reader())
    signed, redacted, text = told.parts
    assert isinstance(signed, Reasoning) and signed.text.startswith("27 times 453") and signed.signature.endswith("==")
    assert isinstance(redacted, Reasoning) and redacted.redacted.startswith("EmwK")
    assert text == Text("27 × 453 = 12231")
    assert told.usage == Usage(38, 86, 0, 52)
    writer = Writer(HEAD, False)
    again = writer.feed(told.deltas()) + writer.end()
    events(again)
    assert put_together(again, Reader()) == told


def test_calls_that_interleave_are_told_one_after_the_other() -> None:
    writer = Writer(HEAD, False)
    live = writer.feed(
        [
            TextDelta("ok"),
            ToolBegan(0, "a", "f"),
            ToolBegan(1, "b", "g"),
            ToolArguments(1, '{"y"'),
            ToolArguments(0, '{"x":'),
        ]
    )
    assert live.endswith(b'"delta":{"type":"input_json_delta","partial_json":"{\\"x\\":"}}\n\n')
    rest = writer.feed([TextDelta("late"), ToolArguments(1, ":2}"), ToolArguments(0, "1}"), Ended("tool_calls")])
    found = events(live + rest + writer.end())
    blocks = [event["content_block"]["type"] for event in found if event["type"] == "content_block_start"]
    assert blocks == ["text", "tool_use", "tool_use", "text"]
    told = put_together(live + rest + writer.end(), Reader())
    assert told.parts == (Text("ok"), ToolUse("a", "f", '{"x":1}'), ToolUse("b", "g", '{"y":2}'), Text("late"))


def test_a_call_without_arguments_has_an_empty_object() -> None:
    writer = Writer(HEAD, False)
    stream = writer.feed([ToolBegan(0, "a", "f"), ToolBegan(1, "b", "g"), Ended("tool_calls")]) + writer.end()
    assert put_together(stream, Reader()).parts == (ToolUse("a", "f", "{}"), ToolUse("b", "g", "{}"))


def test_an_empty_stream_is_a_message_with_zeros() -> None:
    start, ended, _ = events(Writer(HEAD, False).end())
    assert start["message"]["content"] == [] and start["message"]["usage"]["input_tokens"] == 0
    assert ended["delta"] == {"stop_reason": "end_turn", "stop_sequence": None}
    assert ended["usage"]["output_tokens"] == 0


def test_our_own_words_come_before_the_end() -> None:
    writer = Writer(HEAD, False)
    stream = writer.feed([TextDelta("x"), Ended("stop", "END"), UsageSeen(Usage(5, 1, 2))]) + writer.end({"tier": "a"})
    *_, ended, ours, last = [json.loads(event) for event in SseParser().feed(stream)]
    assert ended["delta"] == {"stop_reason": "stop_sequence", "stop_sequence": "END"}
    assert (ended["usage"]["input_tokens"], ended["usage"]["cache_read_input_tokens"]) == (3, 2)
    assert ours == {"type": "gateway", "gateway": {"tier": "a"}}
    assert last == {"type": "message_stop"}


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("pause_turn", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
        ("something_new", "stop"),
        (None, "stop"),
    ],
)
def test_stop_reasons(said: str | None, reason: str) -> None:
    body = msgspec.json.encode({"content": [{"type": "text", "text": "x"}], "stop_reason": said})
    assert answer(body).finish_reason == reason


def test_a_refusal_says_why() -> None:
    details = {"type": "refusal", "category": None, "explanation": "not this"}
    body = {"content": [], "stop_reason": "refusal", "stop_details": details}
    assert answer(msgspec.json.encode(body)).parts == (Refusal("not this"),)
    delta = {"type": "message_delta", "delta": {"stop_reason": "refusal", "stop_details": details}, "usage": {}}
    told = Reader().feed(msgspec.json.encode(delta))
    assert told == [UsageSeen(Usage()), RefusalDelta("not this"), Ended("content_filter")]
    refused = Answer(parts=(Refusal("no"),), finish_reason="stop")
    whole = json.loads(reply(refused, HEAD))
    assert whole["stop_reason"] == "refusal" and whole["content"] == [{"type": "text", "text": "no"}]
    writer = Writer(HEAD, False)
    stream = events(writer.feed(refused.deltas()) + writer.end())
    assert stream[-2]["delta"]["stop_reason"] == "refusal"


def test_missing_and_negative_counts_are_nothing() -> None:
    body = b'{"content":[],"usage":{"input_tokens":-5,"output_tokens":null,"cache_read_input_tokens":3}}'
    assert answer(body).usage == Usage(3, 0, 3)


def test_arguments_that_are_no_object_end_in_a_plain_error() -> None:
    cut = Answer(parts=(ToolUse("a", "f", '{"x":'),), finish_reason="length")
    assert json.loads(reply(cut, HEAD))["content"][0]["input"] == {}
    with pytest.raises(UpstreamProtocolError):
        reply(Answer(parts=(ToolUse("a", "f", "[]"),), finish_reason="tool_calls"), HEAD)


def test_blocks_that_begin_with_something_lose_nothing() -> None:
    reader = Reader()
    starts: list[dict[str, Any]] = [
        {"type": "text", "text": "a"},
        {"type": "thinking", "thinking": "b", "signature": ""},
        {"type": "tool_use", "id": "t", "name": "f", "input": {"x": 1}},
        {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}},
    ]
    deltas: list[Delta] = []
    for index, block in enumerate(starts):
        event = {"type": "content_block_start", "index": index, "content_block": block}
        deltas += reader.feed(msgspec.json.encode(event))
        deltas += reader.feed(msgspec.json.encode({"type": "content_block_stop", "index": index}))
    hidden = {"type": "content_block_delta", "index": 3, "delta": {"type": "input_json_delta", "partial_json": "{"}}
    deltas += reader.feed(msgspec.json.encode(hidden))
    assert collected(deltas).parts == (Text("a"), Reasoning("b"), ToolUse("t", "f", '{"x":1}'))
