"""Is the gateway ill? Decides when the thresholds of monitoring.alertThresholds are crossed and when all is well again.

Looks only at ended requests' Records; never touches a request and delivers nothing: `tick` returns what changed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection

import msgspec

from model_gateway.config.schema import AlertThresholds, MonitoringConfig
from model_gateway.domain.alert import AlertEvent
from model_gateway.domain.record import SHADOW_DOOR, Record
from model_gateway.telemetry.outcome import CALLER_STATUSES

BUCKETS = 30
"""The window slides in this many steps: 10 s each for the default five minutes."""

MIN_REQUESTS = 10
"""No alert on fewer: one failure in three requests is not a rate."""

RESOLVE_AT = 0.8
"""An alert ends below this part of its limit, so that a value at the limit does not ring again and again."""


class Window(msgspec.Struct):
    """Counts of one span of time. `slow`: answered, in more than the latency threshold."""

    answered: int = 0
    failed: int = 0
    slow: int = 0


def decide(window: Window, thresholds: AlertThresholds, firing: Collection[str]) -> list[AlertEvent]:
    """What changed, given the window's counts and the names of the alerts that are on. Pure.

    A percentile above its threshold is the same as a share of slow answers above 1 − percentile: exact, without a
    histogram.
    """
    total = window.answered + window.failed
    span = f"in {thresholds.error.interval / 1000:g} s"
    latency = thresholds.latency
    checks = (
        (
            "error_rate",
            window.failed,
            total,
            thresholds.error.rate,
            f"{window.failed} of {total} requests failed {span}",
        ),
        (
            "latency",
            window.slow,
            window.answered,
            1 - latency.percentile / 100,
            f"{window.slow} of {window.answered} answers took longer than {latency.threshold} ms {span}",
        ),
    )
    events: list[AlertEvent] = []
    for name, bad, seen, limit, facts in checks:
        value = bad / seen if seen else 0.0
        message = f"{facts}: {value:.1%}, the limit is {limit:.1%}"
        if name in firing:
            if value <= limit * RESOLVE_AT:
                events.append(AlertEvent(name, False, value, limit, message))
        elif seen >= MIN_REQUESTS and value > limit:
            events.append(AlertEvent(name, True, value, limit, message))
    return events


class AlertWatch:
    """Counts requests and reports changes. `clock` gives seconds and never runs backwards (time.monotonic)."""

    def __init__(self, config: MonitoringConfig, clock: Callable[[], float]) -> None:
        self._thresholds = config.alert_thresholds
        self._slow_s = self._thresholds.latency.threshold / 1000
        self._step_s = self._thresholds.error.interval / 1000 / BUCKETS
        self._clock = clock
        self._current = Window()
        self._buckets: deque[Window] = deque([self._current], maxlen=BUCKETS)
        self._next_step = clock() + self._step_s
        self.firing: set[str] = set()

    def observe(self, record: Record) -> None:
        """Count an ended request. Callers' mistakes, cancellations and mirrored requests count neither way."""
        current = self._current
        if record.door == SHADOW_DOOR:
            return
        if record.status == "ok":
            current.answered += 1
            if record.duration_s > self._slow_s:
                current.slow += 1
        elif record.status not in CALLER_STATUSES:
            current.failed += 1

    def take(self) -> Window:
        """What was counted since the last call, for somebody else to `add`: this one's own alerts never ring."""
        window = msgspec.structs.replace(self._current)
        self._current.answered = self._current.failed = self._current.slow = 0
        return window

    def add(self, window: Window) -> None:
        """What another process has counted."""
        self._current.answered += window.answered
        self._current.failed += window.failed
        self._current.slow += window.slow

    def tick(self) -> list[AlertEvent]:
        """To be called every monitoring.metricsInterval: slide the window, return what began or ended since."""
        steps = int((self._clock() - self._next_step) // self._step_s) + 1
        if steps > 0:
            self._next_step += steps * self._step_s
            for _ in range(min(steps, BUCKETS)):
                self._current = Window()
                self._buckets.append(self._current)
        window = Window()
        for bucket in self._buckets:
            window.answered += bucket.answered
            window.failed += bucket.failed
            window.slow += bucket.slow
        events = decide(window, self._thresholds, self.firing)
        for event in events:
            (self.firing.add if event.firing else self.firing.discard)(event.name)
        return events
