"""The HTTP door's listening socket: accepts, sweeps deadlines, drains. Knows no path.

The socket may be one that several processes accept from: each takes one connection at a time, so that they share them.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Collection
from typing import Protocol, cast

from model_gateway.cohort import Cohort
from model_gateway.config.errors import StartupError
from model_gateway.config.schema import ServerConfig
from model_gateway.domain.errors import Overloaded
from model_gateway.server.http.protocol import Handler, HttpConnection, Refusal
from model_gateway.server.http.request import Limits
from model_gateway.server.http.secure import SecureConnection, handshakes_of, listen_with_tls
from model_gateway.sockets.listener import Listener
from model_gateway.sockets.sharing import Sharing
from model_gateway.tls.door import TlsDoor
from model_gateway.tls.listener import TlsListener

SWEEP_S = 0.5
BACKLOG = 4096

MOST_LINGER_S = 1.0
LINGER_PART = 0.1
"""How long a drain waits for a last request on an idle connection: at most, and as a part of its whole time."""


class HttpServer:
    """One listening socket and its connections."""

    def __init__(
        self,
        config: ServerConfig,
        handler: Handler,
        refusal: Refusal,
        tls: TlsDoor | None = None,
        cohort: Cohort | None = None,
    ) -> None:
        self._config = config
        self._tls = tls
        self._handler = handler
        self._refusal = refusal
        self._limits = _limits_of(config)
        self._connections: set[HttpConnection] = set()
        self._cohort = cohort or Cohort()
        self._server: asyncio.Server | Listener | None = None
        self._sharing: Sharing | None = None
        self._sweeper: asyncio.TimerHandle | None = None

    async def start(self) -> int:
        """Listen and return the port. Raises StartupError when that is impossible."""
        loop = asyncio.get_running_loop()
        listener = listen(self._config.host, self._config.http_port, "HTTP", "HTTP_PORT or server.httpPort")
        if self._tls is None:
            self._server = await loop.create_server(lambda: self._accept(loop), sock=listener, backlog=BACKLOG)
        else:
            listener.listen(BACKLOG)
            self._server = self._listener(listener, loop)
        self._sweeper = loop.call_later(SWEEP_S, self._sweep, loop)
        return int(listener.getsockname()[1])

    async def start_shared(self, listener: socket.socket, sharing: Sharing) -> int:
        """Accept from a socket that listens already, and from which other processes accept too."""
        loop = asyncio.get_running_loop()
        port = int(listener.getsockname()[1])
        self._sharing = sharing
        self._server = self._listener(listener, loop)
        self._sweeper = loop.call_later(SWEEP_S, self._sweep, loop)
        return port

    def _listener(self, listener: socket.socket, loop: asyncio.AbstractEventLoop) -> Listener:
        def made() -> asyncio.Protocol:
            return self._accept(loop)

        def count() -> int:
            return len(self._connections)

        if self._tls is None:
            return Listener(listener, made, self._sharing, count)
        return listen_with_tls(listener, self._tls, made, self._config, self._refusal, self._sharing, count)

    def _accept(self, loop: asyncio.AbstractEventLoop) -> asyncio.Protocol:
        if len(self._connections) >= self._config.max_connections:
            return _Full(self._refusal)
        shared = (self._handler, self._refusal, self._limits, self._connections, self._cohort)
        if self._tls is None:
            return HttpConnection(loop, *shared)
        return SecureConnection(loop, *shared, self._config.tls.client_identity)

    @property
    def connections(self) -> int:
        return len(self._connections)

    def adopt(self, config: ServerConfig, handler: Handler) -> None:
        """From the next request on `handler` answers, on open connections too; limits hold for new connections."""
        self._config, self._handler, self._limits = config, handler, _limits_of(config)
        if isinstance(self._server, TlsListener):
            self._server.handshakes = handshakes_of(config)
        for connection in self._connections:
            connection.handler = handler

    async def stop(self, grace_s: float) -> None:
        """Stop listening, let requests in flight finish for `grace_s` seconds, then cut what is left."""
        if self._server is not None:
            self._server.close()
            if isinstance(self._server, Listener):
                await self._server.wait_closed()
        self._sharing = None
        linger_s = min(MOST_LINGER_S, grace_s * LINGER_PART)
        for connection in tuple(self._connections):
            connection.end_soon(linger_s)
        loop = asyncio.get_running_loop()
        until = loop.time() + grace_s
        while self._connections and loop.time() < until:  # noqa: ASYNC110 (once per process life: no event is worth it)
            await asyncio.sleep(0.02)
        if self._sweeper is not None:
            self._sweeper.cancel()
        self._cohort.flush()
        await cut_off(self._connections)

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        if self._sharing is not None:
            self._sharing.tell(len(self._connections))
        for connection in tuple(self._connections):
            if connection.deadline and now >= connection.deadline:
                connection.deadline = 0.0
                connection.expire()
        self._sweeper = loop.call_later(SWEEP_S, self._sweep, loop)


def _limits_of(config: ServerConfig) -> Limits:
    return Limits(
        header_bytes=config.max_header_size,
        body_bytes=config.max_body_size,
        header_s=config.header_timeout / 1000,
        body_s=config.body_timeout / 1000,
        idle_s=config.idle_timeout / 1000,
    )


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


class _Connected(Protocol):
    @property
    def transport(self) -> asyncio.Transport: ...


async def cut_off(connections: Collection[_Connected]) -> None:
    """Abort them, and wait until none is left: each leaves the collection when its end is reported."""
    for connection in tuple(connections):
        connection.transport.abort()
    while connections:  # noqa: ASYNC110 (aborted transports report on the next turn of the loop)
        await asyncio.sleep(0)


def listen(host: str, port: int, door: str, option: str, *, shared: bool = False) -> socket.socket:
    """A bound socket, or a StartupError that says which option to change. `shared` with other processes that do so."""
    listener: socket.socket | None = None
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        # The protocol is named on purpose: asyncio switches Nagle's delay off only where it sees TCP.
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared and hasattr(socket, "SO_REUSEPORT"):
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
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
