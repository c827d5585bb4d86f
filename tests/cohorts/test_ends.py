"""What waits to be written together is written before anything ends the connection, or counts by it."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from model_gateway.config.schema import ServerConfig
from model_gateway.server.grpc.http2 import frames
from model_gateway.server.grpc.server import GrpcServer
from model_gateway.server.http.errors import refusal
from model_gateway.server.http.protocol import HttpConnection
from model_gateway.server.http.request import Request
from model_gateway.server.http.server import HttpServer
from raw_http2 import query
from scripted_gateway import ScriptedGateway
from upstream import until

Then = Callable[[], None]


async def said(client: socket.socket, enough: bytes = b"") -> bytes:
    """To the end, or until `enough` was said."""
    got, loop = b"", asyncio.get_running_loop()
    async with asyncio.timeout(5):
        while piece := await loop.sock_recv(client, 65_536):
            got += piece
            if enough and enough in got:
                break
    return got


class Answering:
    """Answers at once; `then` comes between the first answer and the second, in the same moment."""

    then: Then | None = None

    async def __call__(self, http: Request, connection: HttpConnection) -> None:
        if http.target == "/1" and self.then is not None:
            self.then()
        connection.respond(200, b"", b"this is " + http.target.encode(), http)


@asynccontextmanager
async def two_clients(answering: Answering, **options: Any) -> AsyncGenerator[list[socket.socket]]:
    server = HttpServer(ServerConfig(http_port=0, **options), answering, refusal)
    port = await server.start()
    clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(2)]
    for client in clients:
        client.setblocking(False)
    await until(lambda: server.connections == 2)
    try:
        yield clients
    finally:
        for client in clients:
            client.close()
        await server.stop(0.1)


def ask(clients: list[socket.socket], more: bytes = b"") -> None:
    for number, client in enumerate(clients):  # all are read before any is answered
        client.sendall(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % number + more)


async def test_a_client_that_says_nothing_more_is_answered() -> None:
    answering = Answering()
    async with two_clients(answering) as clients:
        for _ in range(2):  # alone, once and again: it is as with others
            ask(clients)
            assert [b"this is" in await said(client, b"this is") for client in clients] == [True, True]

        def end() -> None:
            for client in clients:
                client.shutdown(socket.SHUT_WR)

        answering.then = end
        ask(clients)
        assert [(await said(client))[-10:] for client in clients] == [b"this is /0", b"this is /1"]


async def test_one_alone_that_says_nothing_more_is_answered() -> None:
    async with two_clients(Answering()) as clients:
        for client in clients:
            client.sendall(b"GET /alone HTTP/1.1\r\nHost: x\r\n\r\n")
            client.shutdown(socket.SHUT_WR)
            assert (await said(client)).endswith(b"this is /alone")


@pytest.mark.parametrize("more", [b"", b"GET /2 HTT"], ids=["idle", "in the middle of another request"])
async def test_who_was_too_late_while_the_loop_was_busy_is_answered(more: bytes) -> None:
    answering = Answering()
    async with two_clients(answering, idle_timeout=300, body_timeout=300) as clients:
        answering.then = lambda: time.sleep(0.7)
        ask(clients, more)
        for number, client in enumerate(clients):
            assert b"this is /%d" % number in await said(client)


@pytest.mark.parametrize("how", ["settings", "end", "goodbye"])
async def test_replies_to_calls_come_before_what_happens_next(monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    gateway = ScriptedGateway()
    whole, waiting = gateway.complete, list[bool]()

    async def complete(*given: Any) -> Any:
        reply = await whole(*given)
        if not waiting:
            waiting.append(True)
            if how == "end":
                client.shutdown(socket.SHUT_WR)
            elif how == "goodbye":
                [connection] = door._connections
                connection._say_last()
            else:
                client.sendall(frames.settings({frames.INITIAL_WINDOW_SIZE: 0}))
        return reply

    monkeypatch.setattr(gateway, "complete", complete)
    door = GrpcServer(gateway, ServerConfig(port=0))  # pyright: ignore[reportArgumentType]
    client = socket.create_connection(("127.0.0.1", await door.start()))
    try:
        client.setblocking(False)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.sendall(frames.PREFACE + frames.settings({}))
        acknowledged = frames.frame(frames.SETTINGS, frames.ACK, 0)
        await said(client, acknowledged)
        client.sendall(query(1) + query(3))
        got = await said(client, acknowledged if how == "settings" else b"")
    finally:
        client.close()
        await door.stop(0)
    assert got.count(b"an answer") == 2
    assert how != "settings" or got.rindex(b"an answer") < got.index(acknowledged)
