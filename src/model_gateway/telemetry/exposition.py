"""Counts as the text that Prometheus reads. For whoever oversees what serves: a worker has no use for the library."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from model_gateway.telemetry.around import Around
from model_gateway.telemetry.counts import Counts
from model_gateway.telemetry.families import families


def rendered(counts: Counts, around: Around) -> tuple[bytes, str]:
    """In Prometheus' text format, with this process's own figures, and the content type."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Families(counts, around))
    ProcessCollector(registry=registry)  # RSS, CPU, open files; gives nothing where there is no /proc
    return generate_latest(registry), CONTENT_TYPE_LATEST


class _Families(Collector):
    def __init__(self, counts: Counts, around: Around) -> None:
        self._counts = counts
        self._around = around

    def collect(self) -> Iterator[Metric]:
        return families(self._counts, self._around)
