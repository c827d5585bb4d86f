"""Alerts fire once and resolve once, and only for what is the gateway's fault."""

from __future__ import annotations

import pytest

from model_gateway.config.schema import AlertThresholds, MonitoringConfig
from model_gateway.domain.errors import ErrorKind
from model_gateway.domain.record import Record
from model_gateway.telemetry.alerts import BUCKETS, AlertWatch, Window, decide

INTERVAL_S = 300


@pytest.mark.parametrize(
    ("window", "firing", "changes"),
    [
        (Window(), set[str](), []),
        (Window(answered=9, failed=0), set[str](), []),
        (Window(answered=3, failed=6), set[str](), []),  # too few to judge
        (Window(answered=90, failed=10), set[str](), []),  # at the limit
        (Window(answered=89, failed=11), set[str](), [("error_rate", True)]),
        (Window(answered=89, failed=11), {"error_rate"}, []),
        (Window(answered=91, failed=9), {"error_rate"}, []),  # below, but too near
        (Window(answered=92, failed=8), {"error_rate"}, [("error_rate", False)]),
        (Window(), {"error_rate", "latency"}, [("error_rate", False), ("latency", False)]),
        (Window(answered=100, slow=5), set[str](), []),
        (Window(answered=100, slow=6), set[str](), [("latency", True)]),
        (Window(answered=100, slow=6), {"latency"}, []),
        (Window(answered=100, failed=50, slow=50), set[str](), [("error_rate", True), ("latency", True)]),
    ],
)
def test_decide(window: Window, firing: set[str], changes: list[tuple[str, bool]]) -> None:
    assert [(event.name, event.firing) for event in decide(window, AlertThresholds(), firing)] == changes


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def observe(watch: AlertWatch, status: str, count: int, duration_s: float = 0.1) -> None:
    for _ in range(count):
        watch.observe(Record("r", "http", 1.0, status=status, duration_s=duration_s))


def changes(watch: AlertWatch) -> list[tuple[str, bool]]:
    return [(event.name, event.firing) for event in watch.tick()]


def test_failures_fire_once_and_resolve_once_when_they_leave_the_window() -> None:
    clock = Clock()
    watch = AlertWatch(MonitoringConfig(), clock)
    observe(watch, "ok", 10)
    observe(watch, ErrorKind.MODEL_UNAVAILABLE, 10)
    [event] = watch.tick()
    assert (event.name, event.firing, event.value, event.limit) == ("error_rate", True, 0.5, 0.1)
    assert "10 of 20 requests failed in 300 s" in event.message
    seen: list[tuple[str, bool]] = []
    for _ in range(INTERVAL_S + INTERVAL_S // BUCKETS):
        clock.now += 1
        seen += changes(watch)
    assert seen == [("error_rate", False)]
    assert not watch.firing


def test_slow_answers_fire_and_a_long_silence_empties_the_window() -> None:
    clock = Clock()
    watch = AlertWatch(MonitoringConfig(), clock)
    observe(watch, "ok", 20, duration_s=2.5)
    assert changes(watch) == [("latency", True)]
    clock.now += 10 * INTERVAL_S
    assert changes(watch) == [("latency", False)]


@pytest.mark.parametrize(
    "status", ["cancelled", ErrorKind.INVALID_REQUEST, ErrorKind.UNAUTHENTICATED, ErrorKind.UNSAFE_PROMPT]
)
def test_callers_cannot_raise_an_alarm(status: str) -> None:
    watch = AlertWatch(MonitoringConfig(), Clock())
    observe(watch, status, 1000, duration_s=60)
    assert watch.tick() == []


def test_every_status_has_a_side() -> None:
    watch = AlertWatch(MonitoringConfig(), Clock())
    for kind in (ErrorKind.INTERNAL, ErrorKind.OVERLOADED, ErrorKind.DEADLINE_EXCEEDED, ErrorKind.STREAM_BROKEN):
        observe(watch, kind, 5)
    assert changes(watch) == [("error_rate", True)]
