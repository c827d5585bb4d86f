"""Memory that all workers of one gateway share: decides what stands where in it. It lives as long as they do.

One writer for each number: a worker its own slot, the supervisor the slots of those who have gone.
"""

from __future__ import annotations

import mmap
import os
from typing import Final

from model_gateway.admission.shared import SharedRooms, memory_of
from model_gateway.sessions import table
from model_gateway.sockets.sharing import NOBODY, Sharing

SLOTS: Final = 256
"""Workers at once, those that drain beside their successors included."""

_INT: Final = 8


class Board:
    """`descriptors`: of the memory, to be inherited."""

    def __init__(self, descriptor: int, limits: int, sessions: int) -> None:
        self.descriptors = (descriptor, limits, sessions)
        self._limits: SharedRooms | None = None
        self._memory = mmap.mmap(descriptor, SLOTS * _INT)
        self._connections = memoryview(self._memory).cast("q")[:SLOTS]

    @classmethod
    def made(cls) -> Board:
        descriptor = os.memfd_create("model-gateway-board")
        os.ftruncate(descriptor, SLOTS * _INT)
        board = cls(descriptor, memory_of(SLOTS), table.memory_of())
        for slot in range(SLOTS):
            board.clear(slot)
        return board

    def rooms(self, slot: int) -> SharedRooms:
        """Where a worker counts what keys use of their limits."""
        return SharedRooms(self.descriptors[1], slot, SLOTS)

    def sessions(self) -> table.SessionTable:
        """What all workers remember of conversations."""
        return table.SessionTable(self.descriptors[2])

    def clear(self, slot: int) -> None:
        """Nobody is there any more."""
        self._connections[slot] = NOBODY
        self._limits = self._limits or self.rooms(slot)
        self._limits.clear(slot)

    def connections(self, slot: int) -> int:
        """HTTP connections of a worker; 0 where it accepts none."""
        count = self._connections[slot]
        return 0 if count == NOBODY else count

    def sharing(self, slot: int) -> Sharing:
        return Sharing(self._connections, slot)

    def close(self) -> None:
        self._connections.release()
        for descriptor in self.descriptors:
            os.close(descriptor)
