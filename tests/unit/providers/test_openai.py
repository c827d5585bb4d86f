from __future__ import annotations

import json

import msgspec
import pytest

from model_gateway.domain.chat import ChatRequest
from model_gateway.domain.errors import StreamBroken, UpstreamProtocolError, UpstreamStatusError
from model_gateway.providers.openai import OpenAIAdapter
from model_gateway.wire import openai as wire
from model_gateway.wire.sse import SseParser
from upstream import fixture


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


def test_replies_are_read() -> None:
    reply = OpenAIAdapter().decode(fixture("reply.json"))
    assert reply.text.startswith("A black hole is a region")
    assert reply.finish_reason == "stop"
    assert reply.usage is not None and reply.usage.output_tokens == 27
    tools = OpenAIAdapter().decode(fixture("tools_reply.json"))
    assert tools.text == "" and tools.finish_reason == "tool_calls"
    assert tools.usage is not None and (tools.usage.cached_input_tokens, tools.usage.reasoning_tokens) == (64, 8)


@pytest.mark.parametrize("body", [b"", b"{", b"<html>", b"[]", b"{}", b'{"choices":[]}', b'{"choices":[{"index":0}]}'])
def test_a_reply_that_is_none_is_an_error(body: bytes) -> None:
    with pytest.raises(UpstreamProtocolError):
        OpenAIAdapter().decode(body)


@pytest.mark.parametrize(
    ("status", "headers", "body", "retryable", "retry_after", "words"),
    [
        (429, {"retry-after": "7"}, fixture("error_429.json"), True, 7.0, "Rate limit reached"),
        (429, {"retry-after": "soon"}, b"", True, None, "no explanation"),
        (400, {}, fixture("error_400.json"), False, None, "Unsupported value"),
        (
            401,
            {},
            b'{"error":"bad key sk-123"}',
            False,
            None,
            "the provider answered 401: the gateway's key was refused",
        ),
        (500, {}, b"<html>oops</html>", True, None, "answered 500"),
        (503, {}, b'{"message":"loading"}', True, None, "loading"),
        (529, {}, b"[1,2]", True, None, "529"),
        (404, {}, b'{"error":{"message":5}}', False, None, "404"),
    ],
)
def test_errors_are_classified_by_status(
    status: int, headers: dict[str, str], body: bytes, retryable: bool, retry_after: float | None, words: str
) -> None:
    error = OpenAIAdapter().decode_error(status, headers, body)
    assert (error.status, error.retryable, error.retry_after_s) == (status, retryable, retry_after)
    assert words in error.message


@pytest.mark.parametrize("name", ["stream.sse", "tools_stream.sse"])
def test_streams_are_read_to_their_end(name: str) -> None:
    decoder = OpenAIAdapter().stream_decoder()
    chunks = [chunk for event in SseParser().feed(fixture(name)) if (chunk := decoder.feed(event))]
    decoder.finish()
    assert decoder.done
    if name == "stream.sse":
        assert "".join(c.text for c in chunks) == json.loads(fixture("reply.json"))["choices"][0]["message"]["content"]
        assert chunks[-1].usage_only and chunks[-1].usage is not None
        assert all(chunk.plain for chunk in chunks)
    else:
        assert [chunk.plain for chunk in chunks] == [False, False, False, True]
        assert chunks[-1].finish_reason == "tool_calls"


def test_a_stream_cut_at_any_event_is_broken() -> None:
    events = SseParser().feed(fixture("stream.sse"))
    finish = next(i for i, event in enumerate(events) if b'"finish_reason":"stop"' in event)
    for kept in range(len(events)):
        decoder = OpenAIAdapter().stream_decoder()
        for event in events[:kept]:
            decoder.feed(event)
        if kept > finish:
            decoder.finish()
        else:
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
    ],
)
def test_only_text_may_be_put_together_again(choice: str, plain: bool) -> None:
    chunk = OpenAIAdapter().stream_decoder().feed(f'{{"choices":[{choice}]}}'.encode())
    assert chunk is not None and chunk.plain is plain


def test_hostile_replies_are_protocol_errors_and_counts_are_never_negative() -> None:
    deep = b'{"choices":' + b"[" * 100_000
    with pytest.raises(UpstreamProtocolError):
        OpenAIAdapter().decode(deep)
    with pytest.raises(UpstreamProtocolError):
        OpenAIAdapter().stream_decoder().feed(deep)
    body = b'{"choices":[{"message":{"content":"x"}}],"usage":{"prompt_tokens":-5,"completion_tokens":7}}'
    usage = OpenAIAdapter().decode(body).usage
    assert usage is not None and (usage.input_tokens, usage.output_tokens) == (0, 7)


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
