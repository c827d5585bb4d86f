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
from typing import Final

import structlog

from model_gateway.tls.door import TlsDoor
from model_gateway.tls.spoken import alert_of

BACKLOG: Final = 4096
_AT_ONCE: Final = 64  # accepted in one turn of the loop
_PAUSE_S: Final = 1.0  # when there are no descriptors left
_HANDSHAKE: Final = 0x16  # how every TLS connection begins

_log = structlog.get_logger("model_gateway.tls")


class TlsListener:
    """As much of asyncio.Server as its users need. `plain`: the reply to a request that is not encrypted."""

    def __init__(
        self,
        listener: socket.socket,
        door: TlsDoor,
        protocol: Callable[[], asyncio.Protocol],
        *,
        most: int,
        handshake_s: float,
        shutdown_s: float,
        plain: bytes,
    ) -> None:
        """`most` may be in the handshake; more are closed at once."""
        self._listener = listener
        self._door = door
        self._protocol = protocol
        self._most = most
        self._handshake_s = handshake_s
        self._shutdown_s = shutdown_s
        self._plain = plain
        self._loop = asyncio.get_running_loop()
        self._greeted: set[asyncio.Task[None]] = set()
        self._paused: asyncio.TimerHandle | None = None
        listener.setblocking(False)
        listener.listen(BACKLOG)
        self._resume()

    def close(self) -> None:
        """No further connections; those in the handshake are given up."""
        if self._paused is not None:
            self._paused.cancel()
        if self._listener.fileno() >= 0:
            self._loop.remove_reader(self._listener.fileno())
            self._listener.close()
        for task in self._greeted:
            task.cancel()

    async def wait_closed(self) -> None:
        if self._greeted:
            await asyncio.wait(self._greeted)

    def _resume(self) -> None:
        self._paused = None
        self._loop.add_reader(self._listener.fileno(), self._accept)

    def _accept(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                client, _address = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                _log.error("cannot accept connections", reason=str(error))
                self._loop.remove_reader(self._listener.fileno())
                self._paused = self._loop.call_later(_PAUSE_S, self._resume)
                return
            if len(self._greeted) >= self._most:
                client.close()
                continue
            client.setblocking(False)
            task = self._loop.create_task(self._greet(client))
            self._greeted.add(task)
            task.add_done_callback(self._greeted.discard)

    async def _greet(self, client: socket.socket) -> None:
        """From the first byte to the end of the handshake."""
        ours, spare = True, None
        try:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            until = self._loop.time() + self._handshake_s
            first = await self._first_byte(client)
            if first == _HANDSHAKE:
                ours, spare = False, client.dup()  # the transport has closed its own when a handshake has failed
                await self._loop.connect_accepted_socket(
                    self._protocol,
                    client,
                    ssl=self._door.current.context,
                    ssl_handshake_timeout=max(0.1, until - self._loop.time()),
                    ssl_shutdown_timeout=self._shutdown_s,
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

    async def _first_byte(self, client: socket.socket) -> int:
        """Left where it is; 0 where the client has gone. Raises OSError, also when it takes too long."""
        readable = self._loop.create_future()
        self._loop.add_reader(client.fileno(), _wake, readable)
        try:
            async with asyncio.timeout(self._handshake_s):
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
