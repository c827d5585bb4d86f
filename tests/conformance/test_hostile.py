"""Odd, malformed and hostile replies: read, or the provider's error; never another exception, at any door."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conformance.table import REPLIES, STREAMS, TABLE
from model_gateway.domain.errors import StreamBroken, UpstreamError, UpstreamProtocolError
from model_gateway.wire.protocol import Head
from model_gateway.wire.protocols import PROTOCOLS, answer_of
from model_gateway.wire.sse import SseParser
from upstream import fixture

HEAD = Head("id-1", "m", 1_700_000_000)
_ODD = st.sampled_from(
    (
        *(b"null", b"-1", b"1e400", b'""', b"[]", b"{}", b'"\\ud83d"', b"true", b"[[[]]]", b'{"a":{"type":1}}', b'"x"'),
        *(b'"\xff"', b"", b"99999999999999999999", b"-99999999999999999999", b"[null]", b"[{}]", b'[""]', b"1.5", b"7"),
        *(b"[" * 5000, b"[" * 100_000 + b"]" * 100_000, b'{"a":' * 2000 + b"1" + b"}" * 2000),
    )
)
_MARK = "@odd@"
_NO_REPLY = (b"", b"{", b"<html>", b"[]", b"{}", b"null", b"5", b'"text"', b"\xff", b"[" * 100_000)
_NO_EVENT = (b"", b"{", b"[]", b"null", b"5", b"<html>", b"\xff", b"[" * 100_000, b'{"choices":' + b"[" * 100_000)


def places_in(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Every place in a JSON document, the document itself left out."""
    items: Iterable[tuple[str | int, Any]] = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for key, inner in items:
        yield (*path, key)
        yield from places_in(inner, (*path, key))


def mutated(body: bytes, data: st.DataObject) -> bytes:
    """One or two of its values, whatever they are, replaced or left out."""
    document = json.loads(body)
    odd: list[bytes] = []
    for _ in range(data.draw(st.integers(1, 2))):
        places = list(places_in(document))
        if not places:
            break
        *path, key = data.draw(st.sampled_from(places))
        inside = document
        for step in path:
            inside = inside[step]
        if data.draw(st.booleans()) or data.draw(st.booleans()):
            inside[key] = _MARK
            odd.append(data.draw(_ODD))
        else:
            del inside[key]
    found = json.dumps(document, ensure_ascii=False).encode()
    for replacement in odd:
        found = found.replace(b'"%s"' % _MARK.encode(), replacement, 1)
    return found


def shuffled(events: list[bytes], data: st.DataObject) -> list[bytes]:
    """One of the events mutated, left out, said twice or moved."""
    at = data.draw(st.integers(0, len(events) - 1))
    event, rest = events[at], [*events[:at], *events[at + 1 :]]
    how = data.draw(st.sampled_from(("mutate", "mutate", "mutate", "drop", "repeat", "move")))
    if how == "mutate" and event != b"[DONE]":
        return [*events[:at], mutated(event, data), *events[at + 1 :]]
    if how == "drop":
        return rest
    to = at if how == "repeat" else data.draw(st.integers(0, len(rest)))
    return [*(events if how == "repeat" else rest)[:to], event, *(events if how == "repeat" else rest)[to:]]


@given(st.sampled_from(REPLIES), st.data())
@settings(max_examples=400, deadline=None)
def test_what_an_adapter_lets_pass_every_door_can_tell(place: tuple[str, str], data: st.DataObject) -> None:
    protocol, name = place
    body = mutated(fixture(name, protocol), data)
    try:
        reply = TABLE[protocol].adapter.decode(body)
        usage = reply.usage
        assert usage is None or min(usage.input_tokens, usage.output_tokens, usage.cached_input_tokens) >= 0
        assert isinstance(reply.text, str)
        answer = answer_of(reply)
        for other in PROTOCOLS.values():
            other.reply(answer, HEAD)
    except UpstreamError:
        pass


@given(st.sampled_from(STREAMS), st.data())
@settings(max_examples=400, deadline=None)
def test_what_a_stream_decoder_lets_pass_every_door_can_tell(place: tuple[str, str], data: st.DataObject) -> None:
    protocol, name = place
    decoder, reader = TABLE[protocol].adapter.stream_decoder(), PROTOCOLS[protocol].reader()
    writers = [other.writer(HEAD, True) for other in PROTOCOLS.values()]
    try:
        for event in shuffled(SseParser().feed(fixture(name, protocol)), data):
            if decoder.done:
                break
            chunk = decoder.feed(event)
            if chunk is None:
                continue
            assert isinstance(chunk.text, str)
            deltas = reader.feed(chunk.data)
            for writer in writers:
                writer.feed(deltas)
        decoder.finish()
        for writer in writers:
            writer.end()
    except UpstreamError:
        pass


@pytest.mark.parametrize("body", _NO_REPLY, ids=range(len(_NO_REPLY)))
@pytest.mark.parametrize("protocol", TABLE)
def test_a_body_that_is_no_reply_is_a_protocol_error(protocol: str, body: bytes) -> None:
    with pytest.raises(UpstreamProtocolError):
        TABLE[protocol].adapter.decode(body)


@pytest.mark.parametrize("event", _NO_EVENT, ids=range(len(_NO_EVENT)))
@pytest.mark.parametrize("protocol", TABLE)
def test_an_event_that_is_none_is_a_protocol_error_and_ends_nothing(protocol: str, event: bytes) -> None:
    decoder = TABLE[protocol].adapter.stream_decoder()
    with pytest.raises(UpstreamProtocolError):
        decoder.feed(event)
    with pytest.raises(StreamBroken):
        decoder.finish()
