from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from model_gateway.domain.chat import ChatChunk, ChatRequest
from model_gateway.domain.errors import (
    InvalidRequest,
    StreamBroken,
    UpstreamProtocolError,
    UpstreamStatusError,
)
from model_gateway.domain.usage import Usage
from model_gateway.providers.anthropic import AnthropicAdapter
from model_gateway.wire import openai

START = b'{"type":"message_start","message":{"content":[],"usage":{"input_tokens":5,"output_tokens":1}}}'
TEXT = b'{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}'


def native(stream: bool = False, **said: Any) -> ChatRequest:
    body = {"model": "auto", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}], **said}
    fields = msgspec.json.decode(msgspec.json.encode(body), type=dict[str, msgspec.Raw])
    return ChatRequest(request_id="r", model="auto", messages=[], body=fields, protocol="anthropic", stream=stream)


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
        b'{"content":' + b"[" * 1_000_000,
        b'{"content":[{"type":"tool_use","name":"f","input":' + b'{"a":' * 1_000_000 + b"1" + b"}" * 1_000_000 + b"}]}",
    ],
)
def test_a_reply_that_is_none_is_an_error(body: bytes) -> None:
    with pytest.raises(UpstreamProtocolError):
        AnthropicAdapter().decode(body)


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
        ([START, b'{"type":"content_block_start","index":' + b"[" * 1_000_000], UpstreamProtocolError),
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
