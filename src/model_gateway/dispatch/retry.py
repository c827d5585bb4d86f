"""Should a failed attempt be repeated at the same target, and when? Pure."""

from __future__ import annotations

from model_gateway.domain.errors import UpstreamError


def decide(
    error: UpstreamError, attempt: int, retry_count: int, retry_delay_s: float, remaining_s: float, jitter: float
) -> float | None:
    """Seconds to wait before the next attempt, or None: give up on this target.

    `attempt` counts from 1. The wait is retryDelay × 2^(attempt − 1), spread over 50–100 % of itself by `jitter`
    (0–1), never less than what Retry-After asks for, and never beyond the time that remains.
    """
    if not error.retryable or attempt > retry_count:
        return None
    delay_s = retry_delay_s * (2.0 ** (attempt - 1)) * (0.5 + 0.5 * jitter)
    if error.retry_after_s is not None:
        delay_s = max(delay_s, error.retry_after_s)
    return delay_s if delay_s < remaining_s else None
