"""How much may a key do? Decides whether one more request, and its tokens, fit; gives back what was not used.

One `Limiter` for each name of a key that has limits, for this process alone. It never waits: what does not fit is
refused with the time at which it would. Times are seconds of the clock that it is given.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import msgspec

from model_gateway.admission.window import WINDOW_S, Entry, Level, Window
from model_gateway.domain.caller import Limits
from model_gateway.domain.errors import InvalidRequest, RateLimited

_SLICES = 600  # of a window: what bounds a log's length, at 0.1 s of precision
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

    def reserve(self, tokens: int) -> None:
        """Before a provider is asked: what it is expected to take.

        Raises RateLimited, or InvalidRequest for more than a minute ever has.
        """
        ...

    def close(self, used_tokens: int) -> None:
        """The request is over, having taken so many tokens: its place is free again. Once is enough, twice no harm."""
        ...


class Limiter:
    """The limits of one key. `name` is what its refusals call it."""

    def __init__(self, name: str, limits: Limits, clock: Callable[[], float]) -> None:
        self._name = f"the key `{name}`" if name else "all callers together"
        self._clock = clock
        self._requests: Window | None = None
        self._tokens: Window | None = None
        self.in_flight = 0
        self.adopt(limits)

    def adopt(self, limits: Limits) -> None:
        """These count from now on; what was used stays used."""
        self.limits = limits
        self._requests = _window(self._requests, limits.requests_per_minute, exact=True)
        self._tokens = _window(self._tokens, limits.tokens_per_minute, exact=False)

    def enter(self) -> Lease:
        """One more request. Raises RateLimited, and then counts nothing."""
        most = self.limits.max_concurrent
        if most and self.in_flight >= most:
            raise RateLimited(
                f"{self._name} may have {_count(most, 'request')} at once (maxConcurrent); wait until one has ended",
                retry_after_s=_BUSY_RETRY_S,
            )
        if self._requests is not None:
            now = self._clock()
            wait_s = self._requests.fits_at(1, now) - now
            if wait_s > 0:
                raise RateLimited(
                    f"{self._name} may send {_count(self._requests.limit, 'request')} a minute (requestsPerMinute); "
                    f"the next one fits in {wait_s:.1f} s",
                    retry_after_s=wait_s,
                )
            self._requests.add(1, now)
        self.in_flight += 1
        return _Lease(self, self._tokens, self._clock)

    def refuse_tokens(self, tokens: int, window: Window, now: float) -> None:
        """Raises RateLimited where they do not fit now, InvalidRequest where they never will."""
        at = window.fits_at(tokens, now)
        if at <= now:
            return
        allowed = f"{self._name} may use {_count(window.limit, 'token')} a minute (tokensPerMinute)"
        wanted = f"this request is expected to take {tokens}"
        if math.isinf(at):
            raise InvalidRequest(
                f"{allowed}, and {wanted}: shorten it, or set a smaller max_tokens", param="max_tokens"
            )
        raise RateLimited(f"{allowed}; {wanted} and fits in {at - now:.1f} s", retry_after_s=at - now)

    def quota(self) -> Quota:
        now = self._clock()
        return Quota(
            None if self._requests is None else self._requests.level(now),
            None if self._tokens is None else self._tokens.level(now),
        )


class _Lease:
    __slots__ = ("_clock", "_entry", "_limiter", "_open", "_reserved", "_window")

    def __init__(self, limiter: Limiter, window: Window | None, clock: Callable[[], float]) -> None:
        self._limiter = limiter
        self._window = window
        self._clock = clock
        self._entry: Entry | None = None
        self._reserved = 0
        self._open = True

    @property
    def limits_tokens(self) -> bool:
        return self._window is not None

    def reserve(self, tokens: int) -> None:
        window = self._window
        if window is None:
            return
        now = self._clock()
        self._limiter.refuse_tokens(tokens, window, now)
        self._entry = window.add(tokens, now)
        self._reserved = tokens

    def close(self, used_tokens: int) -> None:
        if not self._open:
            return
        self._open = False
        self._limiter.in_flight -= 1
        if self._window is None or self._entry is None:
            return  # nobody was asked, so that nothing was used
        unused = self._reserved - used_tokens
        if unused > 0:
            self._window.give_back(self._entry, unused)
        elif unused < 0:
            # Known only now, and so counted from now on.
            self._window.add(-unused, self._clock())


def _window(known: Window | None, limit: int, *, exact: bool) -> Window | None:
    if not limit:
        return None
    # As long as the log of single entries is the shorter one, nothing need be joined.
    merge_s = 0.0 if exact and limit <= _SLICES else WINDOW_S / _SLICES
    if known is None:
        return Window(limit, merge_s)
    known.limit, known.merge_s = limit, merge_s
    return known


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"
