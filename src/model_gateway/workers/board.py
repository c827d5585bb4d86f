"""Memory that all workers of one gateway share: decides what stands where in it. It lives as long as they do.

One writer for each number: a worker its own slot, the supervisor the slots of those who have gone.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from typing import Final

from model_gateway.sockets.sharing import NOBODY, Sharing

SLOTS: Final = 256
"""Workers at once, those that drain beside their successors included."""

_INT: Final = 8


class Board:
    """`descriptor`: of the memory, to be inherited."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._memory = mmap.mmap(descriptor, SLOTS * _INT)
        self._connections = memoryview(self._memory).cast("q")[:SLOTS]

    @classmethod
    def made(cls) -> Board:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
        os.ftruncate(descriptor, SLOTS * _INT)
        board = cls(descriptor)
        for slot in range(SLOTS):
            board.clear(slot)
        return board

    def clear(self, slot: int) -> None:
        """Nobody is there any more."""
        self._connections[slot] = NOBODY

    def connections(self, slot: int) -> int:
        """HTTP connections of a worker; 0 where it accepts none."""
        count = self._connections[slot]
        return 0 if count == NOBODY else count

    def sharing(self, slot: int) -> Sharing:
        return Sharing(self._connections, slot)

    def close(self) -> None:
        self._connections.release()
        os.close(self.descriptor)
