"""What a key has left, in the reply headers that a vendor's clients look for. Empty for keys without limits."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

from model_gateway.admission.limits import Quota
from model_gateway.admission.window import Level


def openais(quota: Quota) -> bytes:
    """`x-ratelimit-*`; the time until all is there again is a duration such as 6m0s."""
    text = ""
    for thing, level in (("requests", quota.requests), ("tokens", quota.tokens)):
        if level is not None:
            text += (
                f"x-ratelimit-limit-{thing}: {level.limit}\r\n"
                f"x-ratelimit-remaining-{thing}: {level.remaining}\r\n"
                f"x-ratelimit-reset-{thing}: {_duration(level.reset_s)}\r\n"
            )
    return text.encode()


def anthropics(quota: Quota) -> bytes:
    """`anthropic-ratelimit-*`; the same time is a moment in UTC."""
    now = datetime.now(UTC)
    return "".join(
        [
            f"anthropic-ratelimit-{thing}-limit: {level.limit}\r\n"
            f"anthropic-ratelimit-{thing}-remaining: {level.remaining}\r\n"
            f"anthropic-ratelimit-{thing}-reset: {_moment(now, level.reset_s)}\r\n"
            for thing, level in _levels(quota)
        ]
    ).encode()


def _levels(quota: Quota) -> list[tuple[str, Level]]:
    levels = (("requests", quota.requests), ("tokens", quota.tokens))
    return [(thing, level) for thing, level in levels if level is not None]


def _moment(now: datetime, seconds: float) -> str:
    return (now + timedelta(seconds=math.ceil(seconds))).strftime("%Y-%m-%dT%H:%M:%SZ")


def _duration(seconds: float) -> str:
    milliseconds = math.ceil(seconds * 1000)
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes}m{rest / 1000:g}s" if minutes else f"{rest / 1000:g}s"
