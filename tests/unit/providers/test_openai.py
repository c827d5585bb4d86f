from __future__ import annotations

import json

import msgspec
import pytest

from model_gateway.domain.chat import ChatRequest
from model_gateway.domain.errors import StreamBroken, UpstreamProtocolError, UpstreamStatusError
from model_gateway.domain.usage import Usage
from model_gateway.providers.openai import OpenAIAdapter
from model_gateway.wire import openai as wire


def request(body: bytes, *, stream: bool = False) -> ChatRequest:
    read, fields = wire.decode_chat(body)
    return ChatRequest(request_id="r", model=read.model, messages=read.messages, body=fields, stream=stream)


BODY = b'{"model":"auto","messages":[{"role":"user","content":"hi"}],"logit_bias":{"50256":-100},"stream_options":null}'


def test_the_body_goes_up_with_only_the_model_changed() -> None:
    wired = OpenAIAdapter().encode(request(BODY), "gpt-x")
    assert wired.path == "/chat/completions"
    sent = json.loads(wired.body)
    expected = {**json.loads(BODY), "model": "gpt-x"}
    expected.pop("stream_options")
    assert sent == expected


@pytest.mark.parametrize(
    ("options", "sent"),
    [
        (b"", {"include_usage": True}),
        (b',"stream_options":{"include_usage":false,"include_obfuscation":false}', None),
        (b',"stream_options":7', {"include_usage": True}),
    ],
)
def test_a_stream_always_asks_for_its_usage(options: bytes, sent: dict[str, bool] | None) -> None:
    fields = {name: msgspec.Raw(value) for name, value in {"model": b'"a"', "messages": b"[]"}.items()}
    if options:
        fields["stream_options"] = msgspec.Raw(options.partition(b":")[2])
    asked = ChatRequest(request_id="r", model="a", messages=[], body=fields, stream=True)
    body = json.loads(OpenAIAdapter().encode(asked, "m").body)
    assert body["stream"] is True
    assert body["stream_options"] == (sent or {"include_usage": True, "include_obfuscation": False})


def test_defaults_give_way_to_the_caller() -> None:
    adapter = OpenAIAdapter({"temperature": 0.2, "top_k": 40})
    body = json.loads(adapter.encode(request(BODY[:-1] + b',"temperature":1.5}'), "m").body)
    assert body["temperature"] == 1.5
    assert body["top_k"] == 40


@pytest.mark.parametrize(
    "body",
    [
        b'{"choices":[]}',
        b'{"choices":[{"index":0}]}',
        b'{"choices":[{"message":{"content":null}}]}',
        b'{"choices":[{"message":{"content":"x","tool_calls":5}}]}',
        b'{"choices":[{"message":{"tool_calls":[{"function":{"name":"f","arguments":5}}]},"finish_reason":"stop"}]}',
        b'{"choices":[{"message":{"tool_calls":[{"id":"a","function":{"arguments":"{}"}}]},"finish_reason":"stop"}]}',
        b'{"error":{"message":"overloaded"}}',
    ],
)
def test_a_reply_that_is_none_is_an_error(body: bytes) -> None:
    with pytest.raises(UpstreamProtocolError):
        OpenAIAdapter().decode(body)


def test_errors_are_explained_in_every_shape_that_vendors_use() -> None:
    for body in (b'{"message":"loading"}', b'{"error":"loading"}', b'{"error":{"message":"loading","code":7}}'):
        assert "answered 503: loading" in OpenAIAdapter().decode_error(503, {}, body).message


def test_an_empty_finish_reason_ends_nothing() -> None:
    """Some servers say one with every piece."""
    decoder = OpenAIAdapter().stream_decoder()
    chunk = decoder.feed(b'{"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":""}]}')
    assert chunk is not None and chunk.finish_reason is None
    with pytest.raises(StreamBroken):
        decoder.finish()


@pytest.mark.parametrize(
    ("choice", "plain"),
    [
        ('{"index":0,"delta":{"role":"assistant","content":"a","refusal":null,"annotations":[]}}', True),
        ('{"index":0,"delta":{"content":"a"},"logprobs":null}', True),
        ('{"index":0,"delta":{"function_call":{"name":"f"}}}', False),
        ('{"index":0,"delta":{"content":"a"},"logprobs":{"content":[]}}', False),
        ('{"index":0,"delta":{"reasoning_content":"hm"}}', False),
        ('{"index":0,"delta":{"audio":{"id":"x"}}}', False),
        ('{"index":1,"delta":{"content":"b"}}', False),
        ('{"index":0,"delta":{"content":[{"type":"text","text":"a"}]}}', False),
        ('{"index":0,"delta":{"content":"a","tool_calls":[]}}', True),
    ],
)
def test_only_text_may_be_put_together_again(choice: str, plain: bool) -> None:
    chunk = OpenAIAdapter().stream_decoder().feed(f'{{"choices":[{choice}]}}'.encode())
    assert chunk is not None and chunk.plain is plain


def test_counts_are_never_negative() -> None:
    body = b'{"choices":[{"message":{"content":"x"}}],"usage":{"prompt_tokens":-5,"completion_tokens":7}}'
    assert OpenAIAdapter().decode(body).usage == Usage(0, 7)


def test_a_second_choice_left_open_is_broken() -> None:
    decoder = OpenAIAdapter().stream_decoder()
    decoder.feed(b'{"choices":[{"index":0,"delta":{"content":"a"}},{"index":1,"delta":{"content":"b"}}]}')
    decoder.feed(b'{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}')
    with pytest.raises(StreamBroken):
        decoder.finish()
    decoder.feed(b'{"choices":[{"index":1,"delta":{},"finish_reason":"stop"}]}')
    decoder.finish()


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        (b"{", UpstreamProtocolError),
        (b'{"choices":5}', UpstreamProtocolError),
        (b'{"error":{"message":"overloaded"}}', UpstreamStatusError),
    ],
)
def test_an_error_inside_a_stream_is_raised(event: bytes, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        OpenAIAdapter().stream_decoder().feed(event)
