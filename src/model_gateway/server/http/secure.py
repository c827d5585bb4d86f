"""The HTTP door over TLS: who the client's certificate says it is, and an end that does not wait for the client's.

Decides nothing about a request. The handshake is the listener's (tls/listener.py).
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from model_gateway.cohort import Cohort
from model_gateway.config.schema import ServerConfig
from model_gateway.domain.errors import InvalidRequest
from model_gateway.server.http.protocol import Handler, HttpConnection, Refusal
from model_gateway.server.http.request import Limits
from model_gateway.sockets.sharing import Sharing
from model_gateway.tls.door import TlsDoor
from model_gateway.tls.identity import from_certificate
from model_gateway.tls.listener import Handshakes, TlsListener

GOODBYE_S = 1.0


class SecureConnection(HttpConnection):
    """`identity`: as in `server.tls.client_identity`."""

    __slots__ = ("_identity",)

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        handler: Handler,
        refusal: Refusal,
        limits: Limits,
        connections: set[HttpConnection],
        cohort: Cohort,
        identity: str,
    ) -> None:
        super().__init__(loop, handler, refusal, limits, connections, cohort)
        self._identity = identity

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self._identity != "none":
            self.identities = from_certificate(transport.get_extra_info("peercert"), self._identity)

    def expire(self) -> None:
        """A client that keeps the connection in its pool reads no goodbye, and answers none."""
        super().expire()
        if not self.busy and not self.transport.get_write_buffer_size():
            self._loop.call_later(GOODBYE_S, self.transport.abort)


def handshakes_of(config: ServerConfig) -> Handshakes:
    return Handshakes(config.max_connections, config.header_timeout / 1000, config.body_timeout / 1000)


def listen_with_tls(
    listener: socket.socket,
    tls: TlsDoor,
    protocol: Callable[[], asyncio.Protocol],
    config: ServerConfig,
    refusal: Refusal,
    sharing: Sharing | None,
    count: Callable[[], int],
) -> TlsListener:
    body = refusal(InvalidRequest("this port speaks TLS: use https"), 400)
    head = b"HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nConnection: close\r\n"
    return TlsListener(
        listener,
        tls,
        protocol,
        handshakes=handshakes_of(config),
        sharing=sharing,
        count=count,
        plain=head + b"Content-Length: %d\r\n\r\n" % len(body) + body,
    )
