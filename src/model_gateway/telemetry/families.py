"""Counts as Prometheus' metric families: decides the names and the labels."""

from __future__ import annotations

import platform
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from model_gateway import __version__
from model_gateway.domain.usage import usd_from_nano
from model_gateway.telemetry.around import Around, CertificateFigures
from model_gateway.telemetry.counts import BUCKETS_S, DIRECTIONS, Comparison, Counts, Series

NO_MODEL = "none"
"""Requests that were refused before a model was chosen."""

OTHER_MODEL = "other"

_BOUNDS = (*(str(bound) for bound in BUCKETS_S), "+Inf")


def families(counts: Counts, around: Around) -> Iterator[Metric]:
    """The current values, models without traffic left out."""
    named = [(model or NO_MODEL, series) for model, series in counts.series.items()]
    named.append((OTHER_MODEL, counts.other))
    # Copies: the event loop may add a key while another thread reads.
    yield from _model_families([(model, series) for model, series in named if series.statuses or any(series.tokens)])
    cache = CounterMetricFamily("model_gateway_cache", "Cache lookups by result.", labels=["result"])
    for result, count in counts.cache.copy().items():
        cache.add_metric([result], count)
    yield cache
    attempts = CounterMetricFamily(
        "model_gateway_attempts", "Calls to providers by outcome.", labels=["provider", "outcome"]
    )
    for (provider, outcome), count in counts.attempts.copy().items():
        attempts.add_metric([provider, str(outcome)], count)
    yield attempts
    cascades = CounterMetricFamily(
        "model_gateway_cascade", "Cascades by outcome and its reason.", labels=["outcome", "reason"]
    )
    for (outcome, reason), count in counts.cascades.copy().items():
        cascades.add_metric([outcome, reason], count)
    yield cascades
    if counts.embeddings:
        embeddings = CounterMetricFamily(
            "model_gateway_embeddings", "Embeddings of queries for the routing model, by result.", labels=["result"]
        )
        for result, count in counts.embeddings.copy().items():
            embeddings.add_metric([result], count)
        yield embeddings
    in_flight = GaugeMetricFamily("model_gateway_in_flight", "Requests running at a provider now.", labels=["provider"])
    for provider, count in counts.in_flight.items():
        in_flight.add_metric([provider], count)
    yield in_flight
    yield GaugeMetricFamily("model_gateway_tasks", "Tasks in the event loops of what serves.", value=counts.tasks)
    if counts.comparison.tiers or counts.comparison.dropped:
        yield from _comparison_families(counts.comparison)
    yield from _around_families(around)


def _around_families(around: Around) -> Iterator[Metric]:
    build = GaugeMetricFamily("model_gateway_build_info", "Always 1.", labels=["version", "python"])
    build.add_metric([__version__, platform.python_version()], 1)
    yield build
    yield GaugeMetricFamily(
        "model_gateway_config_generation", "The configuration in force, counted from 1.", value=around.generation
    )
    yield CounterMetricFamily(
        "model_gateway_config_refused", "Configurations refused while the last good one went on.", value=around.refused
    )
    if around.certificates:
        yield from _certificate_families(around.certificates)
    if around.restarts is None:
        return
    yield CounterMetricFamily(
        "model_gateway_worker_restarts", "Workers started in place of dead ones.", value=around.restarts
    )
    connections = GaugeMetricFamily("model_gateway_worker_connections", "Open HTTP connections.", labels=["worker"])
    memory = GaugeMetricFamily("model_gateway_worker_resident_memory_bytes", "RSS of a worker.", labels=["worker"])
    descriptors = GaugeMetricFamily("model_gateway_worker_open_fds", "Open files of a worker.", labels=["worker"])
    cpu = CounterMetricFamily("model_gateway_worker_cpu_seconds", "CPU time of a worker.", labels=["worker"])
    for worker in around.workers:
        connections.add_metric([str(worker.slot)], worker.connections)
        memory.add_metric([str(worker.slot)], worker.resident_bytes)
        descriptors.add_metric([str(worker.slot)], worker.open_fds)
        cpu.add_metric([str(worker.slot)], worker.cpu_s)
    yield from (connections, memory, descriptors, cpu)


def _comparison_families(comparison: Comparison) -> Iterator[Metric]:
    tiers = CounterMetricFamily(
        "model_gateway_candidate_requests",
        "Requests by the tier that the routing model asked for and the one that the candidate would have.",
        labels=["tier", "candidate_tier"],
    )
    for (tier, candidate_tier), count in comparison.tiers.copy().items():
        tiers.add_metric([tier, candidate_tier], count)
    judged = sum(comparison.tiers.values())
    cost = CounterMetricFamily(
        "model_gateway_candidate_cost_usd", "What these requests cost, and would have by the candidate.", labels=["by"]
    )
    cost.add_metric(["current"], usd_from_nano(comparison.current_nano))
    cost.add_metric(["candidate"], usd_from_nano(comparison.candidate_nano))
    yield from (tiers, cost)
    yield GaugeMetricFamily(
        "model_gateway_candidate_score_difference",
        "The candidate's score less the present one, on average.",
        value=comparison.score_difference / judged if judged else 0.0,
    )
    yield CounterMetricFamily(
        "model_gateway_observations_dropped", "Samples and comparisons that could not be noted.", comparison.dropped
    )


def _certificate_families(certificates: tuple[CertificateFigures, ...]) -> Iterator[Metric]:
    expiry = GaugeMetricFamily(
        "model_gateway_certificate_expiry_timestamp_seconds",
        "When the door's certificate expires, in seconds since 1970.",
        labels=["door"],
    )
    refused = GaugeMetricFamily(
        "model_gateway_certificate_refused",
        "1 while newer files cannot be used and the door goes on with the last good ones.",
        labels=["door"],
    )
    for certificate in certificates:
        expiry.add_metric([certificate.door], certificate.expires_at)
        refused.add_metric([certificate.door], int(certificate.refused))
    yield from (expiry, refused)


def _model_families(named: list[tuple[str, Series]]) -> Iterator[Metric]:
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
        for direction, count in zip(DIRECTIONS, series.tokens, strict=True):
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
