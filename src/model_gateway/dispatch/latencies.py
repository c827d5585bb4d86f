"""How slow is unusually slow? The recent times to the first token of one target. Pure."""

from __future__ import annotations

from collections import deque

SAMPLES = 128
MIN_SAMPLES = 20


class Latencies:
    """The last SAMPLES times, in seconds."""

    __slots__ = ("_recent",)

    def __init__(self) -> None:
        self._recent: deque[float] = deque(maxlen=SAMPLES)

    def add(self, seconds: float) -> None:
        self._recent.append(seconds)

    def percentile(self, percent: float) -> float | None:
        """The least time not exceeded by `percent` % of the calls (nearest rank); None until MIN_SAMPLES are known."""
        if len(self._recent) < MIN_SAMPLES:
            return None
        ordered = sorted(self._recent)
        rank = -(-len(ordered) * percent // 100)
        return ordered[max(0, int(rank) - 1)]
