"""Accepts connections from a socket that listens already: a loop of our own, where asyncio's server falls short.

asyncio takes as many connections as there are, which starves the other processes on a shared socket, and holds one
context of TLS for its whole life. Decides when to accept and how many at once. What is spoken then: `_connect`.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Final

import structlog

from model_gateway.sockets.sharing import NOBODY, PATIENCE_S, Sharing

PAUSE_S: Final = 1.0  # when there are no descriptors left
GREETING_S: Final = 1.0
"""How long a closed listener waits for those that it has accepted and that are not connected yet."""

_AT_ONCE: Final = 64  # accepted in one turn of the loop

_log = structlog.get_logger("model_gateway.sockets")


class Listener:
    """As much of asyncio.Server as its users need. `count`: the connections of now, where the socket is shared."""

    def __init__(
        self,
        listener: socket.socket,
        protocol: Callable[[], asyncio.Protocol],
        sharing: Sharing | None = None,
        count: Callable[[], int] = int,
    ) -> None:
        self._listener = listener
        self._protocol = protocol
        self._sharing = sharing
        self._count = count
        self._loop = asyncio.get_running_loop()
        self._later: asyncio.TimerHandle | None = None
        self._greeted: set[asyncio.Task[None]] = set()
        self._closed = False
        listener.setblocking(False)
        if sharing is not None:
            sharing.tell(0)  # from now on the others wait for this one, too
        self._listen()

    def close(self) -> None:
        """No further connections."""
        if self._closed:
            return
        self._closed = True
        if self._sharing is not None:
            self._sharing.tell(NOBODY)
        if self._later is not None:
            self._later.cancel()
        self._loop.remove_reader(self._listener.fileno())
        self._listener.close()

    async def wait_closed(self) -> None:
        """Until all that were accepted are connected; who takes too long is given up."""
        if not self._greeted:
            return
        _, late = await asyncio.wait(self._greeted, timeout=GREETING_S)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)

    async def _connect(self, client: socket.socket) -> None:
        """`client` is this one's to close."""
        try:
            await self._loop.connect_accepted_socket(self._protocol, client)
        except OSError:
            client.close()

    def _room(self) -> bool:
        """May one more be connected at the same time? It is closed where not."""
        return True

    def _listen(self) -> None:
        self._later = None
        self._loop.add_reader(self._listener.fileno(), self._look)

    def _look(self) -> None:
        if self._sharing is None:
            for _ in range(_AT_ONCE):
                if not self._accept():
                    return
        elif self._sharing.may_accept(self._count() + len(self._greeted)):
            self._accept()
        else:
            self._wait(PATIENCE_S, self._accept_now)

    def _accept_now(self) -> None:
        self._listen()
        self._accept()

    def _accept(self) -> bool:
        """One connection. False where there is none."""
        try:
            client, _address = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return False  # gone, or another process has it
        except OSError as error:
            _log.error("cannot accept connections", reason=str(error))
            self._wait(PAUSE_S, self._listen)
            return False
        if not self._room():
            client.close()
            return True
        client.setblocking(False)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        task = self._loop.create_task(self._connect(client))
        self._greeted.add(task)
        task.add_done_callback(self._greeted.discard)
        return True

    def _wait(self, seconds: float, what: Callable[[], None]) -> None:
        self._loop.remove_reader(self._listener.fileno())
        self._later = self._loop.call_later(seconds, what)
