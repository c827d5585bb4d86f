"""The circuit breaker of one target: when to leave it alone, and when to try again. Pure; the caller tells the time.

    closed ──(failures in a row, or a share of the last calls)──▶ open ──(cooldown)──▶ half open: one call tries
      ▲                                                            ▲                        │
      └──────────────── it succeeds ────────────────┴────── it fails: the cooldown doubles ──┘

Works the same with one upstream as with many: an open breaker answers at once instead of piling up calls.
"""

from __future__ import annotations

from collections import deque

from model_gateway.config.schema import BreakerConfig

MAX_COOLDOWN_FACTOR = 12.0


class Breaker:
    """`open_until` in the caller's clock; 0 while closed. Every `begin` is followed by one of the three ends."""

    __slots__ = ("_config", "_cooldown_s", "_failed", "_failures_in_row", "_outcomes", "_probing", "open_until")

    def __init__(self, config: BreakerConfig) -> None:
        self._config = config
        self._outcomes: deque[bool] = deque(maxlen=config.window)
        self._failed = 0
        self._failures_in_row = 0
        self._cooldown_s = config.cooldown / 1000
        self._probing = False
        self.open_until = 0.0

    def allows(self, now: float) -> bool:
        return not self.open_until or (now >= self.open_until and not self._probing)

    def begin(self) -> None:
        """A call starts. While open, it is the one that tries."""
        if self.open_until:
            self._probing = True

    def cancelled(self) -> None:
        """It ended and proves nothing."""
        self._probing = False

    def succeeded(self) -> None:
        self._probing = False
        if self.open_until:
            self.open_until = 0.0
            self._cooldown_s = self._config.cooldown / 1000
            self._outcomes.clear()
            self._failed = 0
        self._failures_in_row = 0
        self._note(failed=False)

    def failed(self, now: float) -> None:
        if not self._config.enabled:
            return
        self._failures_in_row += 1
        self._note(failed=True)
        if self.open_until:
            if self._probing:  # calls begun before it opened only confirm what is known
                self._probing = False
                ceiling = self._config.cooldown / 1000 * MAX_COOLDOWN_FACTOR
                self._cooldown_s = min(self._cooldown_s * 2, ceiling)
                self.open_until = now + self._cooldown_s
        elif self._trips():
            self.open_until = now + self._cooldown_s

    def _trips(self) -> bool:
        config = self._config
        if self._failures_in_row >= config.failures:
            return True
        full = len(self._outcomes) == config.window
        return full and self._failed >= config.failures and self._failed / config.window >= config.failure_rate

    def _note(self, *, failed: bool) -> None:
        outcomes = self._outcomes
        if len(outcomes) == outcomes.maxlen and outcomes[0]:
            self._failed -= 1
        outcomes.append(failed)
        self._failed += failed
