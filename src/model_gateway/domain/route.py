"""How hard a query is, what could answer it, and what was chosen."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from model_gateway.domain.usage import Price


class Tier(StrEnum):
    """Strength and price class of a target. Order: local < hybrid < remote."""

    LOCAL = "local"
    HYBRID = "hybrid"
    REMOTE = "remote"

    # Enum's own hash is a Python function; tiers are looked up several times a request.
    __hash__ = str.__hash__


TIERS: tuple[Tier, ...] = (Tier.LOCAL, Tier.HYBRID, Tier.REMOTE)


class Factor(msgspec.Struct, frozen=True):
    """One reason for a score. `value` in 0–1; `contribution` is its share of the score: they add up to it."""

    name: str
    value: float
    contribution: float
    detail: str = ""


class Assessment(msgspec.Struct, frozen=True):
    """`score` in 0–1; `tier` follows from the thresholds."""

    score: float
    tier: Tier
    factors: tuple[Factor, ...] = ()


class Target(msgspec.Struct, frozen=True):
    """One model at one provider: all that routing needs, computed once per configuration.

    `tiers` are those whose default this model is; a target without tiers is reached only by its model's name.
    """

    provider: str
    model: str
    tiers: frozenset[Tier]
    capabilities: frozenset[str]
    price: Price
    cost_efficiency: float
    base_cost_nano: int
    max_cost_nano: int | None
    max_concurrent: int


def served_tier(target: Target, asked: Tier) -> Tier:
    """The tier in which `target` answers: the asked one if it serves that, else the cheapest it serves.

    A target without tiers is reached by its model's name only and answers in whatever tier was asked for.
    """
    return asked if asked in target.tiers or not target.tiers else min(target.tiers, key=TIERS.index)


class TargetState(msgspec.Struct):
    """The live side of a target, kept by the dispatcher: what routing weighs. Latency is an exponential mean."""

    in_flight: int = 0
    success_rate: float = 1.0
    latency_s: float = 0.0


class Route(msgspec.Struct, frozen=True):
    """Targets in the order to try. `asked_tier` is what the score asked for, `served_tier` whom it went to."""

    targets: tuple[Target, ...]
    asked_tier: Tier
    served_tier: Tier
    reason: str = ""
    estimate_nano: int = 0
