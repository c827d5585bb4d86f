"""What is Gemini's own in its adapter; what all adapters share is in tests/conformance."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_gateway.domain.chat import ChatRequest
from model_gateway.domain.errors import InvalidRequest, StreamBroken, UpstreamProtocolError, UpstreamStatusError
from model_gateway.domain.usage import Usage
from model_gateway.providers.gemini import GeminiAdapter
from model_gateway.wire import gemini_answer, openai
from model_gateway.wire.sse import SseParser
from upstream import fixture as recorded


def fixture(name: str) -> bytes:
    return recorded(name, "gemini")


def translated(stream: bool = False, **said: Any) -> ChatRequest:
    body = {"model": "auto", "messages": [{"role": "user", "content": "hi"}], **said}
    chat, fields = openai.decode_chat(msgspec.json.encode(body))
    return ChatRequest(request_id="r", model="auto", messages=chat.messages, body=fields, stream=stream)


def sent(model: str = "gemini-2.5-flash", **said: Any) -> dict[str, Any]:
    return json.loads(GeminiAdapter().encode(translated(**said), model).body)


def feed(*events: object) -> list[Any]:
    decoder = GeminiAdapter().stream_decoder()
    chunks = [decoder.feed(msgspec.json.encode(event)) for event in events]
    decoder.finish()
    return chunks


def candidate(*parts: object, **more: object) -> dict[str, object]:
    return {"candidates": [{"content": {"role": "model", "parts": parts}, **more}]}


def test_the_model_and_the_form_stand_in_the_path() -> None:
    fields = {"contents": msgspec.Raw(b'[{"parts":[{"text":"hi"}]}]'), "safetySettings": msgspec.Raw(b'[{"x":1}]')}
    request = ChatRequest(request_id="r", model="m", messages=[], body=fields, protocol="gemini")
    wired = GeminiAdapter().encode(request, "gemini-2.5-flash")
    assert wired.path == "/models/gemini-2.5-flash:generateContent"
    assert json.loads(wired.body) == {"contents": [{"parts": [{"text": "hi"}]}], "safetySettings": [{"x": 1}]}
    streaming = GeminiAdapter().encode(msgspec.structs.replace(request, stream=True), "models/a b\r\n?x")
    assert streaming.path == "/models/a%20b%0D%0A%3Fx:streamGenerateContent?alt=sse"
    with pytest.raises(InvalidRequest):
        GeminiAdapter().encode(msgspec.structs.replace(request, embeds=True), "m")


def test_calls_of_other_models_are_marked_where_a_signature_is_demanded() -> None:
    calls = [
        {"id": name, "type": "function", "function": {"name": "f", "arguments": '{"city":"Paris"}'}} for name in "ab"
    ]
    turns = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "tool_call_id": "a", "content": "sunny"},
        {"role": "tool", "tool_call_id": "b", "content": '{"sky":"grey"}'},
    ]
    tools = [{"type": "function", "function": {"name": "f", "strict": True}}]
    old, new = (sent(model, messages=turns, tools=tools) for model in ("gemini-2.5-pro", "gemini-3.8-flash"))
    assert [part.get("thoughtSignature") for part in old["contents"][1]["parts"]] == [None, None]
    assert [part.get("thoughtSignature") for part in new["contents"][1]["parts"]] == [
        "skip_thought_signature_validator",
        None,
    ]
    assert new["contents"][2]["parts"] == [
        {"functionResponse": {"id": "a", "name": "f", "response": {"result": "sunny"}}},
        {"functionResponse": {"id": "b", "name": "f", "response": {"sky": "grey"}}},
    ]
    assert new["toolConfig"] == {"functionCallingConfig": {"mode": "VALIDATED"}}


@pytest.mark.parametrize(
    ("model", "effort", "thinking"),
    [
        ("gemini-2.5-flash", "none", {"thinkingBudget": 0, "includeThoughts": False}),
        ("gemini-2.5-flash", "high", {"thinkingBudget": 24576, "includeThoughts": True}),
        ("gemini-3.8-flash", "minimal", {"thinkingLevel": "MINIMAL", "includeThoughts": True}),
        ("gemini-flash-latest", "low", {"thinkingLevel": "LOW", "includeThoughts": True}),
    ],
)
def test_thinking_is_asked_for_as_the_model_knows_it(model: str, effort: str, thinking: dict[str, Any]) -> None:
    assert sent(model, reasoning_effort=effort)["generationConfig"]["thinkingConfig"] == thinking


@pytest.mark.parametrize(
    ("said", "param"),
    [
        ({"stop": list("abcdef")}, "stop"),
        ({"reasoning_effort": "none"}, "reasoning_effort"),
        (
            {"parallel_tool_calls": False, "tools": [{"type": "function", "function": {"name": "f"}}]},
            "parallel_tool_calls",
        ),
        ({"messages": [{"role": "system", "content": "only me"}]}, "messages"),
        (
            {"messages": [{"role": "user", "content": "x"}, {"role": "tool", "tool_call_id": "z", "content": "1"}]},
            "messages",
        ),
    ],
)
def test_what_this_schema_cannot_say_is_refused_by_name(said: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        sent("gemini-3.8-flash", **said)
    assert caught.value.param == param


def test_pictures_by_data_and_by_address() -> None:
    content = [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        {"type": "image_url", "image_url": {"url": "https://example.org/cat.jpg?size=1"}},
        {"type": "image_url", "image_url": {"url": "https://example.org/cat"}},
    ]
    assert sent(messages=[{"role": "user", "content": content}])["contents"][0]["parts"] == [
        {"inlineData": {"mimeType": "image/png", "data": "AAAA"}},
        {"fileData": {"mimeType": "image/jpeg", "fileUri": "https://example.org/cat.jpg?size=1"}},
        {"fileData": {"fileUri": "https://example.org/cat"}},
    ]


def test_a_prompt_that_was_refused_is_an_answer_without_words() -> None:
    reply = GeminiAdapter().decode(fixture("blocked_reply.json"))
    assert (reply.text, reply.finish_reason, reply.usage) == ("", "content_filter", Usage(12, 0))
    (chunk,) = feed({"promptFeedback": {"blockReason": "SAFETY"}})
    assert (chunk.text, chunk.finish_reason) == ("", "content_filter")


@pytest.mark.parametrize(
    ("reason", "shown"),
    [("STOP", "stop"), ("MAX_TOKENS", "length"), ("SAFETY", "content_filter"), ("RECITATION", "content_filter")],
)
def test_finish_reasons(reason: str, shown: str) -> None:
    body = msgspec.json.encode(candidate({"text": "a"}, finishReason=reason))
    assert GeminiAdapter().decode(body).finish_reason == shown
    assert gemini_answer.answer(body).finish_reason == shown
    assert feed(candidate({"text": "a"}), candidate(finishReason=reason))[-1].finish_reason == shown


@pytest.mark.parametrize("reason", ["MALFORMED_FUNCTION_CALL", "MALFORMED_RESPONSE", "TOO_MANY_TOOL_CALLS"])
def test_a_model_that_failed_gave_no_answer(reason: str) -> None:
    body = candidate({"text": "half of"}, finishReason=reason, finishMessage="Malformed function call: call:f{")
    with pytest.raises(UpstreamProtocolError, match=reason):
        GeminiAdapter().decode(msgspec.json.encode(body))
    with pytest.raises(UpstreamProtocolError, match=reason):
        feed(body)


def test_a_stream_is_whole_by_its_finish_reason_and_its_end() -> None:
    with pytest.raises(StreamBroken):
        feed(candidate({"text": "a"}))
    with pytest.raises(StreamBroken):
        feed(candidate({"text": "a"}, finishReason="FINISH_REASON_UNSPECIFIED"))
    call = {"functionCall": {"name": "f", "args": {}}}
    assert feed(candidate(call), candidate({"text": ""}, finishReason="STOP"))[-1].finish_reason == "tool_calls"


def test_a_wrong_key_is_not_the_callers_fault() -> None:
    error = GeminiAdapter().decode_error(400, {}, fixture("error_key.json"))
    assert isinstance(error, UpstreamStatusError)
    assert error.status == 401 and "API key not valid" not in error.message


def test_a_wait_is_told_in_the_body() -> None:
    assert GeminiAdapter().decode_error(429, {}, fixture("error_429.json")).retry_after_s == pytest.approx(
        34.0748, 1e-4
    )
    assert GeminiAdapter().decode_error(429, {"retry-after": "60"}, fixture("error_429.json")).retry_after_s == 60
    listed = b"[" + fixture("error_503.json") + b"]"
    assert "overloaded" in GeminiAdapter().decode_error(503, {}, listed).message


def test_thoughts_are_counted_and_kept_apart() -> None:
    decoder = GeminiAdapter().stream_decoder()
    chunks = [decoder.feed(event) for event in SseParser().feed(fixture("thinking_stream.sse"))]
    decoder.finish()
    assert [(chunk.text, chunk.plain) for chunk in chunks if chunk] == [("", False), ("", False), ("Five cents.", True)]
    assert chunks[-1] is not None and chunks[-1].usage == Usage(15, 29, 0, 25)


_NAMES = [
    "candidates",
    "content",
    "parts",
    "text",
    "functionCall",
    "name",
    "args",
    "finishReason",
    "usageMetadata",
    "promptTokenCount",
    "promptFeedback",
    "blockReason",
    "error",
    "code",
    "message",
    "details",
    "thought",
]
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 2**70) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_NAMES), inner, max_size=4),
    max_leaves=20,
)


@given(_JSON)
def test_whatever_a_provider_sends_is_read_or_is_its_error(value: Any) -> None:
    data = msgspec.json.encode(value)
    adapter = GeminiAdapter()
    adapter.decode_error(503, {}, data)
    try:
        reply = adapter.decode(data)
        gemini_answer.answer(reply.body)
    except UpstreamProtocolError:
        pass
    try:
        decoder = adapter.stream_decoder()
        decoder.feed(data)
        gemini_answer.Reader().feed(data)
        decoder.finish()
    except (UpstreamProtocolError, UpstreamStatusError, StreamBroken):
        pass
