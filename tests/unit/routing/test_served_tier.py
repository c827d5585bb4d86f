from __future__ import annotations

import pytest

from model_gateway.domain.route import TIERS, Target, Tier, served_tier
from model_gateway.domain.usage import Price

LOCAL, HYBRID, REMOTE = TIERS


@pytest.mark.parametrize(
    ("tiers", "asked", "served"),
    [
        ({LOCAL, HYBRID}, HYBRID, HYBRID),
        ({LOCAL, HYBRID}, REMOTE, LOCAL),
        ({HYBRID, REMOTE}, LOCAL, HYBRID),
        (set[Tier](), REMOTE, REMOTE),
    ],
)
def test_the_cheapest_tier_stands_in_for_one_that_is_not_served(tiers: set[Tier], asked: Tier, served: Tier) -> None:
    target = Target("p", "m", frozenset(tiers), frozenset(), Price(), 0.5, 0, None, 1)
    assert served_tier(target, asked) == served
