from __future__ import annotations

from typing import Any

import pytest

from model_gateway.domain.conversation import Conversation, Media, ResponseFormat, Text, Tool, ToolResult, Turn
from model_gateway.wire.needs import native, needs_of

HI = Turn("user", (Text("hi"),))
IMAGE = Media("image", url="https://x/y.png")


@pytest.mark.parametrize(
    ("said", "needs"),
    [
        ({}, set[str]()),
        ({"temperature": 0.5, "stop": ("x",), "max_tokens": 5, "reasoning_effort": "high"}, set[str]()),
        ({"tools": (Tool("f"),)}, {"tools"}),
        ({"response_format": ResponseFormat("schema")}, {"json_schema"}),
        ({"response_format": ResponseFormat("json")}, set[str]()),
        ({"seed": 0}, {"seed"}),
        ({"frequency_penalty": 0.5}, {"penalties"}),
        ({"presence_penalty": -0.5}, {"penalties"}),
        ({"frequency_penalty": 0.0, "presence_penalty": 0.0}, set[str]()),
        ({"top_k": 1}, {"top_k"}),
        ({"turns": (Turn("user", (IMAGE, Media("audio"), Media("file"))),)}, {"vision", "audio", "files"}),
        ({"turns": (HI, Turn("user", (ToolResult("a", (Text("x"), IMAGE)),)))}, {"vision"}),
        ({"turns": (Turn("system", (IMAGE,)), HI)}, {"vision"}),
    ],
)
def test_what_a_conversation_needs(said: dict[str, Any], needs: set[str]) -> None:
    fields: dict[str, Any] = {"turns": (HI,), **said}
    conversation = Conversation(**fields)
    assert needs_of(conversation, "openai") == needs
    assert needs_of(conversation, "openai", ["logit_bias"]) == needs | {"protocol:openai"}


def test_what_no_conversation_holds_needs_its_own_schema() -> None:
    assert needs_of(None, "responses") == {native("responses")} == {"protocol:responses"}
    assert needs_of(Conversation(turns=(HI,)), "responses", iter(())) == frozenset()
