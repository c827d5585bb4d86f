"""What a provider's status and headers say about trying again: the same for every protocol over HTTP. Pure."""

from __future__ import annotations

from collections.abc import Mapping

RETRYABLE_STATUSES = frozenset((408, 409, 425, 429, 500, 502, 503, 504, 529))


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds. The HTTP-date form is not used by model providers and is ignored."""
    try:
        seconds = float(headers.get("retry-after", ""))
    except ValueError:
        return None
    return seconds if 0 <= seconds < 86_400 else None
