"""Should a failed attempt be repeated, and when? Pure; the caller tells the time."""

from __future__ import annotations

from model_gateway.domain.errors import UpstreamError

WINDOW_S = 10


def decide(
    error: UpstreamError,
    attempt: int,
    retry_count: int,
    retry_delay_s: float,
    remaining_s: float,
    jitter: float,
    *,
    others: bool = False,
) -> float | None:
    """Seconds to wait before the next attempt at the same target, or None: give up on it.

    `attempt` counts from 1. The wait is retryDelay × 2^(attempt − 1), spread over 50–100 % of itself by `jitter`
    (0–1), never less than what Retry-After asks for, and never beyond the time that remains. Where `others` can be
    asked, nobody waits for a Retry-After that is longer than the wait itself.
    """
    if not error.retryable or attempt > retry_count:
        return None
    delay_s = retry_delay_s * (2.0 ** (attempt - 1)) * (0.5 + 0.5 * jitter)
    if error.retry_after_s is not None and error.retry_after_s > delay_s:
        if others:
            return None
        delay_s = error.retry_after_s
    return delay_s if delay_s < remaining_s else None


class RetryBudget:
    """What repeated and hedged calls of the whole process may add to its first calls, so that they cannot multiply.

    Over a sliding window of WINDOW_S seconds: at most `ratio` per request, and `min_per_second` whatever the traffic
    (the rule of Finagle's RetryBudget). A fallback to another target is no retry: the route's length bounds it.
    """

    __slots__ = ("_floor", "_ratio", "_requests", "_second", "_spent")

    def __init__(self, ratio: float, min_per_second: float) -> None:
        self._ratio = ratio
        self._floor = min_per_second * WINDOW_S
        self._requests = [0] * WINDOW_S
        self._spent = [0] * WINDOW_S
        self._second = 0

    def deposit(self, now: float) -> None:
        """A request has come."""
        self._requests[self._roll(now)] += 1

    def withdraw(self, now: float) -> bool:
        """May one more call be made?"""
        at = self._roll(now)
        if sum(self._spent) + 1 > self._floor + self._ratio * sum(self._requests):
            return False
        self._spent[at] += 1
        return True

    def _roll(self, now: float) -> int:
        """The place of this second, those of the seconds passed since the last call emptied."""
        second = int(now)
        if second > self._second:
            for passed in range(min(second - self._second, WINDOW_S)):
                at = (second - passed) % WINDOW_S
                self._requests[at] = self._spent[at] = 0
            self._second = second
        return self._second % WINDOW_S
