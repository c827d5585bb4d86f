"""How often refused tokens are written to the audit log: whoever guesses must not fill it.

Decides that of one address the first refusal is told at once, and those of the next minute as one number with the first
one after it. Pure but for what it counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

QUIET_S: Final = 60.0
MOST: Final = 1_000
"""Addresses that are counted apart; what comes from further ones is counted as of one."""

_OTHERS: Final = "others"


class Refusals:
    """`told` for each refusal, in the order of their times."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[float, int]] = {}  # by address: when it was told last, and how many came since

    def told(self, address: str, now: float) -> Iterator[int]:
        """How many to write down now: one number, or none."""
        if address not in self._seen and len(self._seen) >= MOST:
            self._seen = {each: found for each, found in self._seen.items() if now - found[0] < QUIET_S or found[1]}
            if len(self._seen) >= MOST:
                address = _OTHERS
        last, count = self._seen.get(address, (float("-inf"), 0))
        if now - last < QUIET_S:
            self._seen[address] = (last, count + 1)
            return
        self._seen[address] = (now, 0)
        yield count + 1
