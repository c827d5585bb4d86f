from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from model_gateway.cohort import Cohort
from model_gateway.config.errors import StartupError
from model_gateway.config.schema import ServerConfig
from model_gateway.server.http import server as module
from model_gateway.server.http.errors import refusal
from model_gateway.server.http.protocol import HttpConnection
from model_gateway.server.http.request import Request
from model_gateway.server.http.server import HttpServer
from upstream import until


class Echo:
    """Answers with method, target and body; /slow waits, /stream streams, /flood writes without end."""

    def __init__(self) -> None:
        self.cancelled = 0
        self.order: list[str] = []
        self.written = 0

    async def __call__(self, http: Request, connection: HttpConnection) -> None:
        try:
            await self._answer(http, connection)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

    async def _answer(self, http: Request, connection: HttpConnection) -> None:
        if http.target.startswith("/slow"):
            await asyncio.sleep(0.2)
        self.order.append(http.target)
        if http.target == "/stream":
            connection.start_stream(b"", http)
            for i in range(3):
                connection.write(b"%d;" % i)
                await asyncio.sleep(0.005)
            connection.end_stream()
        elif http.target == "/flood":
            connection.start_stream(b"", http)
            while True:
                connection.write(b"x" * 65_536)
                self.written += 1
                await connection.drain()
        else:
            body = f"{http.method} {http.target} ".encode() + http.body
            if http.target == "/p" and "trailer" in http.headers:
                body += f" auth={http.headers.get('authorization')}".encode()
            connection.respond(200, b"", body, http)


@pytest.fixture
async def echo() -> Echo:
    return Echo()


@pytest.fixture
async def port(echo: Echo, request: pytest.FixtureRequest) -> AsyncIterator[int]:
    options: dict[str, Any] = getattr(request, "param", {})
    server = HttpServer(ServerConfig(http_port=0, **options), echo, refusal)
    yield await server.start()
    await server.stop(1)
    assert server.connections == 0


async def talk(port: int, *pieces: bytes, pause_s: float = 0.0) -> bytes:
    """Send the pieces, then read to the end of the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(pause_s)
    try:
        return await asyncio.wait_for(reader.read(), 5)
    finally:
        writer.close()


LAST = b"Host: x\r\nConnection: close\r\n"


async def test_keep_alive_and_pipelining_answer_in_order(port: int, echo: Echo) -> None:
    requests = b"".join(b"GET /slow%d HTTP/1.1\r\nHost: x\r\n\r\n" % i for i in range(2))
    answer = await talk(port, requests + b"GET /c HTTP/1.1\r\n" + LAST + b"\r\n")
    assert echo.order == ["/slow0", "/slow1", "/c"]
    assert [answer.index(b"GET /slow0"), answer.index(b"GET /slow1"), answer.index(b"GET /c")] == sorted(
        [answer.index(b"GET /slow0"), answer.index(b"GET /slow1"), answer.index(b"GET /c")]
    )
    assert answer.count(b"HTTP/1.1 200 OK") == 3


async def test_many_pipelined_requests_are_all_answered(port: int) -> None:
    requests = b"".join(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % i for i in range(500))
    answer = await talk(port, requests + b"GET /end HTTP/1.1\r\n" + LAST + b"\r\n")
    assert answer.count(b"HTTP/1.1 200 OK") == 501


async def test_a_request_sent_byte_by_byte_is_understood(port: int) -> None:
    whole = b"POST /p HTTP/1.1\r\nContent-Length: 5\r\n" + LAST + b"\r\nhello"
    answer = await talk(port, *(bytes([b]) for b in whole))
    assert answer.endswith(b"POST /p hello")


async def test_chunked_bodies_and_continue(port: int) -> None:
    head = b"POST /p HTTP/1.1\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n" + LAST + b"\r\n"
    answer = await talk(port, head, b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert answer.endswith(b"POST /p abcde")


async def test_streams_are_chunked_and_for_http_1_0_end_with_the_connection(port: int) -> None:
    answer = await talk(port, b"GET /stream HTTP/1.1\r\n" + LAST + b"\r\n")
    assert answer.endswith(b"2\r\n0;\r\n2\r\n1;\r\n2\r\n2;\r\n0\r\n\r\n")
    old = await talk(port, b"GET /stream HTTP/1.0\r\n\r\n")
    assert old.endswith(b"\r\n\r\n0;1;2;")
    assert b"chunked" not in old


async def test_an_offer_to_upgrade_is_declined(port: int) -> None:
    answer = await talk(
        port,
        b"POST /u HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAA\r\n"
        b"Content-Length: 2\r\n\r\nhi",
        b"GET /next HTTP/1.1\r\n" + LAST + b"\r\n",
    )
    assert b"POST /u hi" in answer
    assert answer.endswith(b"GET /next ")


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"NONSENSE\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 2000, 431),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1001\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n7d0\r\n" + b"x" * 2000, 413),
    ],
)
@pytest.mark.parametrize("port", [{"max_header_size": 1000, "max_body_size": 1000}], indirect=True)
async def test_what_is_wrong_or_too_large_is_refused_and_closed(port: int, request_bytes: bytes, status: int) -> None:
    answer = await talk(port, request_bytes)
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert answer.count(b"HTTP/1.1") == 1
    assert b'"type":"invalid_request_error"' in answer


@pytest.mark.parametrize(
    ("pieces", "status"),
    [((b"GET / HT",), b"408"), ((b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc",), b"408"), ((), b"")],
)
@pytest.mark.parametrize("port", [{"header_timeout": 100, "body_timeout": 100, "idle_timeout": 100}], indirect=True)
async def test_slow_senders_are_told_and_idle_ones_closed(
    port: int, pieces: tuple[bytes, ...], status: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SWEEP_S", 0.05)
    answer = await talk(port, *pieces)
    assert answer[9:12] == status


async def test_a_client_that_leaves_cancels_its_handler(port: int, echo: Echo) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
    await writer.drain()
    await asyncio.sleep(0.05)
    writer.close()
    await until(lambda: echo.cancelled == 1)
    assert echo.order == []


async def test_a_client_that_does_not_read_holds_the_writer_back(port: int, echo: Echo) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
    writer.write(b"GET /flood HTTP/1.1\r\nHost: x\r\n\r\n")
    await writer.drain()
    await asyncio.sleep(0.3)
    written = echo.written
    await asyncio.sleep(0.2)
    assert echo.written == written < 2000
    writer.transport.abort()
    await until(lambda: echo.cancelled == 1)


@pytest.mark.parametrize("port", [{"body_timeout": 200}], indirect=True)
async def test_a_client_that_never_reads_is_cut_off(port: int, echo: Echo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SWEEP_S", 0.05)
    _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
    writer.write(b"GET /flood HTTP/1.1\r\nHost: x\r\n\r\n")
    await writer.drain()
    await until(lambda: echo.cancelled == 1)
    writer.transport.abort()


async def test_trailers_are_not_believed(port: int) -> None:
    head = b"POST /p HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTrailer: Connection\r\n" + LAST + b"\r\n"
    answer = await talk(port, head + b"2\r\nhi\r\n0\r\nAuthorization: Bearer x\r\n\r\n")
    assert answer.endswith(b"POST /p hi auth=None")


@pytest.mark.parametrize("port", [{"max_connections": 2}], indirect=True)
async def test_connections_beyond_the_limit_get_a_503(port: int) -> None:
    held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
    await asyncio.sleep(0.05)
    answer = await talk(port)
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"Retry-After: 1" in answer
    for _, writer in held:
        writer.close()


async def test_stopping_lets_what_is_in_flight_finish() -> None:
    echo = Echo()
    server = HttpServer(ServerConfig(http_port=0), echo, refusal)
    port = await server.start()
    idle, idle_writer = await asyncio.open_connection("127.0.0.1", port)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
    await writer.drain()
    await asyncio.sleep(0.05)
    await server.stop(5)
    assert (await reader.read()).endswith(b"GET /slow ")
    assert await idle.read() == b""
    for open_writer in (writer, idle_writer):
        open_writer.close()


async def test_a_taken_port_is_one_clear_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(StartupError) as caught:
            await HttpServer(ServerConfig(http_port=port), Echo(), refusal).start()
    assert f"port {port} on 127.0.0.1 is already in use" in caught.value.message
    assert "HTTP_PORT" in caught.value.remedy


class Joined(Echo):
    """Between an answer and its being sent something else comes from the same client."""

    def __init__(self) -> None:
        super().__init__()
        self.then: Callable[[], None] | None = None

    async def __call__(self, http: Request, connection: HttpConnection) -> None:
        await super().__call__(http, connection)
        if self.then is not None:
            self.then()
            self.then = None


@pytest.mark.parametrize("more", [b"BREW /pot COFFEE\r\n\r\n", b"GET /2 HTTP/1.1\r\n" + LAST + b"\r\n"])
async def test_nothing_overtakes_a_reply_that_waits_for_others(more: bytes) -> None:
    joined, cohort = Joined(), Cohort()
    server = HttpServer(ServerConfig(http_port=0), joined, refusal, cohort=cohort)
    port = await server.start()
    clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(2)]
    loop = asyncio.get_running_loop()
    try:
        for client in clients:
            client.setblocking(False)
        await until(lambda: server.connections == 2)
        joined.then = lambda: clients[0].sendall(more)
        for client in clients:  # both are read before either is answered
            client.sendall(b"GET /1 HTTP/1.1\r\nHost: x\r\n\r\n")
        got = b""
        async with asyncio.timeout(5):
            while piece := await loop.sock_recv(clients[0], 65_536):
                got += piece
        statuses = re.findall(rb"HTTP/1\.1 (\d+)", got)
        assert statuses == [b"200", b"400" if b"BREW" in more else b"200"]
        assert b"GET /1 " in got and b"200 OK" in await asyncio.wait_for(loop.sock_recv(clients[1], 65_536), 5)
    finally:
        for client in clients:
            client.close()
        await server.stop(1)


async def test_the_last_replies_of_several_are_whole() -> None:
    server = HttpServer(ServerConfig(http_port=0), Echo(), refusal, cohort=Cohort())
    port = await server.start()
    try:
        asked = [f"GET /{n} HTTP/1.1\r\n".encode() + LAST + b"\r\n" for n in range(20)]
        for n, answer in enumerate(await asyncio.gather(*(talk(port, each) for each in asked))):
            assert answer.startswith(b"HTTP/1.1 200 OK") and answer.endswith(b"GET /%d " % n)
    finally:
        await server.stop(1)
