from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_gateway.wire import sse
from upstream import fixture


def whole(data: bytes) -> list[bytes]:
    parser = sse.SseParser()
    found = parser.feed(data)
    assert not parser.pending
    return found


@given(st.lists(st.integers(0, 6000), max_size=12), st.booleans())
def test_a_stream_split_at_any_bytes_gives_the_same_events(cuts: list[int], windows: bool) -> None:
    data = fixture("stream.sse")
    if windows:
        data = data.replace(b"\n", b"\r\n")
    expected = whole(data)
    parser = sse.SseParser()
    found: list[bytes] = []
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    for start, end in itertools.pairwise(edges):
        found += parser.feed(data[start:end])
    assert found == expected
    assert found[-1] == b"[DONE]"
    assert len(found) > 20


def test_comments_and_other_fields_are_skipped_and_data_lines_joined() -> None:
    text = b": ping\n\nevent: x\nid: 7\ndata: a\ndata:b\n\nretry: 10\n\ndata: c\n\n"
    assert whole(text) == [b"a\nb", b"c"]


def test_an_unfinished_event_is_pending() -> None:
    parser = sse.SseParser()
    assert parser.feed(b"data: half") == []
    assert parser.pending


def test_an_endless_event_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "MAX_EVENT_BYTES", 100)
    with pytest.raises(sse.EventTooLarge):
        sse.SseParser().feed(b"data: " + b"x" * 200)


def test_foreign_data_with_line_breaks_stays_one_event() -> None:
    assert whole(sse.frame_any(b'{"a":\n1}')) == [b'{"a":\n1}']
    assert sse.frame_any(b"{}") == sse.frame(b"{}") == b"data: {}\n\n"
