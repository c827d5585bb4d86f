"""What callers may write in `model`: auto, its variants, aliases with weights, provider/model. And the canary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_gateway.config.schema import CanaryConfig, RoutingConfig
from model_gateway.domain.errors import CostLimitExceeded, InvalidRequest, ModelUnavailable, UnknownModel
from model_gateway.domain.route import Load, Route, Target, TargetState
from model_gateway.routing.names import AUTOS, Alias
from model_gateway.routing.router import Router
from targets import HYBRID, LOCAL, REMOTE, THREE, ask, estimate, states, target

BUSY = TargetState(load=Load(in_flight=10, full=True))


def route(
    targets: Sequence[Target],
    model: str,
    *,
    live: Sequence[TargetState] | None = None,
    statuses: Mapping[str, str] | None = None,
    aliases: Mapping[str, Any] | None = None,
    canary: CanaryConfig | None = None,
    fallback: bool = True,
    **asked: Any,
) -> Route:
    """`asked`: fields of the question."""
    config = RoutingConfig(aliases=dict(aliases or {}), canary=canary or CanaryConfig(), fallback=fallback)
    router = Router(targets, config, {t.provider: "online" for t in targets} | dict(statuses or {}), estimate)
    return router.route(ask(**{"tier": HYBRID, **asked}, model=model), live or states(targets))


def providers(found: Route) -> list[str]:
    return [t.provider for t in found.targets]


# --- aliases ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dice", "order"),
    [
        (0.0, ["b", "a", "c"]),
        (0.49, ["b", "a", "c"]),
        (0.51, ["a", "b", "c"]),
        (0.79, ["a", "b", "c"]),
        (0.81, ["c", "b", "a"]),
        (0.999999, ["c", "b", "a"]),
        (1.0, ["b", "a", "c"]),
    ],
)
def test_dice_choose_the_first_and_weight_orders_the_rest(dice: float, order: list[str]) -> None:
    assert list(Alias({"a": 3, "b": 5, "c": 2}).order(dice)) == order


def test_an_alias_of_one_model_is_that_model() -> None:
    assert list(Alias("p/m").order(0.7)) == ["p/m"] and list(Alias({"p/m": 0.1}).order(0.7)) == ["p/m"]


def test_a_model_of_no_weight_only_stands_in() -> None:
    assert {Alias({"a": 1, "b": 0}).order(dice / 100)[0] for dice in range(100)} == {"a"}
    assert list(Alias({"a": 1, "b": 0}).order(0.5)) == ["a", "b"]


@given(st.dictionaries(st.sampled_from("abcde"), st.floats(0.01, 100), min_size=1))
def test_every_model_is_tried_once_and_its_share_is_its_weight(weights: dict[str, float]) -> None:
    alias, rolls = Alias(weights), 500
    firsts = Counter(alias.order((roll + 0.5) / rolls)[0] for roll in range(rolls))
    for model, weight in weights.items():
        assert abs(firsts[model] / rolls - weight / sum(weights.values())) < 0.01
    assert sorted(alias.order(0.3)) == sorted(weights)


def test_an_alias_leads_to_its_models_in_order_and_falls_back_to_the_others() -> None:
    team = {"team": {"small-model": 1, "large/large-model": 3}}
    assert providers(route(THREE, "team", aliases=team, dice=0.1)) == ["large", "small"]
    assert providers(route(THREE, "team", aliases=team, dice=0.9)) == ["small", "large"]
    assert providers(route(THREE, "team", aliases=team, dice=0.1, fallback=False)) == ["large"]
    assert providers(route(THREE, "team", aliases=team, dice=0.1, statuses={"large": "offline"})) == ["small"]
    assert providers(route(THREE, "team", aliases=team, dice=0.1, budget_nano=10)) == ["small"]
    with pytest.raises(ModelUnavailable, match="`team` cannot be asked now: large is draining, small is offline"):
        route(THREE, "team", aliases=team, dice=0.1, statuses={"large": "draining", "small": "offline"})


def test_an_alias_of_auto_means_what_it_names() -> None:
    assert providers(route(THREE, "x", aliases={"x": "auto:best"})) == ["large", "middle", "small"]
    assert providers(route(THREE, "x", aliases={"x": "auto:cheap"})) == ["small", "middle", "large"]
    assert providers(route(THREE, "x", aliases={"x": "auto"})) == ["middle", "small"]


def test_an_alias_wins_over_a_model_of_its_name_and_is_found_by_those_who_misspell_it() -> None:
    aliases = {"small-model": "large-model", "favourite": "small-model"}
    assert providers(route(THREE, "small-model", aliases=aliases)) == ["large"]
    assert providers(route(THREE, "small/small-model", aliases=aliases)) == ["small"]
    assert providers(route(THREE, "favourite", aliases=aliases)) == ["small"], "an alias names models, not aliases"
    with pytest.raises(UnknownModel, match="did you mean favourite"):
        route(THREE, "favorite", aliases=aliases)
    router = Router(THREE, RoutingConfig.model_validate({"aliases": aliases}), {}, estimate)
    assert router.everything.names == (*AUTOS, "small-model", "favourite")


# --- provider/model ---------------------------------------------------------------------------------------------------


def test_provider_and_model_mean_that_very_model() -> None:
    """A vendor's models may have slashes in their names that read like another provider's."""
    targets = (target("meta", HYBRID, model="llama"), target("router", REMOTE, model="meta/llama"))
    assert providers(route(targets, "meta/llama")) == ["meta"]
    assert providers(route(targets, "router/meta/llama")) == ["router"]
    assert providers(route(targets, "llama")) == ["meta"]
    assert providers(route(targets[1:], "meta/llama")) == ["router"]
    with pytest.raises(UnknownModel):
        route(targets, "router/llama")


def test_a_name_is_served_by_all_who_have_it_best_first() -> None:
    twins = (target("a", HYBRID, model="m", cost=900), target("b", REMOTE, model="m", cost=10))
    found = route(twins, "m", tier=LOCAL)
    assert providers(found) == ["b", "a"]
    assert (found.asked_tier, found.served_tier, found.estimate_nano) == (LOCAL, REMOTE, 10)


# --- auto and its variants --------------------------------------------------------------------------------------------


def test_the_cheapest_the_fastest_and_the_best() -> None:
    live = [TargetState(latency_s=3.0), TargetState(latency_s=1.0), TargetState(latency_s=2.0)]
    assert providers(route(THREE, "auto:cheap", live=live, tier=REMOTE)) == ["small", "middle", "large"]
    assert providers(route(THREE, "auto:fast", live=live, tier=REMOTE)) == ["middle", "large", "small"]
    assert providers(route(THREE, "auto:best", live=live, tier=LOCAL)) == ["large", "middle", "small"]
    for name in AUTOS[1:]:
        assert len(providers(route(THREE, name, live=live, fallback=False))) == 1
        assert "was asked for" in route(THREE, name, live=live).reason


def test_whom_nobody_has_timed_is_tried_first_or_would_never_be() -> None:
    live = [TargetState(latency_s=0.1), TargetState(), TargetState(latency_s=0.2)]
    assert providers(route(THREE, "auto:fast", live=live)) == ["middle", "small", "large"]


def test_variants_choose_among_those_that_can_fit_and_have_room() -> None:
    seeing = (THREE[0], target("middle", HYBRID, capabilities=frozenset({"vision"})), THREE[2])
    assert providers(route(seeing, "auto:cheap", required_capabilities=frozenset({"vision"}))) == ["middle"]
    assert providers(route(THREE, "auto:cheap", live=[BUSY, *states(THREE[1:])])) == ["middle", "large"]
    assert providers(route(THREE, "auto:best", budget_nano=500)) == ["middle", "small"]
    with pytest.raises(CostLimitExceeded):
        route(THREE[1:], "auto:fast", budget_nano=5)
    by_name_only = (THREE[1], target("cheaper", cost=0))
    assert providers(route(by_name_only, "auto:cheap")) == ["middle"], "what serves no tier is asked for by name"


def test_vectors_come_from_models_that_embed_whatever_name_is_auto() -> None:
    mixed = (*THREE, target("vectors", embeds=True))
    for name in AUTOS:
        assert providers(route(mixed, name, embeds=True)) == ["vectors"]
        assert "vectors" not in providers(route(mixed, name))
    with pytest.raises(InvalidRequest, match="only embeds"):
        route(mixed, "vectors-model")


# --- the canary -------------------------------------------------------------------------------------------------------

CANARY = CanaryConfig(model="new-model", share=0.2)
WITH_NEW = (*THREE, target("new", cost=50))


def test_its_share_of_auto_tries_the_canary_first() -> None:
    tried = route(WITH_NEW, "auto", canary=CANARY, dice=0.19)
    assert providers(tried) == ["new", "middle", "small"]
    assert tried.reason.startswith("canary; ") and tried.estimate_nano == 50
    assert providers(route(WITH_NEW, "auto", canary=CANARY, dice=0.2)) == ["middle", "small"]
    assert providers(route(WITH_NEW, "auto", canary=CANARY, dice=0.1, fallback=False)) == ["new"]
    already = CanaryConfig(model="small-model", share=1)
    assert providers(route(WITH_NEW, "auto", canary=already, dice=0.1)) == ["small", "middle"]
    assert route(WITH_NEW, "auto", canary=already, dice=0.1).served_tier == LOCAL


@pytest.mark.parametrize(
    "said",
    [
        {"model": "large-model"},
        {"model": "auto:best"},
        {"preferred_provider": "large"},
        {"budget_nano": 10},
        {"required_capabilities": frozenset({"vision"})},
        {"statuses": {"new": "offline"}},
        {"statuses": {"new": "draining"}},
        {"live": [*states(THREE), BUSY]},
        {"live": [*states(THREE), TargetState(open_until=5.0)], "now": 1.0},
    ],
    ids=str,
)
def test_a_canary_is_left_out_where_it_was_not_meant_or_cannot_serve(said: dict[str, Any]) -> None:
    seeing = [target(t.provider, *t.tiers, cost=t.base_cost_nano, capabilities=frozenset({"vision"})) for t in THREE]
    canary = CanaryConfig(model="new-model", share=1)
    asked: dict[str, Any] = {"model": "auto", "dice": 0.0, **said}
    found = route((*seeing, WITH_NEW[3]), **asked, canary=canary)
    assert "new" not in providers(found) and "canary" not in found.reason
    assert providers(route((*seeing, WITH_NEW[3]), "auto", canary=canary, dice=0.0))[0] == "new"
