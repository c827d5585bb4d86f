"""How much may a key do? Decides whether one more request, and its tokens, fit; gives back what was not used.

One `Limiter` for each name of a key that has limits. Where it counts is its `Room`: in this process, or in memory that
several share (shared.py). It never waits: what does not fit is
refused with the time at which it would. Times are seconds of the clock that it is given.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import msgspec

from model_gateway.admission.window import WINDOW_S, Counting, Level, Taken, Window
from model_gateway.domain.caller import Caller, Limits
from model_gateway.domain.errors import InvalidRequest, RateLimited
from model_gateway.domain.record import Record
from model_gateway.domain.usage import Expected

SLICES = 600  # of a window: what bounds a log's length, at 0.1 s of precision
MOST_UNCERTAIN = 200_000
"""Tokens that requests of one key under way may be too many of, not being counted yet: counting them takes 10 ms."""

UNCOUNTED_PART = 8
"""Where processes share a window, uncounted requests take an eighth of the limit at most: nobody counts the others'."""

_BUSY_RETRY_S = 1.0  # nobody knows when a place becomes free


class Quota(msgspec.Struct, frozen=True):
    """What a key has left; None where it has no such limit."""

    requests: Level | None
    tokens: Level | None


class Lease(Protocol):
    """One admitted request, until it is over."""

    @property
    def limits_tokens(self) -> bool:
        """Is there a limit that `reserve` asks? Then it is worth counting them."""
        ...

    def reserve(self, tokens: int | Expected) -> None:
        """Before a provider is asked: what it is expected to take. It is counted only where the number may decide.

        Raises RateLimited, or InvalidRequest for more than a minute ever has.
        """
        ...

    def withdraw(self) -> None:
        """It was refused elsewhere: it does not count as a request here."""
        ...

    def close(self, used_tokens: int) -> None:
        """The request is over, having taken so many tokens: its place is free again. Once is enough, twice no harm."""
        ...


class Places(Protocol):
    """Requests of a key at once."""

    def enter(self, most: int) -> bool:
        """One more, if `most` allow it; 0: any number."""
        ...

    def leave(self) -> None: ...


class Room(msgspec.Struct, frozen=True):
    """Where one key's use is counted; `alone`: by this process only."""

    places: Places
    requests: Counting
    tokens: Counting
    alone: bool = False

    def enter(self, most: int, now: float, *, counted: bool) -> Taken | None:
        """One more request, which takes a place, and one of `requests` if that is `counted`. None: there is no place.

        Without an entry it did not fit, and then nothing is taken. Raises Overloaded where nobody can say.
        """
        if not self.places.enter(most):
            return None
        if not counted:
            return Taken(now, 0)
        taken = self.requests.take(1, now)
        if taken.entry is None:
            self.places.leave()
        return taken


class OwnPlaces:
    """Those of this process alone."""

    __slots__ = ("taken",)

    def __init__(self) -> None:
        self.taken = 0

    def enter(self, most: int) -> bool:
        if most and self.taken >= most:
            return False
        self.taken += 1
        return True

    def leave(self) -> None:
        self.taken -= 1


def own_room(_name: str) -> Room:
    """Counted in this process alone."""
    return Room(OwnPlaces(), Window(), Window(), alone=True)


class SharedLimits(Protocol):
    """Limits that hold over several machines, counted by somebody whom all of them ask."""

    async def enter(self, caller: Caller, record: Record) -> None:
        """One more request of this caller. Raises RateLimited, or Overloaded where nobody answers."""
        ...

    async def reserve(self, record: Record, tokens: int) -> None:
        """Before a provider is asked. Raises as `enter`, and InvalidRequest for more than a minute ever has."""
        ...

    def close(self, record: Record) -> None:
        """The request is over."""
        ...

    def quota(self, name: str) -> Quota | None:
        """What the key had left when it was last asked."""
        ...

    @property
    def last_error(self) -> str:
        """Why nobody answers, "" where somebody does."""
        ...


class Limiter:
    """The limits of one key. `name` is what its refusals call it."""

    # There may be very many, and each request finds another one outside the processor's caches.
    __slots__ = ("_clock", "_name", "_requests", "_room", "_tokens", "_uncertain", "_uncounted", "limits")

    def __init__(
        self, name: str, limits: Limits, clock: Callable[[], float], rooms: Callable[[str], Room] = own_room
    ) -> None:
        self._name = name
        self._clock = clock
        self._room = rooms(name)
        self._requests: Counting | None = None
        self._tokens: Counting | None = None
        self._uncounted: dict[_Lease, tuple[Expected, float]] = {}  # and since when, the oldest first
        self._uncertain = 0  # tokens by which the window may hold too many for them
        self.adopt(limits)

    def adopt(self, limits: Limits) -> None:
        """These count from now on; what was used stays used."""
        self.limits = limits
        self._requests = _window(self._room.requests, limits.requests_per_minute, exact=True)
        self._tokens = _window(self._room.tokens, limits.tokens_per_minute, exact=False)

    def enter(self) -> Lease:
        """One more request. Raises RateLimited, and then counts nothing."""
        now, counted = self._clock(), self._requests is not None
        taken = self._room.enter(self.limits.max_concurrent, now, counted=counted)
        if taken is None:
            raise busy(self._name, self.limits)
        if taken.entry is None:
            raise too_many_requests(self._name, self.limits, taken.at - now)
        return _Lease(self, self._tokens, self._clock, taken.entry if counted else None)

    def leave(self) -> None:
        """A lease is over."""
        self._room.places.leave()

    def withdraw(self, entry: int | None) -> None:
        """A request that was let in here, and refused elsewhere."""
        if entry is not None and self._requests is not None:
            self._requests.give_back(entry, 1)

    def take_most(self, expected: Expected, window: Counting, now: float) -> int | None:
        """Their entry where they fit however they are counted: then they are not. None: they must be."""
        self._forget(now)
        uncertain = self._uncertain + expected.most - expected.about
        if uncertain > MOST_UNCERTAIN:
            return None
        if self._room.alone:
            return window.take(expected.most, now).entry
        entry = window.take(expected.most, now, window.limit - window.limit // UNCOUNTED_PART).entry
        if entry is None:
            self.count_all()  # so that the others see what is really used
        return entry

    def postpone(self, lease: _Lease, expected: Expected, now: float) -> None:
        """It has reserved the most that it may take, until `count_all`."""
        self._uncounted[lease] = expected, now
        self._uncertain += expected.most - expected.about

    def settle(self, lease: _Lease) -> None:
        """Its number does not matter any more."""
        found = self._uncounted.pop(lease, None)
        if found is not None:
            self._uncertain -= found[0].most - found[0].about

    def _forget(self, now: float) -> None:
        """What the window has left behind."""
        while self._uncounted:
            oldest, (_, since) = next(iter(self._uncounted.items()))
            if since + WINDOW_S + WINDOW_S / SLICES > now:
                return
            self.settle(oldest)

    def count_all(self) -> None:
        """From now on the window holds what it would, had everything been counted at once."""
        for lease, (expected, _) in self._uncounted.items():
            lease.correct(expected.exactly())
        self._uncounted.clear()
        self._uncertain = 0

    def take_tokens(self, tokens: int, window: Counting, now: float) -> int:
        """Their entry. Raises RateLimited where they do not fit now, InvalidRequest where they never will."""
        taken = window.take(tokens, now)
        if taken.entry is None and self._uncounted:
            self.count_all()
            taken = window.take(tokens, now)
        if taken.entry is None:
            wait_s = -1 if math.isinf(taken.at) else taken.at - now
            raise too_many_tokens(self._name, self.limits, tokens, wait_s)
        return taken.entry

    def quota(self) -> Quota:
        now = self._clock()
        self._forget(now)
        requests = None if self._requests is None else self._requests.level(now)
        tokens = None if self._tokens is None else self._tokens.level(now)
        if tokens is not None and self._uncertain:
            tokens = Level(tokens.limit, min(tokens.limit, tokens.remaining + self._uncertain), tokens.reset_s)
        return Quota(requests, tokens)


class _Lease:
    __slots__ = ("_asked", "_clock", "_entry", "_limiter", "_open", "_reserved", "_window")

    def __init__(
        self, limiter: Limiter, window: Counting | None, clock: Callable[[], float], asked: int | None
    ) -> None:
        self._asked = asked
        self._limiter = limiter
        self._window = window
        self._clock = clock
        self._entry: int | None = None
        self._reserved = 0
        self._open = True

    @property
    def limits_tokens(self) -> bool:
        return self._window is not None

    def reserve(self, tokens: int | Expected) -> None:
        window = self._window
        if window is None:
            return
        now = self._clock()
        if isinstance(tokens, Expected):
            self._entry = self._limiter.take_most(tokens, window, now)
            if self._entry is not None:
                self._reserved = tokens.most
                self._limiter.postpone(self, tokens, now)
                return
            tokens = tokens.exactly()
        self._entry = self._limiter.take_tokens(tokens, window, now)
        self._reserved = tokens

    def correct(self, tokens: int) -> None:
        """It was reserved more than that, which was not counted."""
        if self._window is not None and self._entry is not None:
            self._window.give_back(self._entry, self._reserved - tokens)
            self._reserved = tokens

    def withdraw(self) -> None:
        self._limiter.withdraw(self._asked)
        self._asked = None

    def close(self, used_tokens: int) -> None:
        if not self._open:
            return
        self._open = False
        self._limiter.leave()
        self._limiter.settle(self)
        if self._window is None or self._entry is None:
            return  # nobody was asked, so that nothing was used
        unused = self._reserved - used_tokens
        if unused > 0:
            self._window.give_back(self._entry, unused)
        elif unused < 0:
            # Known only now, and so counted from now on.
            self._window.add(-unused, self._clock())


def busy(name: str, limits: Limits) -> RateLimited:
    return RateLimited(
        f"{_called(name)} may have {_count(limits.max_concurrent, 'request')} at once (maxConcurrent); wait until one "
        "has ended",
        retry_after_s=_BUSY_RETRY_S,
    )


def too_many_requests(name: str, limits: Limits, wait_s: float) -> RateLimited:
    return RateLimited(
        f"{_called(name)} may send {_count(limits.requests_per_minute, 'request')} a minute (requestsPerMinute); "
        f"the next one fits in {wait_s:.1f} s",
        retry_after_s=wait_s,
    )


def too_many_tokens(name: str, limits: Limits, tokens: int, wait_s: float) -> RateLimited | InvalidRequest:
    """`wait_s` below 0: they never fit."""
    allowed = f"{_called(name)} may use {_count(limits.tokens_per_minute, 'token')} a minute (tokensPerMinute)"
    wanted = f"this request is expected to take {tokens}"
    if wait_s < 0:
        return InvalidRequest(f"{allowed}, and {wanted}: shorten it, or set a smaller max_tokens", param="max_tokens")
    return RateLimited(f"{allowed}; {wanted} and fits in {wait_s:.1f} s", retry_after_s=wait_s)


def _called(name: str) -> str:
    return f"the key `{name}`" if name else "all callers together"


def _window(room: Counting, limit: int, *, exact: bool) -> Counting | None:
    if not limit:
        return None
    room.limit = limit
    # As long as the log of single entries is the shorter one, nothing need be joined.
    room.merge_s = 0.0 if exact and limit <= SLICES else WINDOW_S / SLICES
    return room


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"
