from __future__ import annotations

from typing import Any

import pytest

from model_gateway.config.schema import GatewayConfig, ProviderConfig
from model_gateway.domain.route import Tier
from model_gateway.domain.usage import Price
from model_gateway.routing.catalog import build_targets

PRICE = Price(1, 2, 0, True)


def priced(provider: str, options: ProviderConfig, model: str) -> Price:
    return PRICE


def targets_of(**options: Any) -> dict[str, Any]:
    config = GatewayConfig(providers={"p": ProviderConfig(base_url="http://x", **options)})
    return {
        target.model: target for target in build_targets(config, priced, lambda kind: frozenset((f"protocol:{kind}",)))
    }


def test_each_model_is_the_default_of_its_tiers() -> None:
    targets = targets_of(
        default_model="big",
        tier_models={"hybrid": "middle"},
        supported_models=("big", "other"),
        supported_model_types=("hybrid", "remote"),
    )
    assert {model: target.tiers for model, target in targets.items()} == {
        "big": {Tier.REMOTE},
        "middle": {Tier.HYBRID},
        "other": frozenset(),
    }


def test_the_first_supported_model_stands_in_for_a_default() -> None:
    targets = targets_of(supported_models=("one", "two"))
    assert targets["one"].tiers == {Tier.REMOTE}
    assert targets["two"].tiers == frozenset()


def test_sums_become_exact_nano_usd() -> None:
    target = targets_of(default_model="m", base_cost_per_query=0.07, max_cost_per_query=0.5)["m"]
    assert (target.base_cost_nano, target.max_cost_nano, target.price) == (70_000_000, 500_000_000, PRICE)


@pytest.mark.parametrize(
    ("kind", "given", "has_tools"),
    [
        ("openai", ("text_generation",), True),
        ("openai", ("text_generation", "vision"), False),
        ("openai", ("tools",), True),
        ("embedded", ("text_generation",), False),
    ],
)
def test_a_provider_that_names_no_modality_is_asked_and_answers_for_itself(
    kind: str, given: tuple[str, ...], has_tools: bool
) -> None:
    assert ("tools" in targets_of(kind=kind, default_model="m", capabilities=given)["m"].capabilities) is has_tools
