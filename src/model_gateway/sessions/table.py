"""What is remembered of conversations: a table of fixed size in memory that all workers of one machine share.

Decides what is forgotten when it is full: of a few places that a conversation may have, the one that was used longest
ago. Nobody locks anything: each entry carries a check, and one that two processes wrote at once is read as none.
"""

from __future__ import annotations

import mmap
import os
from typing import Final

import msgspec

from model_gateway.domain.route import TIERS, Tier

BUCKETS: Final = 16_384
WAYS: Final = 4
"""Places of one conversation. 65,536 in all take 2 MB, and only as much as is used."""

_KEY, _TARGET, _WHEN, _CHECK, _WORDS = range(5)
_SIZE: Final = BUCKETS * WAYS * _WORDS * 8
_TIER_BITS: Final = 2
_NO_TIER: Final = 3


class Remembered(msgspec.Struct, frozen=True):
    """`target`: the mark of the one that answered last, 0 for none. `when`: seconds, of the clock that was given."""

    target: int
    tier: Tier | None
    when: int


class SessionTable:
    """`descriptor`: of memory made by `memory_of`; None: this process's own."""

    def __init__(self, descriptor: int | None = None) -> None:
        self._memory = mmap.mmap(-1 if descriptor is None else descriptor, _SIZE)
        self._ints: memoryview[int] = memoryview(self._memory).cast("q")

    def find(self, key: int, now: float, ttl_s: float) -> Remembered | None:
        ints, at = self._ints, self._at(key)
        if at is None:
            return None
        target, when = ints[at + _TARGET], ints[at + _WHEN]
        if ints[at + _CHECK] != key ^ target ^ when:
            return None  # it is being written
        seconds, tier = when >> _TIER_BITS, when & _NO_TIER
        if not now - ttl_s <= seconds <= now + 1:
            return None
        return Remembered(target, None if tier == _NO_TIER else TIERS[tier], seconds)

    def keep(self, key: int, target: int, tier: Tier | None, now: float) -> None:
        at = self._at(key)
        if at is None:
            at = self._oldest(key)
        self._write(at, key, target, int(now) << _TIER_BITS | (_NO_TIER if tier is None else TIERS.index(tier)))

    def answered(self, key: int, target: int, now: float, ttl_s: float) -> None:
        """`keep` with the tier that is known."""
        ints, at, tier = self._ints, self._at(key), _NO_TIER
        if at is None:
            at = self._oldest(key)
        else:
            when = ints[at + _WHEN]
            if when >> _TIER_BITS >= now - ttl_s and ints[at + _CHECK] == key ^ ints[at + _TARGET] ^ when:
                tier = when & _NO_TIER
        self._write(at, key, target, int(now) << _TIER_BITS | tier)

    def _write(self, at: int, key: int, target: int, when: int) -> None:
        ints = self._ints
        ints[at + _CHECK] = 0
        ints[at + _KEY] = key
        ints[at + _TARGET] = target
        ints[at + _WHEN] = when
        ints[at + _CHECK] = key ^ target ^ when

    def _at(self, key: int) -> int | None:
        ints = self._ints
        start = key % BUCKETS * WAYS * _WORDS
        for at in range(start, start + WAYS * _WORDS, _WORDS):
            if ints[at] == key:
                return at
        return None

    def _oldest(self, key: int) -> int:
        ints = self._ints
        start = key % BUCKETS * WAYS * _WORDS
        return min(range(start, start + WAYS * _WORDS, _WORDS), key=lambda at: ints[at + _WHEN])


def memory_of() -> int:
    """A descriptor of memory for all processes of one gateway."""
    descriptor = os.memfd_create("model-gateway-sessions")
    os.ftruncate(descriptor, _SIZE)
    return descriptor
