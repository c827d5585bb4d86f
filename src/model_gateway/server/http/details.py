"""The `gateway` object: what the gateway did for one request, for callers who ask with `x-gateway-details: 1`."""

from __future__ import annotations

from typing import Any

import msgspec

from model_gateway.domain.record import Record
from model_gateway.domain.usage import usd_from_nano


def details(record: Record) -> dict[str, Any]:
    """Costs in USD, times in milliseconds so far."""
    return {
        "request_id": record.request_id,
        "provider": record.provider,
        "model": record.model,
        "asked_tier": record.asked_tier,
        "tier": record.tier,
        "route_reason": record.route_reason,
        "session": record.session or None,
        "score": round(record.score, 4) if record.score >= 0 else None,
        "factors": [msgspec.to_builtins(factor) for factor in record.factors],
        "cost_usd": usd_from_nano(record.cost_nano),
        "estimate_usd": usd_from_nano(record.estimate_nano),
        "usage": msgspec.to_builtins(record.usage) if record.usage else None,
        "cache": record.cache,
        "attempts": [
            {
                "provider": a.provider,
                "model": a.model,
                "outcome": a.outcome,
                "duration_ms": round(a.duration_s * 1e3, 1),
                "cost_usd": usd_from_nano(a.cost_nano if len(record.attempts) > 1 else record.cost_nano),
            }
            for a in record.attempts
        ],
        "cascade": _cascade(record),
        "first_token_ms": round(record.first_token_s * 1e3, 1),
        "duration_ms": round(sum(a.duration_s for a in record.attempts) * 1e3, 1),
    }


def _cascade(record: Record) -> dict[str, Any] | None:
    told = record.cascade
    if told is None:
        return None
    logprob = None if told.logprob is None else round(told.logprob, 4)
    return {
        "name": told.name,
        "outcome": told.outcome,
        "reason": told.reason,
        "failed": told.failed or None,
        "logprob": logprob,
    }
