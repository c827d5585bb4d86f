from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any, cast

import httptools
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_gateway.cohort import Cohort
from model_gateway.server.http import protocol
from model_gateway.server.http.errors import refusal
from model_gateway.server.http.heads import KnownHead, known_head
from model_gateway.server.http.protocol import HttpConnection
from model_gateway.server.http.request import Limits, Request

HEAD = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer k\r\nContent-Length: %b\r\nX: y\r\n\r\n%b"
)
HEADERS = {"host": "a", "authorization": "Bearer k", "content-length": "2", "x": "y"}


def known(data: bytes, body: bytes = b"{}", **headers: str) -> KnownHead | None:
    return known_head(data, "POST", "/v1/chat/completions", {**HEADERS, **headers}, body)


@pytest.mark.parametrize("body", [b"", b"{}", b"x" * 1234, b"\r\n\r\n"])
def test_the_same_head_with_another_body_is_known(body: bytes) -> None:
    head = known(HEAD % (b"2", b"{}"))
    assert head is not None
    assert head.body_of(HEAD % (b"%d" % len(body), body)) == body


@pytest.mark.parametrize(
    "data",
    [
        HEAD % (b"3", b"{}"),  # more is to come
        HEAD % (b"1", b"{}"),  # another request behind it
        HEAD % (b"2", b"{}") + b"\r\n",
        HEAD % (b"", b"{}"),
        HEAD % (b"+2", b"{}"),
        HEAD % (b"2 ", b"{}"),
        HEAD % (b"2, 2", b"{}"),
        HEAD % (b"0" * 16 + b"2", b"{}"),
        HEAD % ("²".encode(), b"{}"),
        (HEAD % (b"2", b"{}")).replace(b"X: y", b"X: z"),
        (HEAD % (b"2", b"{}")).replace(b"X: y", b"X: y\r\nContent-Length: 2"),
        (HEAD % (b"2", b"{}")).replace(b"Bearer k", b"Bearer K"),
        (HEAD % (b"2", b"{}"))[:-20],
        b"",
    ],
)
def test_anything_else_is_left_to_the_parser(data: bytes) -> None:
    head = known(HEAD % (b"2", b"{}"))
    assert head is not None
    assert head.body_of(data) is None


def test_a_head_that_says_more_than_its_bytes_is_not_remembered() -> None:
    assert known(HEAD % (b"2", b"{}"), expect="100-continue") is None
    assert known(HEAD % (b"2", b"{}"), upgrade="h2c") is None
    assert known(HEAD % (b"2", b"{}"), connection="close") is None
    assert known(HEAD % (b"2", b"{}"), connection="Keep-Alive") is not None
    assert known((HEAD % (b"2", b"{}")).replace(b"X: y", b"X: y\r\nContent-Length: 2")) is None
    assert known((HEAD % (b"2", b"{}")).replace(b"Content-Length: 2\r\n", b"")) is None
    assert known((HEAD % (b"2", b"{}")).replace(b"X: y", b"X: " + b"y" * 9_000)) is None
    assert known(HEAD % (b"2", b"{}") + HEAD % (b"2", b"{}")) is None


class Client:
    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def set_write_buffer_limits(self, high: int) -> None: ...


class Keeping(HttpConnection):
    """Keeps its requests instead of answering them."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        limits = Limits(32_768, 1_000, 10.0, 30.0, 75.0)
        super().__init__(loop, cast(Any, None), refusal, limits, set(), Cohort())
        self.client = Client()
        self.kept: list[Request] = []
        self.connection_made(cast(Any, self.client))

    def _begin(self, request: Request) -> None:
        self.kept.append(request)

    def seen(self) -> list[tuple[str, str, dict[str, str], bytes, bool, bool]]:
        return [
            (r.method, r.target, {**r.headers, "content-length": ""}, r.body, r.chunked, r.keep_alive)
            for r in self.kept
        ]


LENGTHS = (b"2", b"2", b"2", b"002", b"3", b"1", b"", b"+2", b" 2", b"2 ", b"2,2", b"-2", b"1001", b"x")
BODIES = (b"{}", b"{}", b"{}", b"[1]", b"", b"\r\n", b"POST / HTTP/1.1\r\n\r\n", b"{}\r\n", b"a" * 1001)
MORE = (
    *(b"", b"", b"", b"X: y\r\n", b"X: z\r\n", b"Content-Length: 2\r\n", b"Transfer-Encoding: chunked\r\n", b"A\r\n"),
    *(b"Connection: close\r\n", b"Connection: keep-alive\r\n", b"Expect: 100-continue\r\n"),
    b"Upgrade: h2c\r\nConnection: upgrade\r\n",
)
LINES = (b"POST /a HTTP/1.1", b"POST /a HTTP/1.1", b"POST /b HTTP/1.1", b"GET /a HTTP/1.1", b"POST /a HTTP/1.0")
NAMES = (b"Content-Length", b"content-length", b"Content-Length", b"X-Content-Length")


PARTS: list[tuple[bytes, ...]] = [LINES, MORE, NAMES, LENGTHS, MORE, BODIES]
USUAL: list[bytes] = [b"POST /a HTTP/1.1", b"", b"Content-Length", b"2", b"X: y\r\n", b"{}"]


@st.composite
def requests(draw: st.DrawFn) -> list[bytes]:
    """A client's, most of which differ from the one before in one part, if at all."""
    parts, made = list(USUAL), list[bytes]()
    for _ in range(draw(st.integers(1, 6))):
        made.append(b"%b\r\nHost: a\r\n%b%b: %b\r\n%b\r\n%b" % tuple(parts))
        changed = draw(st.sampled_from((-1, -1, *range(len(PARTS)))))
        if changed >= 0:
            parts[changed] = draw(st.sampled_from(PARTS[changed]))
    return made


@settings(max_examples=2_000, deadline=None)
@given(requests(), st.lists(st.integers(0, 400), max_size=3), st.integers(1, 2))
def test_what_a_client_asks_is_the_same_with_and_without_a_memory(
    asked: list[bytes], cuts: list[int], times: int
) -> None:
    stream = b"".join([request * times for request in asked])
    if cuts:  # anywhere
        edges = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
        pieces = [stream[at:end] for at, end in pairwise(edges) if end > at]
    else:  # a request a piece, as clients send them
        pieces = [request for request in asked for _ in range(times)]
    loop = asyncio.new_event_loop()
    try:
        with_memory, without = Keeping(loop), Keeping(loop)
        without._strange = protocol.MOST_STRANGE
        for piece in pieces:
            for connection in (with_memory, without):
                if not connection.client.closed:
                    connection.data_received(piece)
        assert with_memory.seen() == without.seen()
        assert with_memory.client.written == without.client.written
        assert with_memory.client.closed == without.client.closed
    finally:
        loop.close()


def test_a_head_is_parsed_once_for_as_long_as_it_stays_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    fed: list[bytes] = []
    made = httptools.HttpRequestParser

    class Parser:
        def __init__(self, connection: HttpConnection) -> None:
            self._parser = made(connection)

        def feed_data(self, data: bytes) -> None:
            fed.append(data)
            self._parser.feed_data(data)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._parser, name)

    monkeypatch.setattr(protocol.httptools, "HttpRequestParser", Parser)
    loop = asyncio.new_event_loop()
    try:
        connection = Keeping(loop)
        for body in (b"{}", b"[1]", b"{}", b"x" * 900):
            connection.data_received(HEAD % (b"%d" % len(body), body))
        assert [request.body for request in connection.kept] == [b"{}", b"[1]", b"{}", b"x" * 900]
        assert len(fed) == 1
        connection.data_received(HEAD % (b"1001", b"x" * 1_001))  # too large: as if it had not been known
        assert b" 413 " in connection.client.written[-1]
        strange = Keeping(loop)
        fed.clear()
        for number in range(protocol.MOST_STRANGE + 2):
            strange.data_received((HEAD % (b"2", b"{}")).replace(b"X: y", b"X: %d" % number))
        assert len(fed) == len(strange.kept) == protocol.MOST_STRANGE + 2
        assert strange._known is not None
        strange.data_received((HEAD % (b"2", b"{}")).replace(b"X: y", b"X: %d" % (protocol.MOST_STRANGE - 1)))
        assert len(fed) == protocol.MOST_STRANGE + 2  # the last that was remembered
    finally:
        loop.close()
