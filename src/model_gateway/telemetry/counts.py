"""What is counted of ended requests: plain numbers, which several processes can add up. Decides nothing about names."""

from __future__ import annotations

from bisect import bisect_left

import msgspec

from model_gateway.domain.record import Record
from model_gateway.domain.usage import Usage

BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0)
"""From a cache hit to the longest allowed request; 2 s is the default latency alert."""

DIRECTIONS = ("input", "output", "cached_input", "reasoning")

_BUCKETS = len(BUCKETS_S) + 1


class Series(msgspec.Struct):
    """All counts of one model."""

    statuses: dict[str, int] = {}
    durations: list[int] = msgspec.field(default_factory=lambda: [0] * _BUCKETS)
    duration_s: float = 0.0
    first_tokens: list[int] = msgspec.field(default_factory=lambda: [0] * _BUCKETS)
    first_token_s: float = 0.0
    tokens: list[int] = msgspec.field(default_factory=lambda: [0] * len(DIRECTIONS))
    cost_nano: int = 0

    def observe(self, record: Record, elsewhere_nano: int = 0) -> None:
        """Count an ended request. `elsewhere_nano`: what of its cost other models have earned."""
        status, duration_s, first_token_s, usage = record.status, record.duration_s, record.first_token_s, record.usage
        statuses = self.statuses
        statuses[status] = statuses.get(status, 0) + 1
        self.durations[bisect_left(BUCKETS_S, duration_s)] += 1
        self.duration_s += duration_s
        if first_token_s:
            self.first_tokens[bisect_left(BUCKETS_S, first_token_s)] += 1
            self.first_token_s += first_token_s
        if usage is not None and record.cache != "hit":  # a hit repeats tokens that were counted when they were spent
            self._used(usage)
        self.cost_nano += record.cost_nano - elsewhere_nano

    def spend(self, usage: Usage, cost_nano: int) -> None:
        """Count what a model was paid for an answer that was not given."""
        self._used(usage)
        self.cost_nano += cost_nano

    def _used(self, usage: Usage) -> None:
        tokens = self.tokens
        # A counter may never fall, so a provider's negative count is none.
        if usage.input_tokens > 0:
            tokens[0] += usage.input_tokens
        if usage.output_tokens > 0:
            tokens[1] += usage.output_tokens
        if usage.cached_input_tokens > 0:
            tokens[2] += usage.cached_input_tokens
        if usage.reasoning_tokens > 0:
            tokens[3] += usage.reasoning_tokens

    def add(self, other: Series) -> None:
        for status, count in other.statuses.items():
            self.statuses[str(status)] = self.statuses.get(status, 0) + count
        self.durations = _sums(self.durations, other.durations)
        self.duration_s += other.duration_s
        self.first_tokens = _sums(self.first_tokens, other.first_tokens)
        self.first_token_s += other.first_token_s
        self.tokens = _sums(self.tokens, other.tokens)
        self.cost_nano += other.cost_nano


class Comparison(msgspec.Struct):
    """How a candidate routing model judged the same requests. `tiers`: present and candidate's tier → requests.

    `score_difference`: candidate's less present, summed; `dropped`: what could not be noted, samples too.
    """

    tiers: dict[tuple[str, str], int] = {}
    score_difference: float = 0.0
    current_nano: int = 0
    candidate_nano: int = 0
    dropped: int = 0

    def add(self, other: Comparison) -> None:
        for (current, candidate), count in other.tiers.items():
            key = (current, candidate)
            self.tiers[key] = self.tiers.get(key, 0) + count
        self.score_difference += other.score_difference
        self.current_nano += other.current_nano
        self.candidate_nano += other.candidate_nano
        self.dropped += other.dropped


class Counts(msgspec.Struct):
    """Everything since a process began. `attempts`: by provider and outcome; `in_flight`: now, by provider; `cascades`:
    by outcome and reason; `embeddings`: by result.

    `series`: by model, "" for requests that were refused before one was chosen. `tasks`: of asyncio, when last scraped
    """

    series: dict[str, Series] = {}
    other: Series = msgspec.field(default_factory=Series)
    cache: dict[str, int] = {}
    attempts: dict[tuple[str, str], int] = {}
    in_flight: dict[str, int] = {}
    cascades: dict[tuple[str, str], int] = {}
    embeddings: dict[str, int] = {}
    comparison: Comparison = msgspec.field(default_factory=Comparison)
    tasks: int = 0

    def add(self, other: Counts) -> None:
        for model, series in other.series.items():
            self.series.setdefault(model, Series()).add(series)
        self.other.add(other.other)
        self.comparison.add(other.comparison)
        self.tasks += other.tasks
        for result, count in other.cache.items():
            self.cache[result] = self.cache.get(result, 0) + count
        for (provider, outcome), count in other.attempts.items():
            key = (provider, str(outcome))
            self.attempts[key] = self.attempts.get(key, 0) + count
        for provider, count in other.in_flight.items():
            self.in_flight[provider] = self.in_flight.get(provider, 0) + count
        for result, count in other.embeddings.items():
            self.embeddings[result] = self.embeddings.get(result, 0) + count
        for (outcome, reason), count in other.cascades.items():
            key = (outcome, reason)
            self.cascades[key] = self.cascades.get(key, 0) + count


def _sums(one: list[int], other: list[int]) -> list[int]:
    return [a + b for a, b in zip(one, other, strict=True)]
