"""What a run of many paid calls may spend, and has spent, over interruptions too. Nano-USD inside.

Before a call the most that it can cost is reserved, and written beside the output; afterwards what it did cost. A call
that was cut off by a kill stays reserved for ever: nobody knows what it cost.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path


class Spending:
    """`limit_nano` None: no limit. Safe for threads. `stopped`: whoever waits gives up once it says so."""

    def __init__(self, path: Path, limit_nano: int | None, stopped: Callable[[], bool] = lambda: False) -> None:
        self._limit = limit_nano
        self._stopped = stopped
        self._changed = threading.Condition()
        self._open: dict[int, int] = {}
        self._spent = 0
        self._next = 0
        known: dict[int, int] = {}
        if path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                try:
                    number, nano = json.loads(line)
                except (ValueError, TypeError):
                    continue  # the last line of a machine that lost its power
                known[int(number)] = int(nano)
                self._next = max(self._next, int(number) + 1)
        self._spent = sum(known.values())
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.write(self._file, b"\n")

    @property
    def nano(self) -> int:
        """Spent so far, by earlier runs too; calls under way at their most."""
        with self._changed:
            return self._spent + sum(self._open.values())

    def reserve(self, most_nano: int) -> int | None:
        """A number for `settle`; None: it might pass the limit, whatever the calls under way come to."""
        with self._changed:
            while self._limit is not None and self._spent + sum(self._open.values()) + most_nano > self._limit:
                if self._stopped() or not self._open or self._spent + most_nano > self._limit:
                    return None
                self._changed.wait(1.0)
            number = self._next
            self._next += 1
            self._open[number] = most_nano
            self._write(number, most_nano)
            return number

    def settle(self, number: int, cost_nano: int | None) -> None:
        """None: nobody knows what it cost, so the most is taken."""
        with self._changed:
            most = self._open.pop(number)
            cost = most if cost_nano is None else cost_nano
            self._spent += cost
            self._write(number, cost)
            self._changed.notify_all()

    def close(self) -> None:
        os.close(self._file)

    def _write(self, number: int, nano: int) -> None:
        os.write(self._file, f"[{number}, {nano}]\n".encode())
