"""Targets, their live states and questions, for tests of routing."""

from __future__ import annotations

from collections.abc import Sequence

from model_gateway.domain.route import TIERS, Target, TargetState, Tier
from model_gateway.domain.usage import Price
from model_gateway.routing.candidates import Question

LOCAL, HYBRID, REMOTE = TIERS


def target(provider: str, *tiers: Tier, cost: int = 100, **options: object) -> Target:
    """`cost`: what the test's estimate says, in nano-USD."""
    fields: dict[str, object] = {
        "provider": provider,
        "model": f"{provider}-model",
        "tiers": frozenset(tiers),
        "capabilities": frozenset({"text_generation"}),
        "price": Price(),
        "cost_efficiency": 0.5,
        "base_cost_nano": cost,
        "max_cost_nano": None,
        "max_concurrent": 10,
        **options,
    }
    return Target(**fields)  # pyright: ignore[reportArgumentType]


def estimate(target: Target, input_tokens: int, output_tokens: int, score: float) -> int:
    return target.base_cost_nano


def states(targets: Sequence[Target]) -> list[TargetState]:
    return [TargetState() for _ in targets]


def ask(tier: Tier = HYBRID, **fields: object) -> Question:
    return Question(**{"model": "auto", "score": 0.5, "tier": tier, **fields})  # pyright: ignore[reportArgumentType]


THREE = (target("small", LOCAL, cost=0), target("middle", HYBRID, cost=100), target("large", REMOTE, cost=1000))
