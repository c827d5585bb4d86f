"""One listening socket for several processes: decides which of them accepts a connection.

Whoever has the fewest connections should: otherwise the process that wakes first takes them all, and one core works
for two. A process that has more than another leaves a connection alone for `PATIENCE_S`, and takes it then: the other
may be gone, or busy.
"""

from __future__ import annotations

from typing import Final

PATIENCE_S: Final = 0.005
NOBODY: Final = 1 << 40
"""What stands in the slot of a process that accepts nothing."""


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
