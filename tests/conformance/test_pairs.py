"""Every protocol's answers told in every other protocol and back: words, calls, order, counts and the end survive."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cache
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from conformance.table import REPLIES, STREAMS, TABLE
from conformance.test_replies import pieces_of, told_by
from conversations import answers
from model_gateway.domain.conversation import Answer
from model_gateway.wire.protocol import Head
from model_gateway.wire.protocols import PROTOCOLS, answer_of
from model_gateway.wire.sse import SseParser
from told import portable
from upstream import fixture

HEAD = Head("id-1", "m", 1_700_000_000)
PAIRS = st.sampled_from(list(permutations(TABLE, 2)))
WHOLE = [(source, name, target) for source, name in REPLIES for target in TABLE if target != source]
STREAMED = [(source, name, target) for source, name in STREAMS for target in TABLE if target != source]


@cache
def checker(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def reply_in(protocol: str, answer: Answer) -> bytes:
    """A whole reply, as that schema's official client and our own adapter take it."""
    body = PROTOCOLS[protocol].reply(answer, HEAD)
    if TABLE[protocol].sdk_reply is not None:
        checker(TABLE[protocol].sdk_reply).validate_json(body)
    assert TABLE[protocol].adapter.decode(body).body == body
    return body


def stream_in(protocol: str, deltas: Iterable[Iterable[Any]]) -> bytes:
    """A stream, as that schema's official client takes it."""
    writer = PROTOCOLS[protocol].writer(HEAD, True)
    stream = b"".join(writer.feed(list(some)) for some in deltas) + writer.end()
    if TABLE[protocol].sdk_event is not None:
        for event in SseParser().feed(stream):
            if event != b"[DONE]":
                checker(TABLE[protocol].sdk_event).validate_json(event)
    return stream


def events_of(protocol: str, stream: bytes) -> Iterable[Iterable[Any]]:
    reader = PROTOCOLS[protocol].reader()
    return (reader.feed(event) for event in SseParser().feed(stream))


@pytest.mark.parametrize(("source", "name", "target"), WHOLE)
def test_a_recorded_reply_survives_another_schema_and_back(source: str, name: str, target: str) -> None:
    expected = portable(TABLE[source].replies[name])
    first = answer_of(TABLE[source].adapter.decode(fixture(name, source)))
    there = PROTOCOLS[target].answer(reply_in(target, first))
    assert portable(there) == expected
    back = PROTOCOLS[source].answer(reply_in(source, there))
    assert portable(back) == expected


@pytest.mark.parametrize(("source", "name", "target"), STREAMED)
def test_a_recorded_stream_survives_another_schema_and_back(source: str, name: str, target: str) -> None:
    expected = portable(TABLE[source].streams[name])
    there = stream_in(target, events_of(source, fixture(name, source)))
    if expected.usage is None:
        # Some schemas must say numbers: none were counted, so they are nothing to compare.
        assert portable(told_by(target, pieces_of(target, there))).parts == expected.parts
        return
    assert portable(told_by(target, pieces_of(target, there))) == expected
    back = stream_in(source, events_of(target, there))
    assert portable(told_by(source, pieces_of(source, back))) == expected


@given(answers(), PAIRS)
@settings(max_examples=120, deadline=None)
def test_any_answer_survives_another_schema_and_back(said: Answer, pair: tuple[str, str]) -> None:
    source, target = pair
    there = PROTOCOLS[target].answer(reply_in(target, said))
    assert portable(there) == portable(said)
    assert portable(PROTOCOLS[source].answer(reply_in(source, there))) == portable(said)


@given(answers(), PAIRS, st.integers(1, 4))
@settings(max_examples=120, deadline=None)
def test_any_stream_survives_another_schema_and_back(said: Answer, pair: tuple[str, str], step: int) -> None:
    source, target = pair
    deltas = said.deltas()
    there = stream_in(target, (deltas[at : at + step] for at in range(0, len(deltas), step)))
    assert portable(told_by(target, pieces_of(target, there))) == portable(said)
    back = stream_in(source, events_of(target, there))
    assert portable(told_by(source, pieces_of(source, back))) == portable(said)


@given(answers())
@settings(max_examples=80, deadline=None)
def test_a_stream_and_a_whole_reply_say_the_same(said: Answer) -> None:
    """As an answer from the cache is told: whole or as a stream, in whichever schema."""
    for protocol in TABLE:
        whole = PROTOCOLS[protocol].answer(reply_in(protocol, said))
        assert told_by(protocol, pieces_of(protocol, stream_in(protocol, [said.deltas()]))) == whole


@pytest.mark.parametrize("protocol", TABLE)
def test_our_own_words_come_before_the_end(protocol: str) -> None:
    writer = PROTOCOLS[protocol].writer(HEAD, True)
    told = Answer(parts=(), finish_reason="stop").deltas()
    stream = writer.feed(told) + writer.end({"tier": "local"})
    decoder = TABLE[protocol].adapter.stream_decoder()
    seen: list[Any] = []
    for event in SseParser().feed(stream):
        assert not decoder.done, "nothing may follow the end"
        decoder.feed(event)
        seen += [] if event == b"[DONE]" else [json.loads(event).get("gateway")]
    decoder.finish()
    assert {"tier": "local"} in seen
