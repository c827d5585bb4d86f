"""The gateway's metrics: decides their names, labels and buckets. The only module that knows Prometheus.

Counts into plain dictionaries and lists and turns them into metric families when Prometheus asks: the library's own
counters and histograms, each with its lock, take 3.2 µs per request even with cached children; this takes 0.9. Labels
are bounded: a model is one of the configuration's or `other`, never a caller's string. Not thread-safe for writers:
`observe` belongs to one event loop; reading from another thread is fine.
"""

from __future__ import annotations

import platform
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator, Mapping

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from model_gateway import __version__
from model_gateway.domain.record import Record
from model_gateway.domain.usage import usd_from_nano

BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0)
"""From a cache hit to the longest allowed request; 2 s is the default latency alert."""

NO_MODEL = "none"
"""Requests that were refused before a model was chosen."""

OTHER_MODEL = "other"

_BOUNDS = (*(str(bound) for bound in BUCKETS_S), "+Inf")
_DIRECTIONS = ("input", "output", "cached_input", "reasoning")


class _Series:
    """All counts of one model."""

    __slots__ = ("cost_nano", "duration_s", "durations", "first_token_s", "first_tokens", "statuses", "tokens")

    def __init__(self) -> None:
        self.statuses: dict[str, int] = {}
        self.durations = [0] * len(_BOUNDS)
        self.duration_s = 0.0
        self.first_tokens = [0] * len(_BOUNDS)
        self.first_token_s = 0.0
        self.tokens = [0] * len(_DIRECTIONS)
        self.cost_nano = 0


class Metrics:
    """`models`: the names that may become labels. `in_flight`: provider → requests running there now.

    `expiries`: door → when its certificate expires, epoch seconds.
    """

    def __init__(
        self,
        *,
        models: Collection[str],
        in_flight: Callable[[], Mapping[str, int]],
        expiries: Callable[[], Mapping[str, float]] = dict[str, float],
    ) -> None:
        self._series = {"": _Series()} | {model: _Series() for model in models if model}
        self._other = _Series()
        self._cache: dict[str, int] = {}
        self._attempts: dict[tuple[str, str], int] = {}
        self._in_flight = in_flight
        self._expiries = expiries
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Families(self))
        ProcessCollector(registry=self._registry)  # RSS, CPU, open files; gives nothing where there is no /proc

    def observe(self, record: Record) -> None:
        """Count an ended request."""
        series = self._series.get(record.model) or self._other
        status, duration_s, first_token_s, usage = record.status, record.duration_s, record.first_token_s, record.usage
        statuses = series.statuses
        statuses[status] = statuses.get(status, 0) + 1
        series.durations[bisect_left(BUCKETS_S, duration_s)] += 1
        series.duration_s += duration_s
        if first_token_s:
            series.first_tokens[bisect_left(BUCKETS_S, first_token_s)] += 1
            series.first_token_s += first_token_s
        cache = record.cache
        if cache:
            self._cache[cache] = self._cache.get(cache, 0) + 1
        if usage is not None and cache != "hit":  # a hit repeats tokens that were counted when they were spent
            tokens = series.tokens
            # A counter may never fall, so a provider's negative count is none.
            tokens[0] += max(usage.input_tokens, 0)
            tokens[1] += max(usage.output_tokens, 0)
            tokens[2] += max(usage.cached_input_tokens, 0)
            tokens[3] += max(usage.reasoning_tokens, 0)
        series.cost_nano += record.cost_nano
        for attempt in record.attempts:
            key = (attempt.provider, attempt.outcome)
            self._attempts[key] = self._attempts.get(key, 0) + 1

    def render(self) -> tuple[bytes, str]:
        """Everything in Prometheus' text format, and its content type."""
        return generate_latest(self._registry), CONTENT_TYPE_LATEST

    def families(self) -> Iterator[Metric]:
        """The current values as metric families, models without traffic left out."""
        named = [(model or NO_MODEL, series) for model, series in self._series.items()]
        named.append((OTHER_MODEL, self._other))
        # Copies: the event loop may add a key while another thread reads.
        yield from _model_families([(model, series) for model, series in named if series.statuses])
        cache = CounterMetricFamily("model_gateway_cache", "Cache lookups by result.", labels=["result"])
        for result, count in self._cache.copy().items():
            cache.add_metric([result], count)
        yield cache
        attempts = CounterMetricFamily(
            "model_gateway_attempts", "Calls to providers by outcome.", labels=["provider", "outcome"]
        )
        for (provider, outcome), count in self._attempts.copy().items():
            attempts.add_metric([provider, str(outcome)], count)
        yield attempts
        in_flight = GaugeMetricFamily(
            "model_gateway_in_flight", "Requests running at a provider now.", labels=["provider"]
        )
        for provider, count in self._in_flight().items():
            in_flight.add_metric([provider], count)
        yield in_flight
        expiries = GaugeMetricFamily(
            "model_gateway_certificate_expires_seconds",
            "When the door's certificate expires, in seconds since 1970.",
            labels=["door"],
        )
        for door, at in self._expiries().items():
            expiries.add_metric([door], at)
        if expiries.samples:
            yield expiries
        build = GaugeMetricFamily("model_gateway_build_info", "Always 1.", labels=["version", "python"])
        build.add_metric([__version__, platform.python_version()], 1)
        yield build


class _Families(Collector):
    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        return self._metrics.families()


def _model_families(named: list[tuple[str, _Series]]) -> Iterator[Metric]:
    requests = CounterMetricFamily(
        "model_gateway_requests", "Requests by model and status.", labels=["model", "status"]
    )
    durations = HistogramMetricFamily(
        "model_gateway_request_duration_seconds", "Time from a request's first to its last byte.", labels=["model"]
    )
    first_tokens = HistogramMetricFamily(
        "model_gateway_first_token_seconds", "Time to a stream's first chunk.", labels=["model"]
    )
    tokens = CounterMetricFamily(
        "model_gateway_tokens",
        "Tokens by direction; cached_input is part of input, reasoning of output.",
        labels=["model", "direction"],
    )
    cost = CounterMetricFamily("model_gateway_cost_usd", "US dollars charged.", labels=["model"])
    for model, series in named:
        for status, count in series.statuses.copy().items():
            requests.add_metric([model, str(status)], count)
        durations.add_metric([model], _cumulative(series.durations), series.duration_s)
        if any(series.first_tokens):
            first_tokens.add_metric([model], _cumulative(series.first_tokens), series.first_token_s)
        for direction, count in zip(_DIRECTIONS, series.tokens, strict=True):
            tokens.add_metric([model, direction], count)
        cost.add_metric([model], usd_from_nano(series.cost_nano))
    return iter((requests, durations, first_tokens, tokens, cost))


def _cumulative(counts: list[int]) -> list[tuple[str, float]]:
    total = 0
    buckets: list[tuple[str, float]] = []
    for bound, count in zip(_BOUNDS, counts, strict=True):
        total += count
        buckets.append((bound, total))
    return buckets
