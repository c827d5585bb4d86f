"""A key's use, counted in memory that all workers of one machine share: exact over them, without a message.

The same sliding log as window.py, in a ring. Decides who may change a key's numbers: who holds its lock, of which the
kernel frees those who die. What a killed process has left half done is counted anew by the next one. Where a lock is
not to be had (a process stopped by a debugger holds it) nothing more is let in: never twice what was promised. What is
over already is not refused then: what it gives back stays counted, and what it took besides is counted with the next.
"""

from __future__ import annotations

import math
import mmap
import os
import time
from fcntl import LOCK_EX, LOCK_NB, LOCK_UN, lockf
from hashlib import blake2b
from struct import Struct
from typing import Final

from model_gateway.admission.limits import SLICES, Room, own_room
from model_gateway.admission.window import WINDOW_S, Level, Taken
from model_gateway.domain.errors import Overloaded

KEYS: Final = 8192
"""Names that may have limits; each process counts those beyond for itself."""

_RING: Final = SLICES + 8
_WORD: Final = 8
_ENTRY: Final = 3  # words: first, last, amount
_SLOTS_USED: Final = 0  # the first word of all: how many slots have ever had a process
_DIRTY, _FIRST, _NEXT, _SUM, _HEADER = range(5)  # words of a window: being changed; numbers of entries; their sum
_HEAD: Final = Struct(f"{_HEADER}q")
_WINDOW: Final = _HEADER + _RING * _ENTRY
_TAKE: Final = LOCK_EX | LOCK_NB

_PATIENCE_S: Final = 0.1
"""Whoever holds a lock needs it for 3 µs, but on a busy machine may have to wait for a core in the middle of them."""

_STUCK_S: Final = 1.0
"""After somebody has waited in vain nobody else does for so long."""

_AWAKE, _YIELDS = 3, 6
"""After so many tries, of 2 µs each, others may have this core; after so many the process sleeps between two."""

_NAP_S: Final = 0.0001


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
        with Lock(descriptor, KEYS):
            self._ints[_SLOTS_USED] = max(self._ints[_SLOTS_USED], slot + 1)

    def __call__(self, name: str) -> Room:
        place = self._place(name)
        if place is None:
            return own_room(name)
        lock = Lock(self._descriptor, place)
        start = 1 + place * self._stride
        begin = start + 1 + self._slots
        requests, tokens = (
            SharedWindow(lock, self._ints[at : at + _WINDOW], self._floats[at : at + _WINDOW])
            for at in (begin, begin + _WINDOW)
        )
        places = SharedPlaces(lock, self._ints[start + 1 : begin], self._slot, self._ints)
        return SharedRoom(places=places, requests=requests, tokens=tokens, lock=lock)

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
        with Lock(self._descriptor, KEYS):
            for place in range(KEYS):
                start = 1 + place * self._stride
                if self._ints[start] in (0, mark):
                    self._ints[start] = mark
                    return place
        return None


class Lock:
    """Of one key's numbers, while the block lasts. A lock of the file that the memory is: one byte of it.

    Raises Overloaded where another process does not let go.
    """

    __slots__ = ("_descriptor", "_place", "_stuck_until")

    def __init__(self, descriptor: int, place: int) -> None:
        self._descriptor = descriptor
        self._place = place
        self._stuck_until = 0.0

    def __enter__(self) -> None:
        try:
            lockf(self._descriptor, _TAKE, 1, self._place)
        except OSError:
            self._wait()

    def __exit__(self, *_: object) -> None:
        lockf(self._descriptor, LOCK_UN, 1, self._place)

    def _wait(self) -> None:
        """Soon asleep rather than awake: the kernel then may give this core to who holds it."""
        begun = time.monotonic()
        tries = 0
        while (now := time.monotonic()) - begun < _PATIENCE_S and now >= self._stuck_until:
            tries += 1
            if tries > _YIELDS:
                time.sleep(_NAP_S)
            elif tries > _AWAKE:
                os.sched_yield()
            try:
                lockf(self._descriptor, _TAKE, 1, self._place)
            except OSError:
                continue
            return
        if now >= self._stuck_until:
            self._stuck_until = now + _STUCK_S  # meanwhile nobody else waits for it
        raise Overloaded("the key's limits cannot be counted at the moment", retry_after_s=1)


class SharedRoom(Room, frozen=True, kw_only=True):
    """`lock`: of all that is counted in it."""

    places: SharedPlaces
    requests: SharedWindow
    lock: Lock

    def enter(self, most: int, now: float, *, counted: bool) -> Taken | None:
        places, requests = self.places, self.requests
        if not counted:
            return super().enter(most, now, counted=counted)
        with self.lock:  # once for both
            if not places.take(most):
                return None
            taken = requests.taken(1, now, 0)
        if taken.entry is None:
            places.leave()
        return taken


class SharedPlaces:
    """Requests at once: each process writes its own number, in its `slot` of `taken`; `whole`: all of the memory."""

    def __init__(self, lock: Lock, taken: memoryview[int], slot: int, whole: memoryview[int]) -> None:
        self._lock = lock
        self._taken = taken
        self._slot = slot
        self._whole = whole

    def enter(self, most: int) -> bool:
        if not most:
            self._taken[self._slot] += 1
            return True
        with self._lock:
            return self.take(most)

    def take(self, most: int) -> bool:
        """`enter`, for who holds the lock."""
        if most and sum(self._taken[: self._whole[_SLOTS_USED]]) >= most:
            return False
        self._taken[self._slot] += 1
        return True

    def leave(self) -> None:
        self._taken[self._slot] -= 1


class SharedWindow:
    """As window.py's, over several processes. `now` is of a clock that all of them have: time.monotonic.

    `ints`, `floats`: its words, as both. `take` raises Overloaded where it cannot be counted.
    """

    __slots__ = ("_floats", "_ints", "_lock", "_owed", "limit", "merge_s")

    def __init__(self, lock: Lock, ints: memoryview[int], floats: memoryview[float]) -> None:
        self.limit = 0
        self.merge_s = 0.0
        self._lock = lock
        self._ints = ints
        self._floats = floats
        self._owed = 0  # what could not be added

    def take(self, amount: int, now: float, spare: int = 0) -> Taken:
        with self._lock:
            return self.taken(amount, now, spare)

    def taken(self, amount: int, now: float, spare: int) -> Taken:
        """`take`, for who holds the lock."""
        first, following, used = self._begin(now)
        if used + amount + spare > self.limit:
            done = Taken(self._fits_at(used + amount + spare - self.limit, first, following), None)
        else:
            done = Taken(now, self._add(amount, now, first, following, used))
        self._ints[_DIRTY] = 0
        return done

    def add(self, amount: int, now: float) -> None:
        self._owed += amount
        try:
            with self._lock:
                self._begin(now)
                self._ints[_DIRTY] = 0
        except Overloaded:
            return

    def give_back(self, entry: int, amount: int) -> None:
        ints = self._ints
        try:
            with self._lock:
                first, _, used = self._begin(0.0)
                if entry >= first:
                    at = _at(entry) + 2
                    left = max(0, ints[at] - amount)
                    ints[_SUM] = used - ints[at] + left
                    ints[at] = left
                ints[_DIRTY] = 0
        except Overloaded:
            return

    def level(self, now: float) -> Level:
        """Without the lock: of what another is just changing it tells the one or the other."""
        ints, floats = self._ints, self._floats
        _, first, following, used = _HEAD.unpack_from(ints)
        while first < following and floats[_at(first) + 1] + WINDOW_S <= now:
            used -= ints[_at(first) + 2]
            first += 1
        reset_s = 0.0
        for entry in range(following - 1, first - 1, -1):
            at = _at(entry)
            if ints[at + 2]:
                reset_s = floats[at + 1] + WINDOW_S - now
                break
        return Level(self.limit, max(0, self.limit - used), reset_s)

    def _begin(self, now: float) -> tuple[int, int, int]:
        """A change, which ends when the window is clean again: numbers of the first entry and of the next, their sum.

        `now`: 0.0 where that does not matter.
        """
        ints, floats = self._ints, self._floats
        dirty, first, following, used = _HEAD.unpack_from(ints)
        ints[_DIRTY] = 1
        if dirty:  # somebody died in the middle of a change
            ints[_SUM] = used = sum(ints[_at(entry) + 2] for entry in range(first, following))
        while first < following:
            at = _at(first)
            if floats[at + 1] + WINDOW_S > now:
                break
            used -= ints[at + 2]
            first += 1
            ints[_SUM], ints[_FIRST] = used, first
        if self._owed and now:
            self._add(self._owed, now, first, following, used)
            self._owed = 0
            _, first, following, used = _HEAD.unpack_from(ints)
        return first, following, used

    def _fits_at(self, excess: int, first: int, following: int) -> float:
        """From when on it would: when so much has been left behind."""
        for entry in range(first, following):
            at = _at(entry)
            excess -= self._ints[at + 2]
            if excess <= 0:
                return self._floats[at + 1] + WINDOW_S
        return math.inf

    def _add(self, amount: int, now: float, first: int, following: int, used: int) -> int:
        """The number of its entry. The newest one takes it where the ring is full: it counts the longer for it."""
        ints, floats = self._ints, self._floats
        at = _at(following - 1)
        if following > first and (now - floats[at] < self.merge_s or following - first >= _RING):
            floats[at + 1] = now
            ints[at + 2] += amount
            following -= 1
        else:
            at = _at(following)
            floats[at] = floats[at + 1] = now
            ints[at + 2] = amount
            ints[_NEXT] = following + 1
        ints[_SUM] = used + amount
        return following


def _at(entry: int) -> int:
    """Where its words are in a window's."""
    return _HEADER + (entry % _RING) * _ENTRY


def memory_of(slots: int) -> int:
    """A descriptor of memory for so many processes. It takes only as much as is used."""
    descriptor = os.memfd_create("model-gateway-limits")
    os.ftruncate(descriptor, _size(slots))
    return descriptor


def _size(slots: int) -> int:
    return (1 + KEYS * (1 + slots + 2 * _WINDOW)) * _WORD
