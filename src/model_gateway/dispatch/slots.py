"""The places of one provider: `maxConcurrentQueries` calls at once, and a bounded queue, first come, first served.

A place that becomes free is handed to the one who waits longest, never past it. A waiter that leaves gives up its turn,
or passes on the place that had just been given to it: no place is ever lost.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque

from model_gateway.domain.route import Load


class Slots:
    """`load` is written here and read by the router."""

    __slots__ = ("_queue", "_size", "_waiters", "load")

    def __init__(self, size: int, queue: int) -> None:
        self.load = Load(room=queue)
        self._size = size
        self._queue = queue
        self._waiters: deque[asyncio.Future[None]] = deque()

    def take(self) -> bool:
        """A place now, or False."""
        load = self.load
        if load.in_flight >= self._size:
            return False
        load.in_flight += 1
        load.full = load.in_flight >= self._size
        return True

    async def wait(self, timeout_s: float) -> bool:
        """A place, in turn; False when the queue is full or the time ran out."""
        if self.take():
            return True
        if len(self._waiters) >= self._queue:
            return False
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(turn)
        self._count()
        try:
            async with asyncio.timeout(timeout_s):
                await turn
        except BaseException as error:
            given = turn.done() and not turn.cancelled()
            if not given:
                with contextlib.suppress(ValueError):  # give_back has dropped it already
                    self._waiters.remove(turn)
                self._count()
            if isinstance(error, TimeoutError):
                return given  # the place may have come in the very moment that the time ran out
            if given:
                self.give_back()
            raise
        return True

    def give_back(self) -> None:
        while self._waiters:
            turn = self._waiters.popleft()
            if not turn.done():
                # The place changes hands: in_flight stays.
                turn.set_result(None)
                self._count()
                return
        self._count()
        self.load.in_flight -= 1
        self.load.full = False

    def _count(self) -> None:
        self.load.waiting = len(self._waiters)
        self.load.room = self._queue - len(self._waiters)
