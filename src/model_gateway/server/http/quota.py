"""What a key has left, in the reply headers that a vendor's clients look for. Empty for keys without limits."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

from model_gateway.admission.limits import Quota
from model_gateway.admission.window import Level

_REQUESTS = "x-ratelimit-limit-requests: %d\r\nx-ratelimit-remaining-requests: %d\r\nx-ratelimit-reset-requests: %s\r\n"
_TOKENS = _REQUESTS.replace("requests", "tokens")


def openais(quota: Quota) -> bytes:
    """`x-ratelimit-*`; the time until all is there again is a duration such as 6m0s."""
    requests, tokens = quota.requests, quota.tokens
    text = "" if requests is None else _REQUESTS % (requests.limit, requests.remaining, _duration(requests.reset_s))
    if tokens is not None:
        text += _TOKENS % (tokens.limit, tokens.remaining, _duration(tokens.reset_s))
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
    if milliseconds < 60_000:
        return "%gs" % (milliseconds / 1000)  # half of what an f-string takes
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes}m{rest / 1000:g}s"
