from __future__ import annotations

import json
from typing import Any

import pytest

from model_gateway.domain.chat import ChatReply
from model_gateway.domain.errors import InvalidRequest
from model_gateway.domain.usage import Usage
from model_gateway.providers.openai import OpenAIAdapter
from model_gateway.wire import openai as wire
from upstream import fixture


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"{", None),
        (b"[]", None),
        (b"\xff\xfe", None),
        (b"{}", "model"),
        (b'{"model":"auto"}', "messages"),
        (b'{"model":1,"messages":[]}', "model"),
        (b'{"model":"auto","messages":[{"content":"x"}]}', "messages[0].role"),
        (b'{"model":"auto","messages":[{"role":"user","content":3}]}', "messages[0].content"),
        (b'{"model":"auto","messages":[{"role":"user","content":"x"}],"max_tokens":"many"}', "max_tokens"),
        (b"[" * 100_000, None),
    ],
)
def test_a_bad_body_is_refused_with_the_fields_name(body: bytes, param: str | None) -> None:
    with pytest.raises(InvalidRequest) as caught:
        wire.decode_chat(body)
    assert caught.value.param == param
    if param:
        assert param in caught.value.message


def test_every_field_is_kept_as_it_came() -> None:
    body = b'{"model":"auto","messages":[{"role":"user","content":"hi","name":"x"}],"unknown": {"a" : 1.50}}'
    read, fields = wire.decode_chat(body)
    assert read.messages[0].text() == "hi"
    assert bytes(fields["unknown"]) == b'{"a" : 1.50}'
    assert bytes(fields["messages"]) == b'[{"role":"user","content":"hi","name":"x"}]'


@pytest.mark.parametrize("name", ["reply.json", "tools_reply.json"])
def test_a_whole_reply_replayed_as_chunks_adds_up_to_itself(name: str) -> None:
    body = fixture(name)
    reply = OpenAIAdapter().decode(body)
    message = json.loads(body)["choices"][0]["message"]
    content, calls = "", list[dict[str, Any]]()
    for chunk in wire.chunks_of(reply, include_usage=True):
        decoded = json.loads(chunk.data)
        assert decoded["object"] == "chat.completion.chunk"
        for choice in decoded["choices"]:
            content += choice["delta"].get("content") or ""
            calls += choice["delta"].get("tool_calls") or []
    assert content == (message["content"] or "")
    assert [{k: v for k, v in c.items() if k != "index"} for c in calls] == message.get("tool_calls", [])
    chunks = wire.chunks_of(reply, include_usage=True)
    assert chunks[-1].usage == reply.usage
    assert chunks[-2].finish_reason == reply.finish_reason
    assert all(not chunk.usage_only for chunk in wire.chunks_of(reply, include_usage=False))


def test_a_reply_we_write_reads_back() -> None:
    usage = Usage(3, 4, 1, 2)
    body = wire.reply_body("id", "m", 5, "text", "stop", usage)
    reply = OpenAIAdapter().decode(body)
    assert reply == ChatReply(text="text", finish_reason="stop", usage=usage, body=body, model="m")


@pytest.mark.parametrize("body", [b"{}", b'{"a":1}', b' {"a": {"b": []} } \n', b"{ }"])
def test_a_field_is_added_without_decoding(body: bytes) -> None:
    assert json.loads(wire.with_field(body, "gateway", b"[1]")) == {**json.loads(body), "gateway": [1]}
