"""What Prometheus reads: names, labels and sums, and labels that no caller can multiply."""

from __future__ import annotations

import sys

from prometheus_client.parser import text_string_to_metric_families

from model_gateway.domain.errors import ErrorKind
from model_gateway.domain.record import Attempt, Record
from model_gateway.domain.usage import Usage
from model_gateway.telemetry.around import Around
from model_gateway.telemetry.exposition import rendered
from model_gateway.telemetry.metrics import Metrics

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def record(model: str = "m", status: str = "ok", *, duration_s: float = 0.3, cache: str = "miss") -> Record:
    return Record("r", "http", 1.0, status=status, model=model, duration_s=duration_s, cache=cache)


def scrape(metrics: Metrics) -> Samples:
    body, content_type = rendered(metrics.counts(), Around())
    assert content_type.startswith("text/plain")
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float | None:
    return samples.get((name, frozenset(labels.items())))


def new() -> Metrics:
    return Metrics(models=["m", "n"], in_flight=lambda: {"openai": 2})


def test_a_request_is_counted_everywhere() -> None:
    metrics = new()
    first = record()
    first.usage, first.cost_nano, first.first_token_s = Usage(10, 20, 3, 4), 2_500_000_000, 0.02
    first.attempts = [Attempt("a", "m", ErrorKind.UPSTREAM_TIMEOUT), Attempt("openai", "m", "ok")]
    metrics.observe(first)
    metrics.observe(record("n", ErrorKind.MODEL_UNAVAILABLE, duration_s=500))
    samples = scrape(metrics)
    expected = [
        ("model_gateway_requests_total", {"model": "m", "status": "ok"}, 1),
        ("model_gateway_requests_total", {"model": "n", "status": "model_unavailable"}, 1),
        ("model_gateway_request_duration_seconds_bucket", {"model": "m", "le": "0.25"}, 0),
        ("model_gateway_request_duration_seconds_bucket", {"model": "m", "le": "0.5"}, 1),
        ("model_gateway_request_duration_seconds_bucket", {"model": "n", "le": "120.0"}, 0),
        ("model_gateway_request_duration_seconds_bucket", {"model": "n", "le": "+Inf"}, 1),
        ("model_gateway_request_duration_seconds_count", {"model": "m"}, 1),
        ("model_gateway_request_duration_seconds_sum", {"model": "m"}, 0.3),
        ("model_gateway_first_token_seconds_bucket", {"model": "m", "le": "0.025"}, 1),
        ("model_gateway_tokens_total", {"model": "m", "direction": "input"}, 10),
        ("model_gateway_tokens_total", {"model": "m", "direction": "output"}, 20),
        ("model_gateway_tokens_total", {"model": "m", "direction": "cached_input"}, 3),
        ("model_gateway_tokens_total", {"model": "m", "direction": "reasoning"}, 4),
        ("model_gateway_cost_usd_total", {"model": "m"}, 2.5),
        ("model_gateway_cache_total", {"result": "miss"}, 2),
        ("model_gateway_attempts_total", {"provider": "a", "outcome": "upstream_timeout"}, 1),
        ("model_gateway_attempts_total", {"provider": "openai", "outcome": "ok"}, 1),
        ("model_gateway_in_flight", {"provider": "openai"}, 2),
    ]
    for name, labels, number in expected:
        assert value(samples, name, **labels) == number, (name, labels)
    assert any(name == "model_gateway_build_info" and number == 1 for (name, _), number in samples.items())
    if sys.platform == "linux":
        assert (value(samples, "process_resident_memory_bytes") or 0) > 1_000_000


def test_a_value_on_a_bound_belongs_to_it() -> None:
    metrics = new()
    metrics.observe(record(duration_s=0.5))
    assert value(scrape(metrics), "model_gateway_request_duration_seconds_bucket", model="m", le="0.5") == 1


def test_model_labels_are_bounded() -> None:
    metrics = new()
    metrics.observe(record("", ErrorKind.UNAUTHENTICATED))
    for number in range(100):
        metrics.observe(record(f"made-up-{number}"))
    models = {dict(labels).get("model") for (_, labels) in scrape(metrics)} - {None}
    assert models == {"none", "other"}


def test_a_cache_hit_spends_no_tokens_and_no_counter_falls() -> None:
    metrics = new()
    hit = record(cache="hit")
    hit.usage = Usage(10, 20)
    odd = record()
    odd.usage = Usage(-5, -5)
    metrics.observe(hit)
    metrics.observe(odd)
    samples = scrape(metrics)
    assert value(samples, "model_gateway_tokens_total", model="m", direction="input") == 0
    assert value(samples, "model_gateway_cache_total", result="hit") == 1
