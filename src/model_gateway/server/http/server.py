"""The HTTP door's listening socket: accepts, sweeps deadlines, drains. Knows no path."""

from __future__ import annotations

import asyncio
import errno
import socket
from typing import cast

from model_gateway.config.errors import StartupError
from model_gateway.config.schema import ServerConfig
from model_gateway.domain.errors import Overloaded
from model_gateway.server.http.protocol import Handler, HttpConnection, Limits, Refusal
from model_gateway.server.http.secure import SecureConnection, listen_with_tls
from model_gateway.tls.door import TlsDoor
from model_gateway.tls.listener import TlsListener

SWEEP_S = 0.5
BACKLOG = 4096


class HttpServer:
    """One listening socket and its connections."""

    def __init__(self, config: ServerConfig, handler: Handler, refusal: Refusal, tls: TlsDoor | None = None) -> None:
        self._config = config
        self._tls = tls
        self._handler = handler
        self._refusal = refusal
        self._limits = Limits(
            header_bytes=config.max_header_size,
            body_bytes=config.max_body_size,
            header_s=config.header_timeout / 1000,
            body_s=config.body_timeout / 1000,
            idle_s=config.idle_timeout / 1000,
        )
        self._connections: set[HttpConnection] = set()
        self._server: asyncio.Server | TlsListener | None = None
        self._sweeper: asyncio.TimerHandle | None = None

    async def start(self) -> int:
        """Listen and return the port. Raises StartupError when that is impossible."""
        loop = asyncio.get_running_loop()
        listener = listen(self._config.host, self._config.http_port, "HTTP", "HTTP_PORT or server.httpPort")
        if self._tls is None:
            self._server = await loop.create_server(lambda: self._accept(loop), sock=listener, backlog=BACKLOG)
        else:
            self._server = listen_with_tls(listener, self._tls, lambda: self._accept(loop), self._config, self._refusal)
        self._sweeper = loop.call_later(SWEEP_S, self._sweep, loop)
        return int(listener.getsockname()[1])

    def _accept(self, loop: asyncio.AbstractEventLoop) -> asyncio.Protocol:
        if len(self._connections) >= self._config.max_connections:
            return _Full(self._refusal)
        if self._tls is None:
            return HttpConnection(loop, self._handler, self._refusal, self._limits, self._connections)
        identity = self._config.tls.client_identity
        return SecureConnection(loop, self._handler, self._refusal, self._limits, self._connections, identity)

    @property
    def connections(self) -> int:
        return len(self._connections)

    async def stop(self, grace_s: float) -> None:
        """Stop listening, let requests in flight finish for `grace_s` seconds, then cut what is left."""
        if self._server is not None:
            self._server.close()
        for connection in tuple(self._connections):
            connection.close_when_idle()
        loop = asyncio.get_running_loop()
        until = loop.time() + grace_s
        while self._connections and loop.time() < until:  # noqa: ASYNC110 (once per process life: no event is worth it)
            await asyncio.sleep(0.02)
        for connection in tuple(self._connections):
            connection.transport.abort()
        if self._sweeper is not None:
            self._sweeper.cancel()
        while self._connections:  # noqa: ASYNC110 (aborted transports report on the next turn of the loop)
            await asyncio.sleep(0)

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for connection in tuple(self._connections):
            if connection.deadline and now >= connection.deadline:
                connection.deadline = 0.0
                connection.expire()
        self._sweeper = loop.call_later(SWEEP_S, self._sweep, loop)


class _Full(asyncio.Protocol):
    """What a connection beyond the limit gets: a 503, at once."""

    def __init__(self, refusal: Refusal) -> None:
        self._refusal = refusal

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        body = self._refusal(Overloaded("the gateway has too many open connections; try again soon"), 503)
        head = b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 1\r\n"
        writable = cast(asyncio.WriteTransport, transport)  # which uvloop's transport for TLS is, and does not say
        writable.write(head + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        writable.close()


def listen(host: str, port: int, door: str, option: str) -> socket.socket:
    """A bound socket, or a StartupError that says which option to change."""
    listener: socket.socket | None = None
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        # The protocol is named on purpose: asyncio switches Nagle's delay off only where it sees TCP.
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError as error:
        if listener is not None:
            listener.close()
        if error.errno == errno.EADDRINUSE:
            raise StartupError(
                f"the {door} port {port} on {host} is already in use", f"stop the other program or set {option}"
            ) from None
        if error.errno == errno.EACCES:
            raise StartupError(
                f"no permission to listen on {door} port {port}", f"choose a port above 1023 with {option}"
            ) from None
        raise StartupError(
            f"cannot listen on {host}:{port} for {door}: {error.strerror or error}", f"check server.host and {option}"
        ) from None
    listener.setblocking(False)
    return listener
