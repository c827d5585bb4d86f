"""How much fits into the last 60 seconds? A sliding log: exact, and small. Pure; the caller tells the time.

What was admitted stays in the log, under the time it came, until 60 seconds later; more is admitted only while the
log's sum stays within the limit. So no 60 seconds, wherever they begin, ever hold more than the limit: all that they
hold stands in the log at the moment the last of it is admitted. A minute's boundary means nothing here, and an idle
minute saves nothing up.

To stay small, the log may join what comes within `merge_s` into one entry, under the time of the last: each part then
counts for at least its 60 seconds, and at most `merge_s` longer, so the proof holds. An entry a slice: at most
60 / merge_s + 1 of them. Unjoined, there are at most as many as the limit, since each counts for one at least.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Protocol

import msgspec

WINDOW_S = 60.0


class Level(msgspec.Struct, frozen=True):
    """`remaining` of `limit`; in `reset_s` seconds all of it is there again, if nothing more comes."""

    limit: int
    remaining: int
    reset_s: float


class Taken(msgspec.Struct, frozen=True):
    """`at`: from when on it fits, infinity where never; `entry`: what `give_back` wants, where it did fit."""

    at: float
    entry: int | None


class Counting(Protocol):
    """At most `limit` in any 60 seconds, in this process or in several. `now` never runs backwards."""

    limit: int
    merge_s: float

    def take(self, amount: int, now: float, spare: int = 0) -> Taken:
        """Counts it if it fits now, and `spare` beside it; if not, nothing is counted."""
        ...

    def add(self, amount: int, now: float) -> None:
        """Counts it, whether it fits or not."""
        ...

    def give_back(self, entry: int, amount: int) -> None:
        """`amount` of what was taken as `entry` was not used. Nothing happens once the window has left it behind."""
        ...

    def level(self, now: float) -> Level: ...


class Entry:
    """What came from `first` to `last`, seconds of the caller's clock."""

    __slots__ = ("amount", "first", "last")

    def __init__(self, amount: int, now: float) -> None:
        self.amount = amount
        self.first = now
        self.last = now


class Window:
    """At most `limit` in any 60 seconds. `now` never runs backwards."""

    __slots__ = ("_entries", "_forgotten", "_sum", "limit", "merge_s")

    def __init__(self, limit: int = 0, merge_s: float = 0.0) -> None:
        self.limit = limit
        self.merge_s = merge_s
        self._forgotten = 0  # entries, so far: the number of the oldest one in the log
        self._entries: deque[Entry] = deque()
        self._sum = 0

    def fits_at(self, amount: int, now: float) -> float:
        """From when on `amount` fits, if nothing else comes: `now` where it does already, infinity where never."""
        self._forget(now)
        excess = self._sum + amount - self.limit
        if excess <= 0:
            return now
        for entry in self._entries:
            excess -= entry.amount
            if excess <= 0:
                return entry.last + WINDOW_S
        return math.inf

    def take(self, amount: int, now: float, spare: int = 0) -> Taken:
        """Counts it if it fits now, and `spare` beside it; if not, nothing is counted."""
        entries = self._entries
        if entries and entries[0].last + WINDOW_S <= now:
            self._forget(now)
        if self._sum + amount + spare > self.limit:
            return Taken(self.fits_at(amount + spare, now), None)
        self._add(amount, now)
        return Taken(now, self._forgotten + len(entries) - 1)

    def add(self, amount: int, now: float) -> None:
        """Counts it, whether it fits or not."""
        self._forget(now)
        self._add(amount, now)

    def _add(self, amount: int, now: float) -> None:
        self._sum += amount
        entries = self._entries
        if entries and now - entries[-1].first < self.merge_s:
            entry = entries[-1]
            entry.amount += amount
            entry.last = now
        else:
            entries.append(Entry(amount, now))

    def give_back(self, entry: int, amount: int) -> None:
        """`amount` of what was taken as `entry` was not used. Nothing happens once the window has left it behind."""
        place = entry - self._forgotten
        if place < 0:
            return
        kept = self._entries[place]
        amount = min(amount, kept.amount)
        kept.amount -= amount
        self._sum -= amount

    def level(self, now: float) -> Level:
        entries = self._entries
        if entries and entries[0].last + WINDOW_S <= now:
            self._forget(now)
        left = self.limit - self._sum
        for entry in reversed(entries):
            if entry.amount:
                return Level(self.limit, left if left > 0 else 0, entry.last + WINDOW_S - now)
        return Level(self.limit, self.limit, 0.0)

    def __len__(self) -> int:
        return len(self._entries)

    def _forget(self, now: float) -> None:
        entries = self._entries
        while entries and entries[0].last + WINDOW_S <= now:
            self._sum -= entries.popleft().amount
            self._forgotten += 1
