"""Requests of every protocol: forwarded nearly untouched, told in every other one, or refused by name."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from itertools import permutations
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conformance.table import TABLE
from conformance.test_pairs import checker
from conversations import dialogues
from model_gateway.domain.chat import ChatRequest
from model_gateway.domain.conversation import (
    Conversation,
    Media,
    Part,
    ResponseFormat,
    Text,
    Tool,
    ToolChoice,
    ToolResult,
    ToolUse,
    Turn,
    effort_of,
)
from model_gateway.domain.errors import InvalidRequest
from model_gateway.wire.media import url_of
from model_gateway.wire.protocols import PROTOCOLS, conversation_of

HI = Turn("user", (Text("hi"),))
TOOL = Tool("get_weather", "in a city", msgspec.Raw(b'{"type":"object","properties":{"city":{"type":"string"}}}'))


def asked(protocol: str, body: Any, *, stream: bool = False) -> ChatRequest:
    """What a door of this protocol hands on."""
    fields = msgspec.json.decode(msgspec.json.encode(body), type=dict[str, msgspec.Raw])
    return ChatRequest(request_id="r", model="auto", messages=[], body=fields, protocol=protocol, stream=stream)


def body_in(protocol: str, conversation: Conversation, *, stream: bool = False) -> dict[str, Any]:
    """A provider's body, as that schema's official client would send it."""
    body = PROTOCOLS[protocol].request(conversation, TABLE[protocol].model, stream)
    decoded = msgspec.json.decode(msgspec.json.encode(body))
    if TABLE[protocol].sdk_request is not None and not stream:
        exhaust(checker(TABLE[protocol].sdk_request).validate_python(decoded))
    return decoded


def exhaust(value: Any) -> None:
    """Look at all of it: what pydantic reads as an Iterable is checked only when it is read."""
    if isinstance(value, dict):
        exhaust(value.values())
    elif isinstance(value, Iterable) and not isinstance(value, str | bytes):
        for inner in value:
            exhaust(inner)


def through(protocol: str, conversation: Conversation) -> Conversation:
    return conversation_of(asked(protocol, body_in(protocol, conversation)))


# --- the same schema on both sides ------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("protocol", TABLE)
def test_a_body_of_the_providers_own_schema_goes_up_nearly_untouched(protocol: str, stream: bool) -> None:
    entry = TABLE[protocol]
    request = asked(
        protocol, {**entry.body, **({"stream": stream} if "stream" in entry.changed else {})}, stream=stream
    )
    wired = entry.adapter.encode(request, "target-model")
    sent = json.loads(wired.body)
    for name, value in entry.body.items():
        if name not in entry.changed:
            assert sent[name] == value
    assert sent.keys() - entry.body.keys() <= entry.changed
    assert b'{"a":[1.5,null]}' in wired.body, "nobody's field is as it came"
    assert "target-model" in wired.path or sent["model"] == "target-model"
    assert sent.get("stream", False) is (stream and "stream" in entry.changed)


@pytest.mark.parametrize("protocol", TABLE)
def test_a_body_of_every_other_schema_is_translated(protocol: str) -> None:
    for source in TABLE.keys() - {protocol}:
        request = asked(source, body_in(source, Conversation(turns=(HI,), max_tokens=9)))
        for stream in (False, True):
            wired = TABLE[protocol].adapter.encode(msgspec.structs.replace(request, stream=stream), "target-model")
            expected = PROTOCOLS[protocol].request(conversation_of(request), "target-model", stream)
            assert json.loads(wired.body) == json.loads(msgspec.json.encode(expected))


# --- from one schema into another -------------------------------------------------------------------------------------


def _merged(conversation: Conversation) -> list[tuple[str, list[str], list[Any], list[Any]]]:
    """Per side in turn: its words, its calls, and the words of its results."""
    found: list[tuple[str, list[str], list[Any], list[Any]]] = []
    for turn in conversation.turns:
        if turn.role == "system":
            continue
        if not found or found[-1][0] != turn.role:
            found.append((turn.role, [], [], []))
        _, words, calls, results = found[-1]
        for part in turn.parts:
            if isinstance(part, Text):
                words.append(part.text)
            elif isinstance(part, ToolUse):
                calls.append((part.id, part.name, json.loads(part.arguments)))
            elif isinstance(part, ToolResult):
                results.append((part.id, [piece.text for piece in part.parts if isinstance(piece, Text)]))
    return found


def _media(parts: Iterable[Part]) -> Iterable[str]:
    for part in parts:
        if isinstance(part, Media):
            yield url_of(part)
        elif isinstance(part, ToolResult):
            yield from _media(part.parts)


def heard(conversation: Conversation) -> dict[str, Any]:
    """What must survive every schema. Where a tool's image stands in its turn may differ."""
    wanted = conversation.response_format
    return {
        "system": conversation.system_text(),
        "turns": _merged(conversation),
        "media": Counter(_media(part for turn in conversation.turns for part in turn.parts)),
        "tools": [(tool.name, tool.description, json.loads(bytes(tool.parameters))) for tool in conversation.tools],
        # To leave it to the model is what every schema does where nothing is said.
        "choice": None if conversation.tool_choice == ToolChoice("auto") else conversation.tool_choice,
        "format": wanted and (wanted.kind, json.loads(bytes(wanted.schema))),
        "sampling": (conversation.max_tokens, conversation.temperature, conversation.top_p),
    }


@given(dialogues(), st.sampled_from(list(permutations(TABLE, 2))))
@settings(max_examples=200, deadline=None)
def test_any_request_survives_another_schema_and_back(said: Conversation, pair: tuple[str, str]) -> None:
    source, target = pair
    here = through(source, said)
    assert heard(here) == heard(said)
    there = through(target, here)
    assert heard(there) == heard(said)
    assert heard(through(source, there)) == heard(said)


# --- field by field: said, or refused by name -------------------------------------------------------------------------

FIELDS: dict[str, dict[str, Any]] = {
    "max_tokens": {"max_tokens": 4000},
    "temperature": {"temperature": 0.5},
    "top_p": {"top_p": 0.5},
    "top_k": {"top_k": 20},
    "stop": {"stop": ("END", "FIN")},
    "seed": {"seed": 7},
    "frequency_penalty": {"frequency_penalty": 0.5},
    "presence_penalty": {"presence_penalty": -0.5},
    "json": {"response_format": ResponseFormat("json")},
    "no_tool": {"tools": (TOOL,), "tool_choice": ToolChoice("none")},
    "one_at_a_time": {"tools": (TOOL,), "parallel_tool_calls": False},
    "user": {"user": "u-1"},
    "one_tool": {"tools": (TOOL,), "tool_choice": ToolChoice("named", "get_weather")},
}
MEDIA = {
    "image": Media("image", mime="image/png", data="iVBORw0KGgo="),
    "image_url": Media("image", url="https://example.org/cat.png"),
    "pdf": Media("file", mime="application/pdf", data="JVBERi0xLjQK", name="a.pdf"),
    "file_url": Media("file", mime="application/pdf", url="https://example.org/a.pdf"),
    "audio": Media("audio", mime="audio/wav", data="UklGRg=="),
}


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("protocol", TABLE)
def test_a_field_is_said_or_refused_by_name(protocol: str, field: str) -> None:
    conversation = Conversation(turns=(HI,), **FIELDS[field])
    if field in TABLE[protocol].refuses:
        with pytest.raises(InvalidRequest) as caught:
            body_in(protocol, conversation)
        assert caught.value.param in FIELDS[field]
        return
    found = through(protocol, conversation)
    for name, value in FIELDS[field].items():
        assert name == "tools" or (getattr(found, name) == value) is (field not in TABLE[protocol].leaves_out)


@pytest.mark.parametrize("kind", MEDIA)
@pytest.mark.parametrize("protocol", TABLE)
def test_a_medium_is_said_or_refused(protocol: str, kind: str) -> None:
    media = MEDIA[kind]
    conversation = Conversation(turns=(Turn("user", (Text("what is it?"), media)),))
    if kind in TABLE[protocol].refuses:
        with pytest.raises(InvalidRequest) as caught:
            body_in(protocol, conversation)
        assert caught.value.param == "messages"
        return
    (turn,) = through(protocol, conversation).turns
    text, found = turn.parts
    assert text == Text("what is it?") and isinstance(found, Media)
    assert (found.kind, found.data, found.url) == (media.kind, media.data, media.url)
    if media.data:
        assert found.mime == media.mime


@pytest.mark.parametrize("protocol", TABLE)
def test_what_asks_for_nothing_is_never_refused(protocol: str) -> None:
    """As OpenAI's clients send it; and no choice of tools where there are none, which providers refuse."""
    idle = Conversation(
        turns=(HI,),
        frequency_penalty=0.0,
        presence_penalty=0.0,
        response_format=ResponseFormat("text"),
        tool_choice=ToolChoice("auto"),
        parallel_tool_calls=False,
    )
    found = through(protocol, idle)
    assert (found.tools, found.tool_choice, found.parallel_tool_calls, found.response_format) == ((), None, None, None)


@pytest.mark.parametrize("protocol", TABLE)
def test_a_tools_failure_is_told(protocol: str) -> None:
    called = Turn("assistant", (ToolUse("call_1", "get_weather", "{}"),))
    failed = Turn("user", (ToolResult("call_1", (Text("no such city"),), "get_weather", is_error=True),))
    found = through(protocol, Conversation(turns=(HI, called, failed), tools=(TOOL,)))
    (result,) = [part for turn in found.turns for part in turn.parts if isinstance(part, ToolResult)]
    told = "\n".join(piece.text for piece in result.parts if isinstance(piece, Text))
    assert "no such city" in told and (result.is_error or told.startswith("Error:"))


@pytest.mark.parametrize("effort", ["none", "low", "medium", "high"])
@pytest.mark.parametrize("protocol", TABLE)
def test_how_hard_to_think_is_told_in_each_schemas_own_way(protocol: str, effort: str) -> None:
    """Or left out, where the model does not think unless it is told to."""
    found = through(protocol, Conversation(turns=(HI,), max_tokens=50_000, reasoning_effort=effort))
    assert effort_of(found) == effort or (effort == "none" and effort_of(found) == "")
