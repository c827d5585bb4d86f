"""The control plane over TLS: uvicorn's protocols behind our own listener, which takes new certificates as they come.

Decides nothing about a request.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable
from typing import Any, Final

from model_gateway.control.asgi import Server
from model_gateway.tls.door import TlsDoor
from model_gateway.tls.identity import from_certificate
from model_gateway.tls.listener import Handshakes, TlsListener

_HANDSHAKES: Final = Handshakes(256, 10.0, 1.0)  # probes and scrapers may keep connections and answer no goodbye
_TEXT: Final = b"this port speaks TLS: use https\n"
_PLAIN: Final = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(_TEXT) + _TEXT


def listen_with_tls(server: Server, tls: TlsDoor, sockets: Iterable[socket.socket]) -> None:
    """Serve on the sockets as `server` would without TLS; it closes what is added to it here when it stops.

    Its requests' `state` tells the common name of the client's certificate, as `client_name`.
    """
    make: Any = server.config.http_protocol_class
    servers: list[Any] = server.servers  # it knows only asyncio's own

    def protocol() -> asyncio.Protocol:
        state: dict[str, Any] = {**server.lifespan.state}
        speaking = make(config=server.config, server_state=server.server_state, app_state=state)
        begin = speaking.connection_made

        def connection_made(transport: asyncio.Transport) -> None:
            names = from_certificate(transport.get_extra_info("peercert"), "common_name")
            state["client_name"] = names[0] if names else ""
            begin(transport)

        speaking.connection_made = connection_made
        return speaking

    servers += [
        TlsListener(
            listener,
            tls,
            protocol,
            handshakes=_HANDSHAKES,
            plain=_PLAIN,
        )
        for listener in sockets
    ]
