"""The keys of one provider: whose turn it is, and which must rest. Pure; the caller tells the time.

A key rests as long as a Retry-After asked (never undercut, whoever asks next), for LIMITED_S after a 429 without one,
and for REFUSED_S after a 401 or 403 — the last two only where another key can take over: resting the only key would
turn one refusal into many.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

from model_gateway.domain.errors import UpstreamError, UpstreamStatusError

E = TypeVar("E")
LIMITED_S = 10.0
REFUSED_S = 300.0
_KEYS_FAULT = frozenset((401, 403, 429))


class Keys(Generic[E]):
    """One endpoint per key."""

    __slots__ = ("_endpoints", "_next", "_resting", "_until")

    def __init__(self, endpoints: Sequence[E]) -> None:
        self._endpoints = endpoints
        self._until = [0.0] * len(endpoints)
        self._resting = False
        self._next = 0

    @property
    def endpoints(self) -> Sequence[E]:
        return self._endpoints

    def take(self, now: float) -> E:
        """The next key that may be used; where all rest, the one that may soonest."""
        if len(self._endpoints) == 1:
            return self._endpoints[0]
        size = len(self._endpoints)
        for step in range(size):
            at = (self._next + step) % size
            if self._until[at] <= now:
                self._next = (at + 1) % size
                return self._endpoints[at]
        return self._endpoints[self._until.index(min(self._until))]

    def rest_s(self, now: float) -> float:
        """Seconds until any key may be used; 0: now."""
        if not self._resting:
            return 0.0
        soonest = min(self._until)
        if max(self._until) <= now:
            self._resting = False
        return max(0.0, soonest - now)

    def failed(self, endpoint: E, error: UpstreamError, now: float) -> None:
        """Learn from a refusal. Marks the error where another key may do better at once."""
        if not isinstance(error, UpstreamStatusError):
            return
        alone = len(self._endpoints) == 1
        rest_s = error.retry_after_s or 0.0
        if not rest_s and not alone and error.status in _KEYS_FAULT:
            rest_s = LIMITED_S if error.status == 429 else REFUSED_S
        if rest_s:
            self._until[self._endpoints.index(endpoint)] = now + rest_s
            self._resting = True
        error.other_key = error.status in _KEYS_FAULT and not alone and self.rest_s(now) == 0.0
