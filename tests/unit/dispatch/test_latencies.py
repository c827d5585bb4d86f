from __future__ import annotations

import pytest

from model_gateway.dispatch.latencies import MIN_SAMPLES, SAMPLES, Latencies


def test_nothing_is_said_of_a_few() -> None:
    latencies = Latencies()
    for _ in range(MIN_SAMPLES - 1):
        latencies.add(1.0)
    assert latencies.percentile(95) is None
    latencies.add(1.0)
    assert latencies.percentile(95) == 1.0


@pytest.mark.parametrize(("percent", "seconds"), [(1, 1.0), (50, 50.0), (95, 95.0), (99.9, 100.0)])
def test_nearest_rank(percent: float, seconds: float) -> None:
    latencies = Latencies()
    for value in range(100, 0, -1):
        latencies.add(float(value))
    assert latencies.percentile(percent) == seconds


def test_only_the_recent_count() -> None:
    latencies = Latencies()
    for _ in range(500):
        latencies.add(9.0)
    for _ in range(SAMPLES):
        latencies.add(1.0)
    assert latencies.percentile(99) == 1.0
