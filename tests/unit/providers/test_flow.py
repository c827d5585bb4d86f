"""Passing on what a provider sends, the moment it comes; and what a busy loop has not looked at yet."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import AsyncIterator, Generator

import pytest

from model_gateway.domain.errors import StreamBroken, UpstreamTimeout
from model_gateway.providers.openai import MAX_OTHERS, OpenAIAdapter
from model_gateway.providers.upstream import Deadlines, Endpoint, Upstream
from upstream import FixtureUpstream, Seen, events, fixture

PATIENT = Deadlines(connect_s=2, first_token_s=2, idle_s=2, total_s=10)
TEXT = fixture("stream.sse")


@pytest.fixture
async def client() -> AsyncIterator[Upstream]:
    upstream = Upstream(asyncio.get_running_loop())
    yield upstream
    upstream.close()


@pytest.mark.parametrize("at_once", [1, 3, 10_000])
async def test_all_that_comes_is_passed_on_in_order(client: Upstream, at_once: int) -> None:
    body = b"".join(b"data: %06d\n\n" % number for number in range(30 if at_once == 1 else 20_000))
    async with FixtureUpstream(events(body)) as server:
        endpoint = Endpoint(server.url, {})
        connection = await client.post(endpoint, "/x", b"{}", PATIENT)
        received: list[bytes] = []

        def take(data: bytes) -> bool:
            received.append(data)
            return len(received) % at_once != 0

        stops = 0
        while await connection.flow(take):
            stops += 1
            await asyncio.sleep(0)
        assert b"".join(received) == body
        assert stops == len(received) // at_once
        client.release(endpoint, connection)
        assert endpoint.idle == [connection]


async def test_what_the_reader_raises_comes_out_of_it(client: Upstream) -> None:
    async with FixtureUpstream(events(TEXT)) as server:
        endpoint = Endpoint(server.url, {})
        connection = await client.post(endpoint, "/x", b"{}", PATIENT)

        def take(data: bytes) -> bool:
            raise ValueError(f"{len(data)} bytes")

        with pytest.raises(ValueError, match="bytes"):
            await connection.flow(take)
        client.release(endpoint, connection)
        assert endpoint.idle == []


async def test_a_body_that_is_cut_is_passed_on_and_then_broken(client: Upstream) -> None:
    async def cut(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        await writer.drain()
        await asyncio.sleep(0.1)
        writer.close()

    async with FixtureUpstream(cut) as server:
        endpoint = Endpoint(server.url, {})
        connection = await client.post(endpoint, "/x", b"{}", PATIENT)
        received: list[bytes] = []
        with pytest.raises(StreamBroken):
            await connection.flow(lambda data: received.append(data) is None)
        client.release(endpoint, connection)
        assert received == [b"abc"]


@contextlib.contextmanager
def elsewhere(*, mute: bool = False) -> Generator[int]:
    """The port of a server in a thread of its own: it answers one request while the gateway's loop is busy."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            accepted, _ = listener.accept()
            with accepted:
                while accepted.recv(4096):
                    if not mute:
                        accepted.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(5)
        assert not thread.is_alive()


async def test_a_loop_that_was_busy_all_the_time_gives_nobody_up_unlooked(client: Upstream) -> None:
    with elsewhere() as port:
        endpoint = Endpoint(f"http://127.0.0.1:{port}", {})
        asked = asyncio.create_task(client.post(endpoint, "/x", b"{}", Deadlines(0.2, 0.2, 0.2, 5)))
        await asyncio.sleep(0)
        for _ in range(4):
            time.sleep(0.3)  # noqa: ASYNC251 (that is the point)
            await asyncio.sleep(0.002)
        assert (await asked).status == 200
        (await asked).abort()
        await asyncio.sleep(0.01)


async def test_one_that_says_nothing_is_given_up_all_the_same(client: Upstream) -> None:
    with elsewhere(mute=True) as port:
        endpoint = Endpoint(f"http://127.0.0.1:{port}", {})
        begun = time.monotonic()
        with pytest.raises(UpstreamTimeout):
            await client.post(endpoint, "/x", b"{}", Deadlines(0.2, 0.2, 0.2, 5))
        assert time.monotonic() - begun < 2
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("name", ["stream.sse", "tools_stream.sse", "parallel_stream.sse", "reasoning_stream.sse"])
def test_a_chunk_of_text_is_read_alike_by_the_short_way_and_the_long(name: str) -> None:
    more = [
        b'{"choices":[{"index":0,"delta":{"content":null,"role":"assistant"},"finish_reason":null}],"usage":null}',
        b'{"choices":[{"index":1,"delta":{"content":"b"}}]}',
        b'{"choices":[{"delta":{"content":"a","refusal":"no"}}]}',
        b'{"choices":[{"delta":{"content":"a"},"finish_reason":""}]}',
        b'{"choices":[{"delta":{"content":"a"},"logprobs":{"content":[]}}],"service_tier":"x"}',
        b'{"choices":[{"delta":{"content":"a\\n\\u00e9"}}],"obfuscation":"x","error":null}',
        b'{"choices":[{"delta":{"content":"a"}}],"usage":{"prompt_tokens":1}}',
        b'{"choices":[{"delta":{"content":"a"}},{"index":1,"delta":{"content":"b"}}]}',
    ]
    data = [line[6:] for line in fixture(name).split(b"\n") if line.startswith(b"data: {")]
    short, long = OpenAIAdapter().stream_decoder(), OpenAIAdapter().stream_decoder()
    for event in [*more, *data]:
        long._others, short._others = MAX_OTHERS, 0  # pyright: ignore[reportAttributeAccessIssue]
        assert short.feed(event) == long.feed(event)
        assert short._open == long._open  # pyright: ignore[reportAttributeAccessIssue]
