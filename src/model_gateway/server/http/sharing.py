"""One listening socket for several processes: decides which of them accepts a connection.

Whoever has the fewest connections should: otherwise the process that wakes first takes them all, and one core works
for two. A process that has more than another leaves a connection alone for `PATIENCE_S`, and takes it then: the other
may be gone, or busy.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Final

import structlog

PATIENCE_S: Final = 0.002
PAUSE_S: Final = 1.0  # when there are no descriptors left
NOBODY: Final = 1 << 40
"""What stands in the slot of a process that accepts nothing."""

_log = structlog.get_logger("model_gateway.http")


class Sharing:
    """`counts`: how many connections each process has, in memory that all of them share; `slot`: this one's place."""

    def __init__(self, counts: memoryview, slot: int) -> None:
        self._counts = counts
        self._slot = slot

    def tell(self, connections: int) -> None:
        self._counts[self._slot] = connections

    def may_accept(self, connections: int) -> bool:
        self._counts[self._slot] = connections
        return connections <= min(self._counts)


class SharedListener:
    """As much of asyncio.Server as its users need. One connection at a time. `count`: the connections of now."""

    def __init__(
        self,
        listener: socket.socket,
        sharing: Sharing,
        protocol: Callable[[], asyncio.Protocol],
        count: Callable[[], int],
    ) -> None:
        self._listener = listener
        self._sharing = sharing
        self._protocol = protocol
        self._count = count
        self._loop = asyncio.get_running_loop()
        self._later: asyncio.TimerHandle | None = None
        self._greeted: set[asyncio.Task[None]] = set()
        self._listen()

    def close(self) -> None:
        """No further connections."""
        self._sharing.tell(NOBODY)
        if self._later is not None:
            self._later.cancel()
        self._loop.remove_reader(self._listener.fileno())
        self._listener.close()

    async def wait_closed(self) -> None:
        if self._greeted:
            await asyncio.wait(self._greeted)

    def _listen(self) -> None:
        self._later = None
        self._loop.add_reader(self._listener.fileno(), self._look)

    def _look(self) -> None:
        if self._sharing.may_accept(self._count() + len(self._greeted)):
            self._accept()
        else:
            self._wait(PATIENCE_S, self._accept_now)

    def _accept_now(self) -> None:
        self._listen()
        self._accept()

    def _accept(self) -> None:
        try:
            client, _address = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return  # another one has it
        except OSError as error:
            _log.error("cannot accept connections", reason=str(error))
            self._wait(PAUSE_S, self._listen)
            return
        client.setblocking(False)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        task = self._loop.create_task(self._greet(client))
        self._greeted.add(task)
        task.add_done_callback(self._greeted.discard)

    async def _greet(self, client: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._protocol, client)
        except OSError:
            client.close()

    def _wait(self, seconds: float, what: Callable[[], None]) -> None:
        self._loop.remove_reader(self._listener.fileno())
        self._later = self._loop.call_later(seconds, what)
