"""Requests that have come in the same moment take each step together, one after the other, before the next step.

The code of a step is then in the processor's caches for all of them but the first (cohort scheduling: Larus and Parkes,
USENIX 2002). Whoever came alone goes on at once. Decides no order: that is the event loop's, and stays as it was.
"""

from __future__ import annotations

import types
from collections.abc import Generator


class Cohort:
    """Who lets a request or its answer in says `joined`; the request asks `several`, then awaits `turn` between steps.

    A wrong answer costs microseconds and nothing else, so nobody has to be taken out again.
    """

    __slots__ = ("_coming", "_size")

    def __init__(self) -> None:
        self._coming = False
        self._size = 0

    def joined(self) -> None:
        """A request is ready to go on. The network is read before any of them does."""
        if self._coming:
            self._size += 1
        else:
            self._coming, self._size = True, 1

    def several(self) -> bool:
        """Have others come in the same moment?"""
        self._coming = False
        return self._size > 1


@types.coroutine
def turn() -> Generator[None, None, None]:
    """Let the others come as far. As `asyncio.sleep(0)`, without a coroutine of its own."""
    yield
