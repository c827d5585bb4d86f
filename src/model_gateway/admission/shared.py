"""A key's use, counted in memory that all workers of one machine share: exact over them, without a message.

The same sliding log as window.py, in a ring. Decides who may change a key's numbers: who holds its lock, of which the
kernel frees those who die. What a killed process has left half done is counted anew by the next one. Where a lock is
not to be had (a process stopped by a debugger holds it) nothing more is let in: never twice what was promised.
"""

from __future__ import annotations

import fcntl
import math
import mmap
import os
import time
from collections.abc import Generator
from contextlib import contextmanager
from hashlib import blake2b
from typing import Final

from model_gateway.admission.limits import SLICES, Room, own_room
from model_gateway.admission.window import WINDOW_S, Level, Taken
from model_gateway.domain.errors import Overloaded

KEYS: Final = 8192
"""Names that may have limits; each process counts those beyond for itself."""

_RING: Final = SLICES + 8
_WORD: Final = 8
_ENTRY: Final = 3  # words: first, last, amount
_DIRTY, _FIRST, _NEXT, _SUM, _HEADER = range(5)  # words of a window: being changed; numbers of entries; their sum
_WINDOW: Final = _HEADER + _RING * _ENTRY
_PATIENCE_S: Final = 0.02


class SharedRooms:
    """`descriptor`: of memory made by `memory_of`; `slot`: this process's place among `slots`. Each process has one."""

    def __init__(self, descriptor: int, slot: int, slots: int) -> None:
        self._descriptor = descriptor
        self._slot = slot
        self._slots = slots
        self._stride = 1 + slots + 2 * _WINDOW  # words of one key: who it is, its places, its windows
        self._memory = mmap.mmap(descriptor, _size(slots))
        self._ints: memoryview[int] = memoryview(self._memory).cast("q")
        self._floats: memoryview[float] = memoryview(self._memory).cast("d")

    def __call__(self, name: str) -> Room:
        place = self._place(name)
        if place is None:
            return own_room(name)
        lock = Lock(self._descriptor, place)
        start = 1 + place * self._stride
        windows = start + 1 + self._slots
        return Room(
            SharedPlaces(lock, self._ints[start + 1 : windows], self._slot),
            SharedWindow(lock, self._ints, self._floats, windows),
            SharedWindow(lock, self._ints, self._floats, windows + _WINDOW),
        )

    def clear(self, slot: int) -> None:
        """That process has gone: its requests are over."""
        for place in range(KEYS):
            start = 1 + place * self._stride
            if not self._ints[start]:
                return  # they are given out in order
            self._ints[start + 1 + slot] = 0

    def _place(self, name: str) -> int | None:
        """Where the name's numbers are; the next free place where it has none yet."""
        mark = int.from_bytes(blake2b(name.encode(errors="surrogatepass"), digest_size=8).digest(), signed=True) or 1
        with Lock(self._descriptor, KEYS).held():
            for place in range(KEYS):
                start = 1 + place * self._stride
                if self._ints[start] in (0, mark):
                    self._ints[start] = mark
                    return place
        return None


class Lock:
    """Of one key's numbers. A lock of the file that the memory is: one byte of it."""

    def __init__(self, descriptor: int, place: int) -> None:
        self._descriptor = descriptor
        self._place = place

    @contextmanager
    def held(self) -> Generator[None]:
        """Raises Overloaded where another process does not let go."""
        until: float | None = None
        while True:
            try:
                fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, self._place)
                break
            except OSError:
                now = time.monotonic()
                until = until or now + _PATIENCE_S
                if now > until:
                    raise Overloaded("the key's limits cannot be counted at the moment", retry_after_s=1) from None
                os.sched_yield()
        try:
            yield
        finally:
            fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, self._place)


class SharedPlaces:
    """Requests at once: each process writes its own number."""

    def __init__(self, lock: Lock, taken: memoryview[int], slot: int) -> None:
        self._lock = lock
        self._taken = taken
        self._slot = slot

    def enter(self, most: int) -> bool:
        if not most:
            self._taken[self._slot] += 1
            return True
        with self._lock.held():
            if sum(self._taken) >= most:
                return False
            self._taken[self._slot] += 1
            return True

    def leave(self) -> None:
        self._taken[self._slot] -= 1


class SharedWindow:
    """As window.py's, over several processes. `now` is of a clock that all of them have: time.monotonic."""

    __slots__ = ("_base", "_floats", "_ints", "_lock", "limit", "merge_s")

    def __init__(self, lock: Lock, ints: memoryview[int], floats: memoryview[float], base: int) -> None:
        self.limit = 0
        self.merge_s = 0.0
        self._lock = lock
        self._ints = ints
        self._floats = floats
        self._base = base

    def take(self, amount: int, now: float, spare: int = 0) -> Taken:
        with self._changing(now):
            at = self._fits_at(amount + spare, now)
            return Taken(at, None) if at > now else Taken(at, self._add(amount, now))

    def add(self, amount: int, now: float) -> None:
        with self._changing(now):
            self._add(amount, now)

    def give_back(self, entry: int, amount: int) -> None:
        ints, base = self._ints, self._base
        with self._changing(0.0):
            if entry < ints[base + _FIRST]:
                return
            at = self._at(entry) + 2
            amount = min(amount, ints[at])
            ints[at] -= amount
            ints[base + _SUM] -= amount

    def level(self, now: float) -> Level:
        ints, base = self._ints, self._base
        with self._changing(now):
            reset_s = 0.0
            for entry in range(ints[base + _NEXT] - 1, ints[base + _FIRST] - 1, -1):
                if ints[self._at(entry) + 2]:
                    reset_s = self._floats[self._at(entry) + 1] + WINDOW_S - now
                    break
            return Level(self.limit, max(0, self.limit - ints[base + _SUM]), reset_s)

    @contextmanager
    def _changing(self, now: float) -> Generator[None]:
        ints, base = self._ints, self._base
        with self._lock.held():
            if ints[base + _DIRTY]:
                self._count_anew()
            ints[base + _DIRTY] = 1
            self._forget(now)
            yield
            ints[base + _DIRTY] = 0

    def _at(self, entry: int) -> int:
        return self._base + _HEADER + (entry % _RING) * _ENTRY

    def _fits_at(self, amount: int, now: float) -> float:
        ints, base = self._ints, self._base
        excess = ints[base + _SUM] + amount - self.limit
        if excess <= 0:
            return now
        for entry in range(ints[base + _FIRST], ints[base + _NEXT]):
            at = self._at(entry)
            excess -= ints[at + 2]
            if excess <= 0:
                return self._floats[at + 1] + WINDOW_S
        return math.inf

    def _add(self, amount: int, now: float) -> int:
        """The number of its entry. The newest one takes it where the ring is full: it counts the longer for it."""
        ints, floats, base = self._ints, self._floats, self._base
        first, following = ints[base + _FIRST], ints[base + _NEXT]
        at = self._at(following - 1)
        if following > first and (now - floats[at] < self.merge_s or following - first >= _RING):
            floats[at + 1] = now
            ints[at + 2] += amount
            following -= 1
        else:
            at = self._at(following)
            floats[at] = floats[at + 1] = now
            ints[at + 2] = amount
            ints[base + _NEXT] = following + 1
        ints[base + _SUM] += amount
        return following

    def _forget(self, now: float) -> None:
        ints, base = self._ints, self._base
        first, following = ints[base + _FIRST], ints[base + _NEXT]
        while first < following:
            at = self._at(first)
            if self._floats[at + 1] + WINDOW_S > now:
                break
            ints[base + _SUM] -= ints[at + 2]
            first += 1
            ints[base + _FIRST] = first

    def _count_anew(self) -> None:
        """Somebody died in the middle of a change."""
        ints, base = self._ints, self._base
        ints[base + _SUM] = sum(ints[self._at(entry) + 2] for entry in range(ints[base + _FIRST], ints[base + _NEXT]))


def memory_of(slots: int) -> int:
    """A descriptor of memory for so many processes. It takes only as much as is used."""
    descriptor = os.memfd_create("model-gateway-limits")
    os.ftruncate(descriptor, _size(slots))
    return descriptor


def _size(slots: int) -> int:
    return (1 + KEYS * (1 + slots + 2 * _WINDOW)) * _WORD
