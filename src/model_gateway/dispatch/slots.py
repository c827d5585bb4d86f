"""The places of one provider: `maxConcurrentQueries` calls at once, and a bounded queue in which tenants take turns.

A place that becomes free goes to the tenant whose turn it is, there to the one who waits longest; each tenant that
waits gets one before any gets a second. (That is deficit round robin where each turn costs the same: one place.) When
the queue is full, a tenant with fewer waiters takes the last place of the tenant with the most: so whoever floods the
queue is refused, and not those who come after. A waiter that leaves gives up its turn, or passes on the place that had
just been given to it: no place is ever lost.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict, deque

from model_gateway.domain.route import Load


class Slots:
    """`load` is written here and read by the router."""

    __slots__ = ("_lines", "_queue", "_size", "load")

    def __init__(self, size: int, queue: int) -> None:
        self.load = Load(room=queue)
        self._size = size
        self._queue = queue
        self._lines: OrderedDict[str, deque[asyncio.Future[bool]]] = OrderedDict()  # by tenant; the first is next

    def resize(self, size: int, queue: int) -> None:
        """From now on there are so many. Who has a place keeps it; who waits may come in at once."""
        grown = size - self._size
        self._size, self._queue = size, queue
        load = self.load
        load.room = queue - load.waiting
        load.full = load.in_flight >= size
        for _ in range(min(grown, load.waiting)):
            load.in_flight += 1  # a place for give_back to hand on
            self.give_back()
            load.full = load.in_flight >= size
        if load.news is not None:
            load.news.tell(load)

    def take(self) -> bool:
        """A place now, or False."""
        load = self.load
        if load.in_flight >= self._size:
            return False
        load.in_flight += 1
        load.full = load.in_flight >= self._size
        if load.news is not None:
            load.news.tell(load)
        return True

    async def wait(self, timeout_s: float, tenant: str = "", most: int = 0) -> bool:
        """A place, in turn; False when the queue is full or the time ran out.

        `most`: so many of the tenant's may wait here, 0: as many as there is room for.
        """
        if self.take():
            return True
        load = self.load
        if (most and load.tenants.get(tenant, 0) >= most) or not load.has_room_for(tenant):
            return False
        if load.room <= 0:
            self._push_out()
        turn: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._lines.setdefault(tenant, deque()).append(turn)
        self._count(tenant, 1)
        try:
            async with asyncio.timeout(timeout_s):
                return await turn
        except BaseException as error:
            given = turn.done() and not turn.cancelled() and turn.result()
            if not given:
                self._leave(tenant, turn)
            if isinstance(error, TimeoutError):
                return given  # the place may have come in the very moment that the time ran out
            if given:
                self.give_back()
            raise

    def give_back(self) -> None:
        lines, load = self._lines, self.load
        while lines and load.in_flight <= self._size:
            tenant, line = next(iter(lines.items()))
            turn = line.popleft()
            if line:
                lines.move_to_end(tenant)
            else:
                del lines[tenant]
            self._count(tenant, -1)
            if not turn.done():
                # The place changes hands: in_flight stays.
                turn.set_result(True)
                return
        load.in_flight -= 1
        load.full = load.in_flight >= self._size
        if load.news is not None:
            load.news.tell(load)

    def _push_out(self) -> None:
        """The one who came last of the tenant that has the most waiting."""
        tenant = max(self._lines, key=lambda name: len(self._lines[name]))
        turn = self._lines[tenant].pop()
        self._count(tenant, -1)
        if not turn.done():
            turn.set_result(False)

    def _leave(self, tenant: str, turn: asyncio.Future[bool]) -> None:
        line = self._lines.get(tenant)
        if line is None:
            return
        with contextlib.suppress(ValueError):  # give_back or _push_out has dropped it already
            line.remove(turn)
            self._count(tenant, -1)
        if not line:
            del self._lines[tenant]

    def _count(self, tenant: str, change: int) -> None:
        load = self.load
        load.waiting += change
        load.room = self._queue - load.waiting
        left = load.tenants.get(tenant, 0) + change
        if left:
            load.tenants[tenant] = left
        else:
            del load.tenants[tenant]
