"""The gateway's metrics: decides under which label a request is counted. Their names: families.py.

Counts into plain dictionaries and lists and turns them into metric families when Prometheus asks: the library's own
counters and histograms, each with its lock, take 3.2 µs per request even with cached children; this takes 0.9. Labels
are bounded: a model is one of the configuration's or `other`, never a caller's string. Not thread-safe for writers:
`observe` belongs to one event loop; reading from another thread is fine.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping

from model_gateway.domain.record import Cascaded, Record
from model_gateway.telemetry.counts import Comparison, Counts, Series


class Metrics:
    """`models`: the names that may become labels. `in_flight`: provider → requests running there now."""

    def __init__(
        self, *, models: Collection[str] = (), in_flight: Callable[[], Mapping[str, int]] = dict[str, int]
    ) -> None:
        self._counts = Counts({"": Series()} | {model: Series() for model in models if model})
        self._in_flight = in_flight

    def adopt(self, models: Collection[str], in_flight: Callable[[], Mapping[str, int]]) -> None:
        """A new configuration: these names may become labels too; what was counted stays."""
        for model in models:
            if model:
                self._counts.series.setdefault(model, Series())
        self._in_flight = in_flight

    def observe(self, record: Record) -> None:
        """Count an ended request."""
        counts = self._counts
        series = counts.series.get(record.model) or counts.other
        series.observe(record, 0 if record.cascade is None else self._cascaded(record, record.cascade))
        cache = record.cache
        if cache:
            counts.cache[cache] = counts.cache.get(cache, 0) + 1
        for attempt in record.attempts:
            key = (attempt.provider, attempt.outcome)
            counts.attempts[key] = counts.attempts.get(key, 0) + 1

    def comparison(self) -> Comparison:
        """To be counted into, on the event loop."""
        return self._counts.comparison

    def embeddings(self) -> dict[str, int]:
        """By result: to be counted into, on the event loop."""
        return self._counts.embeddings

    def _cascaded(self, record: Record, cascade: Cascaded) -> int:
        """Count it, and what other models than the one that answered were paid; returns that, in nano-USD."""
        counts = self._counts
        if cascade.outcome:
            key = (cascade.outcome, cascade.reason)
            counts.cascades[key] = counts.cascades.get(key, 0) + 1
        elsewhere = 0
        for attempt in record.attempts:
            if attempt.usage is not None and (attempt.provider, attempt.model) != (record.provider, record.model):
                (counts.series.get(attempt.model) or counts.other).spend(attempt.usage, attempt.cost_nano)
                elsewhere += attempt.cost_nano
        return elsewhere

    def counts(self) -> Counts:
        """As they are now. They go on counting: not to be changed."""
        self._counts.in_flight = dict(self._in_flight())
        return self._counts

    def counts_for_scrape(self) -> Counts:
        """With those that take a while to count, which is not done for every report. On the event loop."""
        counts = self.counts()
        counts.tasks = len(asyncio.all_tasks())
        return counts
