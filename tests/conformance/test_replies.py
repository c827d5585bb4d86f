"""Whole replies and streams of every protocol, read by its adapter and its translation."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conformance.table import REPLIES, STREAMS, TABLE
from model_gateway.domain.chat import ChatChunk
from model_gateway.domain.conversation import Answer, Text
from model_gateway.domain.errors import StreamBroken, UpstreamProtocolError, UpstreamStatusError
from model_gateway.wire.protocols import PROTOCOLS, answer_of
from model_gateway.wire.sse import SseParser
from told import collected, normal
from upstream import fixture

LINE_ENDS = (b"\n", b"\r\n")


def stream_of(protocol: str, name: str, line_end: bytes) -> bytes:
    return fixture(name, protocol).replace(b"\r\n", b"\n").replace(b"\n", line_end)


def text_of(answer: Answer) -> str:
    return "".join(part.text for part in answer.parts if isinstance(part, Text))


def pieces_of(protocol: str, *pieces: bytes) -> list[ChatChunk]:
    """A stream that arrives in these pieces, read to its end. Raises what the decoder raises."""
    parser, decoder = SseParser(), TABLE[protocol].adapter.stream_decoder()
    chunks: list[ChatChunk] = []
    for piece in pieces:
        chunks += [chunk for event in parser.feed(piece) if (chunk := decoder.feed(event)) is not None]
    decoder.finish()
    return chunks


def told_by(protocol: str, chunks: list[ChatChunk]) -> Answer:
    reader = PROTOCOLS[protocol].reader()
    return collected(delta for chunk in chunks for delta in reader.feed(chunk.data))


@pytest.mark.parametrize(("protocol", "name"), REPLIES)
def test_a_whole_reply_says_what_the_table_says(protocol: str, name: str) -> None:
    expected, body = TABLE[protocol].replies[name], fixture(name, protocol)
    reply = TABLE[protocol].adapter.decode(body)
    assert normal(answer_of(reply)) == normal(expected)
    assert (reply.text, reply.finish_reason, reply.usage) == (text_of(expected), expected.finish_reason, expected.usage)
    assert reply.body is body and reply.protocol == protocol and reply.model


@pytest.mark.parametrize(("protocol", "name"), STREAMS)
def test_a_stream_says_what_the_table_says(protocol: str, name: str) -> None:
    expected = TABLE[protocol].streams[name]
    chunks = pieces_of(protocol, fixture(name, protocol))
    assert normal(told_by(protocol, chunks)) == normal(expected)
    assert "".join(chunk.text for chunk in chunks) == text_of(expected)
    assert [chunk.finish_reason for chunk in chunks if chunk.finish_reason] == [expected.finish_reason]
    # Counts are cumulative: the last one stands.
    counts = [chunk.usage for chunk in chunks if chunk.usage is not None]
    assert (counts[-1] if counts else None) == expected.usage


@pytest.mark.parametrize(("protocol", "name"), STREAMS)
def test_only_a_stream_of_text_may_be_put_together_from_its_texts(protocol: str, name: str) -> None:
    only_text = all(isinstance(part, Text) for part in TABLE[protocol].streams[name].parts)
    assert all(chunk.plain for chunk in pieces_of(protocol, fixture(name, protocol))) is only_text


@given(st.sampled_from(STREAMS), st.sampled_from(LINE_ENDS), st.data())
@settings(max_examples=150, deadline=None)
def test_a_stream_may_be_split_at_any_byte(place: tuple[str, str], line_end: bytes, data: st.DataObject) -> None:
    protocol, name = place
    stream = stream_of(protocol, name, line_end)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    pieces = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert pieces_of(protocol, *pieces) == pieces_of(protocol, fixture(name, protocol))


@pytest.mark.parametrize("line_end", LINE_ENDS, ids=("LF", "CRLF"))
@pytest.mark.parametrize(("protocol", "name"), STREAMS)
def test_a_stream_cut_at_any_byte_is_broken_unless_all_was_told(protocol: str, name: str, line_end: bytes) -> None:
    """A cut changes which events arrive and nothing else, so each number of events is read once."""
    expected = normal(TABLE[protocol].streams[name])
    stream = stream_of(protocol, name, line_end)
    parser, arrived = SseParser(), list[bytes]()
    whole = 0
    for place in range(len(stream)):
        found = parser.feed(stream[place : place + 1])
        if place and not found:
            continue
        arrived += found
        try:
            chunks = pieces_of(protocol, *(b"data: " + event + b"\n\n" for event in arrived))
        except StreamBroken:
            assert not whole, "what was complete stays so"
            continue
        whole += 1
        told = normal(told_by(protocol, chunks))
        # Only the counts may be missing where their event was cut off.
        assert (told.parts, told.finish_reason) == (expected.parts, expected.finish_reason), stream[: place + 1][-200:]
    assert whole, "the whole stream is complete"
    assert arrived == SseParser().feed(fixture(name, protocol))


@pytest.mark.parametrize("protocol", TABLE)
def test_a_stream_that_says_that_it_failed_is_an_error(protocol: str) -> None:
    for name in TABLE[protocol].failing:
        with pytest.raises(UpstreamStatusError):
            pieces_of(protocol, fixture(name, protocol))


@pytest.mark.parametrize("protocol", TABLE)
def test_a_stream_that_says_nothing_is_no_answer(protocol: str) -> None:
    for stream in (b"", b": hello\n\n", b"data: [DONE]\n\n"):
        with pytest.raises((StreamBroken, UpstreamProtocolError)):
            pieces_of(protocol, stream)
