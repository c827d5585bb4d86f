"""Accepts connections that speak TLS, each with the context that is current then.

asyncio's own server holds one context for its life: what a new one no longer trusts could come back by resuming a
session of the old one. Decides what happens before a protocol has its connection: how many may be in the handshake, and
for how long; a first byte that is no handshake's is told so where it looks like HTTP. Never reads what was encrypted.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Final, NamedTuple

import structlog

from model_gateway.sockets.listener import Listener
from model_gateway.sockets.sharing import Sharing
from model_gateway.tls.door import TlsDoor
from model_gateway.tls.spoken import alert_of

_HANDSHAKE: Final = 0x16  # how every TLS connection begins

_log = structlog.get_logger("model_gateway.tls")


class Handshakes(NamedTuple):
    """`most` at once, more are closed; `begin_s` for one, `end_s` for a client to answer our goodbye."""

    most: int
    begin_s: float
    end_s: float


class TlsListener(Listener):
    """`plain`: the reply to a request that is not encrypted. `handshakes` may be replaced at any time."""

    def __init__(
        self,
        listener: socket.socket,
        door: TlsDoor,
        protocol: Callable[[], asyncio.Protocol],
        *,
        handshakes: Handshakes,
        plain: bytes,
        sharing: Sharing | None = None,
        count: Callable[[], int] = int,
        http2: bool = False,
    ) -> None:
        self._http2 = http2
        self.handshakes = handshakes
        self._door = door
        self._plain = plain
        super().__init__(listener, protocol, sharing, count)

    def _room(self) -> bool:
        return len(self._greeted) < self.handshakes.most

    async def _connect(self, client: socket.socket) -> None:
        """From the first byte to the end of the handshake."""
        ours, spare = True, None
        _, begin_s, end_s = self.handshakes
        try:
            until = self._loop.time() + begin_s
            first = await self._first_byte(client, begin_s)
            if first == _HANDSHAKE:
                ours, spare = False, client.dup()  # the transport has closed its own when a handshake has failed
                await self._loop.connect_accepted_socket(
                    self._protocol,
                    client,
                    ssl=self._door.current.http2 if self._http2 else self._door.current.context,
                    ssl_handshake_timeout=max(0.1, until - self._loop.time()),
                    ssl_shutdown_timeout=end_s,
                )
            elif chr(first).isupper():
                client.recv(65_536)  # what is left unread would reset the connection, and the reply with it
                _last_words(client, self._plain)
        except OSError as error:  # of the connection, of the handshake; TimeoutError is one too
            _log.debug("no TLS connection came about", section=self._door.section, reason=str(error))
            alert = alert_of(error)
            if alert and spare is not None:
                _last_words(spare, alert)
        finally:
            if spare is not None:
                spare.close()
            if ours:
                client.close()

    async def _first_byte(self, client: socket.socket, seconds: float) -> int:
        """Left where it is; 0 where the client has gone. Raises OSError, also when it takes too long."""
        readable = self._loop.create_future()
        self._loop.add_reader(client.fileno(), _wake, readable)
        try:
            async with asyncio.timeout(seconds):
                await readable
        finally:
            self._loop.remove_reader(client.fileno())
        return (client.recv(1, socket.MSG_PEEK) or b"\0")[0]


def _last_words(client: socket.socket, data: bytes) -> None:
    with contextlib.suppress(OSError):
        client.send(data)
        client.shutdown(socket.SHUT_WR)


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
