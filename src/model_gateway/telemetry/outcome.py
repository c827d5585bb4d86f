"""Whose fault an outcome is: decides which statuses of a Record count against the gateway and its providers."""

from __future__ import annotations

from model_gateway.domain.errors import ErrorKind

# A caller's mistake, a refusal and a caller's own small budget are answers, not failures: anyone with a bad key could
# otherwise raise an alarm.
CALLER_STATUSES: frozenset[str] = frozenset(
    {
        "cancelled",
        ErrorKind.INVALID_REQUEST,
        ErrorKind.UNSAFE_PROMPT,
        ErrorKind.UNAUTHENTICATED,
        ErrorKind.PERMISSION_DENIED,
        ErrorKind.UNKNOWN_MODEL,
        ErrorKind.UNKNOWN_REQUEST,
        ErrorKind.UNKNOWN_PATH,
        ErrorKind.RATE_LIMITED,
        ErrorKind.COST_LIMIT_EXCEEDED,
    }
)


def is_failure(status: str) -> bool:
    """True for a status that an operator must care about."""
    return status != "ok" and status not in CALLER_STATUSES
