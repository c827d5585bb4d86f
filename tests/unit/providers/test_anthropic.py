from __future__ import annotations

import json
import re
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_gateway.domain.chat import ChatChunk, ChatRequest
from model_gateway.domain.errors import (
    InvalidRequest,
    StreamBroken,
    UpstreamError,
    UpstreamProtocolError,
    UpstreamStatusError,
)
from model_gateway.domain.usage import Usage
from model_gateway.providers.anthropic import AnthropicAdapter
from model_gateway.wire import openai, openai_answer
from model_gateway.wire.anthropic_answer import Reader, answer
from model_gateway.wire.protocol import Head
from model_gateway.wire.sse import SseParser
from upstream import fixture as recorded

HEAD = Head("r", "m", 0)
START = b'{"type":"message_start","message":{"content":[],"usage":{"input_tokens":5,"output_tokens":1}}}'
TEXT = b'{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}'


def fixture(name: str) -> bytes:
    return recorded(name, "anthropic")


def native(stream: bool = False, **said: Any) -> ChatRequest:
    body = {"model": "auto", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}], **said}
    fields = msgspec.json.decode(msgspec.json.encode(body), type=dict[str, msgspec.Raw])
    return ChatRequest(request_id="r", model="auto", messages=[], body=fields, protocol="anthropic", stream=stream)


def read(stream: bytes) -> list[ChatChunk]:
    decoder = AnthropicAdapter().stream_decoder()
    chunks = [chunk for event in SseParser().feed(stream) if (chunk := decoder.feed(event))]
    decoder.finish()
    assert decoder.done
    return chunks


def test_a_body_of_this_schema_goes_up_with_only_the_model_changed() -> None:
    said: dict[str, Any] = {"mcp_servers": [{"name": "x"}], "thinking": {"type": "adaptive"}, "stream": False}
    wired = AnthropicAdapter().encode(native(**said), "claude-x")
    assert wired.path == "/messages"
    assert json.loads(wired.body) == {
        "model": "claude-x",
        "max_tokens": 5,
        "messages": [{"role": "user", "content": "hi"}],
        "mcp_servers": [{"name": "x"}],
        "thinking": {"type": "adaptive"},
    }
    assert json.loads(AnthropicAdapter().encode(native(stream=True), "m").body)["stream"] is True


def test_what_a_caller_wants_to_try_is_a_header() -> None:
    wired = AnthropicAdapter().encode(native(anthropic_beta=["a-2025-01-01", "b.c"]), "m")
    assert wired.headers == b"anthropic-beta: a-2025-01-01,b.c\r\n" and b"beta" not in wired.body
    assert AnthropicAdapter().encode(native(), "m").headers == b""
    for bad in ("text", [5], ["a\r\nx-evil: 1"], [""]):
        with pytest.raises(InvalidRequest) as caught:
            AnthropicAdapter().encode(native(anthropic_beta=bad), "m")
        assert caught.value.param == "anthropic_beta"


def test_thoughts_that_nobody_signed_stay_here() -> None:
    """We make them up ourselves, where a model of another schema thought aloud."""
    unsigned = {"type": "thinking", "thinking": "hm", "signature": ""}
    signed = {"type": "thinking", "thinking": "hm", "signature": "s"}
    text = {"type": "text", "text": 'say "signature": ""'}
    turns = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": [unsigned, signed, text]},
        {"role": "assistant", "content": [unsigned]},
    ]
    sent = json.loads(AnthropicAdapter().encode(native(messages=turns), "m").body)["messages"]
    assert sent == [turns[0], {"role": "assistant", "content": [signed, text]}]


def test_a_body_of_another_schema_is_translated() -> None:
    body = (
        b'{"model":"auto","messages":[{"role":"system","content":"be kind"},{"role":"user","content":['
        b'{"type":"text","text":"what is it?"},'
        b'{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}}]}],'
        b'"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object"}}}],"stream":true}'
    )
    chat, fields = openai.decode_chat(body)
    request = ChatRequest(request_id="r", model="auto", messages=chat.messages, body=fields, stream=True)
    assert json.loads(AnthropicAdapter().encode(request, "claude-x").body) == {
        "model": "claude-x",
        "max_tokens": 4096,
        "system": "be kind",
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "what is it?"},
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
                ],
            }
        ],
        "tools": [{"name": "f", "input_schema": {"type": "object"}}],
        "stream": True,
    }
    with pytest.raises(InvalidRequest):
        AnthropicAdapter().encode(msgspec.structs.replace(request, embeds=True), "claude-x")
    with pytest.raises(InvalidRequest):
        chat, fields = openai.decode_chat(body[:-1] + b',"seed":1}')
        AnthropicAdapter().encode(msgspec.structs.replace(request, body=fields), "claude-x")


def test_replies_are_read() -> None:
    reply = AnthropicAdapter().decode(fixture("reply.json"))
    assert reply.text.startswith("A black hole is a region")
    assert (reply.finish_reason, reply.model, reply.protocol) == ("stop", "claude-sonnet-4-5-20250929", "anthropic")
    assert reply.usage == Usage(2069, 19, 2048)
    assert AnthropicAdapter().decode(fixture("tools_reply.json")).finish_reason == "tool_calls"
    assert json.loads(AnthropicAdapter().decode(fixture("schema_reply.json")).text)["born"] == 1815


def test_counts_are_never_negative() -> None:
    usage = b'{"input_tokens":-1,"output_tokens":7,"output_tokens_details":{"thinking_tokens":-2}}'
    body = b'{"content":[],"stop_reason":"end_turn","usage":%s}' % usage
    assert AnthropicAdapter().decode(body).usage == Usage(0, 7)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"<html>",
        b"[]",
        b"{}",
        b"null",
        b'{"content":null}',
        b'{"content":"text"}',
        b'{"content":[null]}',
        b'{"content":[{"text":"x"}]}',
        b'{"content":[{"type":"text","text":5}]}',
        b'{"content":[{"type":"text","text":"\xff"}]}',
        b'{"content":[{"type":"tool_use","id":"a","name":"f","input":[]}]}',
        b'{"content":[{"type":"tool_use","id":"a","name":"f","input":null}]}',
        b'{"content":[{"type":"tool_use","id":"a","name":"f","input":{"x":"\xff"}}]}',
        b'{"content":[{"type":"tool_use","id":"a","input":{}}]}',
        b'{"content":[],"usage":{"input_tokens":1e400}}',
        b'{"content":[],"usage":[]}',
        b'{"type":"error","error":{"type":"api_error","message":"x"}}',
        b'{"content":' + b"[" * 100_000,
        b'{"content":[{"type":"tool_use","name":"f","input":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}]}",
    ],
)
def test_a_reply_that_is_none_is_an_error(body: bytes) -> None:
    with pytest.raises(UpstreamProtocolError):
        AnthropicAdapter().decode(body)


@pytest.mark.parametrize(
    ("status", "headers", "body", "retryable", "retry_after", "words"),
    [
        (400, {}, fixture("error_400.json"), False, None, "maximum allowed number of output tokens"),
        (429, {"retry-after": "7"}, fixture("error_429.json"), True, 7.0, "rate limit"),
        (529, {}, fixture("error_529.json"), True, None, "529: Overloaded"),
        (401, {}, b'{"type":"error","error":{"message":"sk-ant-1"}}', False, None, "the gateway's key was refused"),
        (403, {}, b"", False, None, "the gateway's key was refused"),
        (413, {}, b"<html>too large</html>", False, None, "413: no explanation"),
        (500, {}, b'{"error":null}', True, None, "500: no explanation"),
        (503, {"retry-after": "soon"}, b'{"error":{"type":1}}', True, None, "503"),
        (404, {}, b"[" * 100_000, False, None, "404"),
    ],
)
def test_errors_are_classified_by_status(
    status: int, headers: dict[str, str], body: bytes, retryable: bool, retry_after: float | None, words: str
) -> None:
    error = AnthropicAdapter().decode_error(status, headers, body)
    assert (error.status, error.retryable, error.retry_after_s) == (status, retryable, retry_after)
    assert words in error.message and "sk-ant" not in error.message
    assert error.logged == f"the provider answered {status}"


def test_streams_are_read_to_their_end() -> None:
    chunks = read(fixture("stream.sse"))
    assert "".join(chunk.text for chunk in chunks) == AnthropicAdapter().decode(fixture("reply.json")).text
    assert all(chunk.plain for chunk in chunks)
    assert chunks[0].usage == Usage(2069, 1, 2048)
    assert (chunks[-1].finish_reason, chunks[-1].usage) == ("stop", Usage(2069, 19, 2048))


@pytest.mark.parametrize("name", ["tools_stream.sse", "thinking_stream.sse"])
def test_streams_with_more_than_text_are_not_plain(name: str) -> None:
    assert not all(chunk.plain for chunk in read(fixture(name)))


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_a_stream_may_be_split_anywhere(data: st.DataObject) -> None:
    stream = fixture(data.draw(st.sampled_from(["stream.sse", "tools_stream.sse", "thinking_stream.sse"])))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    parser, decoder = SseParser(), AnthropicAdapter().stream_decoder()
    chunks: list[ChatChunk] = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        chunks += [chunk for event in parser.feed(stream[start:end]) if (chunk := decoder.feed(event))]
    decoder.finish()
    assert chunks == read(stream)


@pytest.mark.parametrize("name", ["stream.sse", "tools_stream.sse", "thinking_stream.sse"])
def test_a_stream_cut_anywhere_is_broken(name: str) -> None:
    stream = fixture(name)
    for kept in range(0, len(stream) - 1, 7):
        decoder = AnthropicAdapter().stream_decoder()
        for event in SseParser().feed(stream[:kept]):
            decoder.feed(event)
        with pytest.raises(StreamBroken):
            decoder.finish()


@pytest.mark.parametrize(
    ("events", "kind"),
    [
        ([b"{"], UpstreamProtocolError),
        ([b"[DONE]"], UpstreamProtocolError),
        ([b"null"], UpstreamProtocolError),
        ([b"{}"], UpstreamProtocolError),
        ([b'{"type":5}'], UpstreamProtocolError),
        ([b'{"type":"message_stop"}'], UpstreamProtocolError),
        ([b'{"type":"message_start"}'], UpstreamProtocolError),
        ([b'{"type":"message_start","message":{}}'], UpstreamProtocolError),
        ([TEXT], UpstreamProtocolError),
        ([START, b'{"type":"content_block_start","index":0}'], UpstreamProtocolError),
        ([START, b'{"type":"content_block_start","content_block":{"type":"text"}}'], UpstreamProtocolError),
        ([START, b'{"type":"content_block_delta","index":1,"delta":{"type":"text_delta"}}'], UpstreamProtocolError),
        ([START, TEXT, b'{"type":"content_block_delta","index":0}'], UpstreamProtocolError),
        ([START, TEXT, b'{"type":"content_block_delta","index":0,"delta":{"text":[]}}'], UpstreamProtocolError),
        ([START, b'{"type":"content_block_stop","index":3}'], UpstreamProtocolError),
        ([START, b'{"type":"message_delta"}'], UpstreamProtocolError),
        ([START, b'{"type":"message_delta","delta":{},"usage":{"output_tokens":"x"}}'], UpstreamProtocolError),
        (
            [START, b'{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"a"}}'],
            UpstreamProtocolError,
        ),
        ([START, b'{"type":"content_block_start","index":' + b"[" * 100_000], UpstreamProtocolError),
    ],
)
def test_a_hostile_stream_is_a_protocol_error(events: list[bytes], kind: type[Exception]) -> None:
    decoder = AnthropicAdapter().stream_decoder()
    for event in events[:-1]:
        decoder.feed(event)
    with pytest.raises(kind):
        decoder.feed(events[-1])
    with pytest.raises(StreamBroken):
        decoder.finish()


_ODD = st.sampled_from(
    [
        b"null",
        b"-1",
        b"1e400",
        b'""',
        b"[]",
        b"{}",
        b'"\\ud83d"',
        b"true",
        b"[[[]]]",
        b'"\xff"',
        b"",
        b"99999999999999999999",
    ]
)


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_whatever_is_sent_is_read_or_is_a_providers_error(data: st.DataObject) -> None:
    """What the adapter lets pass, the translations can read."""
    name = data.draw(st.sampled_from(["tools_stream.sse", "thinking_stream.sse", "tools_reply.json"]))
    body = fixture(name)
    for _ in range(data.draw(st.integers(1, 2))):
        values = list(re.finditer(rb':\s*("[^"]*"|\d+|\{\}|\[\]|null)', body))
        value = data.draw(st.sampled_from(values))
        body = body[: value.start(1)] + data.draw(_ODD) + body[value.end(1) :]
    try:
        if name.endswith("json"):
            openai_answer.reply(answer(AnthropicAdapter().decode(body).body), HEAD)
            return
        decoder, reader, writer = AnthropicAdapter().stream_decoder(), Reader(), openai_answer.Writer(HEAD, True)
        for event in SseParser().feed(body):
            chunk = decoder.feed(event)
            if chunk is not None:
                writer.feed(reader.feed(chunk.data))
        decoder.finish()
        writer.end()
    except UpstreamError:
        pass


@pytest.mark.parametrize(
    ("error", "status", "retryable"),
    [
        (b'{"type":"overloaded_error","message":"Overloaded"}', 529, True),
        (b'{"type":"rate_limit_error","message":"slow"}', 429, True),
        (b'{"type":"invalid_request_error","message":"no"}', 400, False),
        (b'{"type":"new_error","message":"?"}', 500, True),
        (b"null", 500, True),
    ],
)
def test_an_error_inside_a_stream_has_the_status_its_type_means(error: bytes, status: int, retryable: bool) -> None:
    decoder = AnthropicAdapter().stream_decoder()
    decoder.feed(START)
    with pytest.raises(UpstreamStatusError) as caught:
        decoder.feed(b'{"type":"error","error":' + error + b"}")
    assert (caught.value.status, caught.value.retryable) == (status, retryable)
    assert caught.value.logged == "the provider reported an error inside the stream"


def test_what_is_not_known_yet_is_passed_on() -> None:
    decoder = AnthropicAdapter().stream_decoder()
    assert decoder.feed(b'{"type":"ping"}') is None
    decoder.feed(START)
    event = b'{"type":"something_new","content":5}'
    assert decoder.feed(event) == ChatChunk(data=event, plain=False)
    text = decoder.feed(TEXT)
    assert text is not None and text.plain
    cited = b'{"type":"content_block_delta","index":0,"delta":{"type":"citations_delta","citation":{}}}'
    assert decoder.feed(cited) == ChatChunk(data=cited, plain=False)
