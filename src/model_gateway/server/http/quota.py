"""What a key has left, in the reply headers that a vendor's clients look for. Empty for keys without limits."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from model_gateway.admission.limits import Quota
from model_gateway.admission.window import Level


def openais(quota: Quota) -> bytes:
    """`x-ratelimit-*`; the time until all is there again is a duration such as 6m0s."""
    return _lines(
        (f"x-ratelimit-{word}-{thing}", value)
        for thing, level in _levels(quota)
        for word, value in (
            ("limit", str(level.limit)),
            ("remaining", str(level.remaining)),
            ("reset", _duration(level.reset_s)),
        )
    )


def anthropics(quota: Quota) -> bytes:
    """`anthropic-ratelimit-*`; the same time is a moment in UTC."""
    now = datetime.now(UTC)
    return _lines(
        (f"anthropic-ratelimit-{thing}-{word}", value)
        for thing, level in _levels(quota)
        for word, value in (
            ("limit", str(level.limit)),
            ("remaining", str(level.remaining)),
            ("reset", (now + timedelta(seconds=math.ceil(level.reset_s))).strftime("%Y-%m-%dT%H:%M:%SZ")),
        )
    )


def _levels(quota: Quota) -> Iterator[tuple[str, Level]]:
    if quota.requests is not None:
        yield "requests", quota.requests
    if quota.tokens is not None:
        yield "tokens", quota.tokens


def _lines(headers: Iterator[tuple[str, str]]) -> bytes:
    return "".join([f"{name}: {value}\r\n" for name, value in headers]).encode()


def _duration(seconds: float) -> str:
    milliseconds = math.ceil(seconds * 1000)
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes}m{rest / 1000:g}s" if minutes else f"{rest / 1000:g}s"
