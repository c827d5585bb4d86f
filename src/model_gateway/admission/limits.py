"""How much one key may ask: requests and tokens a minute, and at once. Pure; the caller tells the time.

Both minutes are rolling and exact: every request of the last 60 seconds is remembered, at most as many as are allowed.
So no window of 60 seconds, wherever it begins, ever holds more than the limit, which neither counters that start anew
each minute (twice the limit around its boundary) nor token buckets (a full bucket, and what flows in meanwhile) can
say. Tokens are reserved before a call and corrected after it. In this process alone: several have several minutes.
"""

from __future__ import annotations

import math
from collections import deque

from model_gateway.config.schema import CallerKey
from model_gateway.domain.errors import GatewayError, InvalidRequest, RateLimited

WINDOW_S = 60.0


class Reservation:
    """Tokens of one request, from when they were reserved."""

    __slots__ = ("at", "tokens")

    def __init__(self, at: float, tokens: int) -> None:
        self.at = at
        self.tokens = tokens


class Meter:
    """The limits of one key, and what it has used. Every `enter` is followed by one `leave`."""

    __slots__ = ("_at_once", "_entered", "_inside", "_name", "_requests", "_reserved", "_tokens", "_used")

    def __init__(self, key: CallerKey) -> None:
        self._name = key.name
        self._requests = key.requests_per_minute
        self._tokens = key.tokens_per_minute
        self._at_once = key.max_concurrent
        self._entered: deque[float] = deque(maxlen=self._requests)
        self._reserved: deque[Reservation] = deque()
        self._used = 0
        self._inside = 0

    def enter(self, now: float) -> None:
        """One more request. Raises RateLimited that says which limit, and when to come again."""
        if self._at_once is not None and self._inside >= self._at_once:
            raise RateLimited(
                f"the key `{self._name}` has {self._inside} requests in flight, and may have {self._at_once} "
                "(max_concurrent)",
                retry_after_s=1,
            )
        entered, most = self._entered, self._requests
        if most is not None:
            if len(entered) == most and now - entered[0] < WINDOW_S:
                raise RateLimited(
                    f"the key `{self._name}` may ask {most} times a minute (requests_per_minute)",
                    retry_after_s=WINDOW_S - (now - entered[0]),
                )
            entered.append(now)  # forgets the oldest of a full list
        self._inside += 1

    def leave(self) -> None:
        self._inside -= 1

    def reserve(self, now: float, tokens: int) -> Reservation | None:
        """What this request may use. Raises RateLimited, or InvalidRequest for more than a minute ever has."""
        most = self._tokens
        if most is None:
            return None
        if tokens > most:
            raise InvalidRequest(
                f"this request may use {tokens} tokens, the key `{self._name}` has {most} a minute "
                "(tokens_per_minute): ask for fewer, or set a smaller max_tokens",
                param="max_tokens",
            )
        self._forget(now)
        if self._used + tokens > most:
            raise self._too_many(now, tokens, most)
        found = Reservation(now, tokens)
        self._reserved.append(found)
        self._used += tokens
        return found

    def correct(self, reservation: Reservation, tokens: int) -> None:
        """What it used indeed. No effect on a minute that has passed."""
        if reservation.tokens >= 0:
            self._used += tokens - reservation.tokens
            reservation.tokens = tokens

    def remaining(self, now: float) -> dict[str, tuple[int, int, float]]:
        """By limit (`requests`, `tokens`): how many there are, how many are left, seconds until all are there again."""
        told: dict[str, tuple[int, int, float]] = {}
        if self._requests is not None:
            recent = sum(now - at < WINDOW_S for at in self._entered)
            reset_s = WINDOW_S - (now - self._entered[-1]) if recent else 0.0
            told["requests"] = self._requests, self._requests - recent, reset_s
        if self._tokens is not None:
            self._forget(now)
            reset_s = WINDOW_S - (now - self._reserved[-1].at) if self._reserved else 0.0
            told["tokens"] = self._tokens, max(0, self._tokens - self._used), reset_s
        return told

    def _forget(self, now: float) -> None:
        reserved = self._reserved
        while reserved and now - reserved[0].at >= WINDOW_S:
            passed = reserved.popleft()
            self._used -= passed.tokens
            passed.tokens = -1  # a correction that comes later must not be counted in another minute

    def _too_many(self, now: float, tokens: int, most: int) -> GatewayError:
        missing = self._used + tokens - most
        wait_s = WINDOW_S
        for each in self._reserved:
            missing -= each.tokens
            if missing <= 0:
                wait_s = WINDOW_S - (now - each.at)
                break
        return RateLimited(
            f"the key `{self._name}` has {max(0, most - self._used)} of {most} tokens left in this minute "
            f"(tokens_per_minute), and this request may use {tokens}",
            retry_after_s=math.ceil(wait_s * 1000) / 1000,
        )
