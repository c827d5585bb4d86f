"""Requests that have come in the same moment take each step together, one after the other, before the next step.

The code of a step is then in the processor's caches for all of them but the first (cohort scheduling: Larus and Parkes,
USENIX 2002), and whoever reads what they write is woken once. Who came alone goes on at once. Decides no order: that is
the event loop's, and stays as it was.
"""

from __future__ import annotations

import asyncio
import types
from collections.abc import Generator
from itertools import groupby
from operator import itemgetter
from typing import Final

MOST_UNSENT: Final = 64
MOST_BYTES: Final = 16_384  # of a piece that waits


class Cohort:
    """Who lets something in that is gone on with says `joined`; a request asks `several`, and then takes its turns."""

    __slots__ = ("_coming", "_size", "unsent")

    def __init__(self) -> None:
        self._coming = False
        self._size = 0
        self.unsent: list[tuple[asyncio.WriteTransport, bytes]] = []

    def joined(self) -> None:
        """A request, an answer or a piece of one has come. The network is read before anybody goes on."""
        if self._coming:
            self._size += 1
        else:
            self._coming, self._size = True, 1
            asyncio.get_running_loop().call_soon(self._complete)

    def _complete(self) -> None:
        """Before any of them goes on."""
        self._coming = False

    def several(self) -> bool:
        """Did others come in the same moment as those who go on now?"""
        return self._size > 1

    def send(self, transport: asyncio.WriteTransport, data: bytes) -> None:
        """Write it: in the loop's next turn where others have come in the same moment, with what they write meanwhile.

        Nothing overtakes here what is `unsent`. Who writes past this, or ends a connection, calls `flush` before.
        """
        if not self.unsent:
            if self._size < 2:
                transport.write(data)
                return
            asyncio.get_running_loop().call_soon(self.flush)
        self.unsent.append((transport, data))
        if len(self.unsent) >= MOST_UNSENT or len(data) > MOST_BYTES:
            self.flush()  # who writes without end is only told to pause by what the transport has

    def flush(self) -> None:
        """Write what is still to be written."""
        if not self.unsent:
            return
        unsent, self.unsent = self.unsent, []
        for transport, some in groupby(unsent, _transport):
            if not transport.is_closing():
                transport.write(b"".join([data for _, data in some]))


_transport = itemgetter(0)


@types.coroutine
def turn() -> Generator[None, None, None]:
    """Let the others come as far. As `asyncio.sleep(0)`, without a coroutine of its own."""
    yield
