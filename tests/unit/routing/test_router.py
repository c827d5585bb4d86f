from __future__ import annotations

import time
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_gateway.config.schema import RoutingConfig
from model_gateway.domain.errors import (
    CostLimitExceeded,
    GatewayError,
    InvalidRequest,
    ModelUnavailable,
    Overloaded,
    UnknownModel,
)
from model_gateway.domain.route import TIERS, Load, Target, TargetState, Tier
from model_gateway.routing.candidates import Question
from model_gateway.routing.router import Router
from targets import HYBRID, LOCAL, REMOTE, THREE, ask, estimate, states, target


def router(targets: Sequence[Target], *, fallback: bool = True, **statuses: str) -> Router:
    given = {t.provider: "online" for t in targets} | statuses
    return Router(targets, RoutingConfig(fallback=fallback), given, estimate)


def load(in_flight: int, room: int = 0) -> Load:
    """How busy a provider with max_concurrent 10 or less is."""
    return Load(in_flight=in_flight, room=room, full=in_flight >= 3)


@pytest.mark.parametrize(
    ("tier", "order"),
    [(LOCAL, ["small"]), (HYBRID, ["middle", "small"]), (REMOTE, ["large", "middle", "small"])],
)
def test_the_tier_answers_and_cheaper_tiers_follow(tier: Tier, order: list[str]) -> None:
    route = router(THREE).route(ask(tier), states(THREE))
    assert [t.provider for t in route.targets] == order
    assert (route.asked_tier, route.served_tier) == (tier, tier)
    alone = router(THREE, fallback=False).route(ask(tier), states(THREE))
    assert [t.provider for t in alone.targets] == order[:1]


@pytest.mark.parametrize(
    ("kept", "tier", "served"),
    [
        (("small",), REMOTE, LOCAL),
        (("large",), LOCAL, REMOTE),
        (("small", "large"), HYBRID, LOCAL),
        (("middle", "large"), LOCAL, HYBRID),
    ],
)
def test_a_tier_without_provider_is_served_by_the_nearest_cheaper_first(
    kept: tuple[str, ...], tier: Tier, served: Tier
) -> None:
    targets = [t for t in THREE if t.provider in kept]
    route = router(targets).route(ask(tier), states(targets))
    assert route.served_tier == served
    assert f"asks for {tier}, no online provider serves it; served by {served}" in route.reason


@pytest.mark.parametrize("status", ["offline", "draining"])
def test_only_online_providers_are_used(status: str) -> None:
    route = router(THREE, middle=status).route(ask(HYBRID), states(THREE))
    assert [t.provider for t in route.targets] == ["small"]
    with pytest.raises(ModelUnavailable, match=f"middle is {status}"):
        router(THREE, middle=status).route(ask(model="middle-model"), states(THREE))
    with pytest.raises(ModelUnavailable, match="no provider is online"):
        router(THREE, small=status, middle=status, large=status).route(ask(), states(THREE))


PAIR = (target("a", HYBRID), target("b", HYBRID))


@pytest.mark.parametrize(
    ("worse", "reason"),
    [
        (TargetState(load=Load(in_flight=9)), "load"),
        (TargetState(success_rate=0.2), "success"),
        (TargetState(latency_s=4.0), "speed"),
    ],
)
def test_load_success_and_speed_count(worse: TargetState, reason: str) -> None:
    live = [worse, TargetState(latency_s=1.0)]
    assert router(PAIR).route(ask(), live).targets[0].provider == "b"


def test_cost_efficiency_and_price_count_and_ties_go_by_name() -> None:
    assert router(PAIR).route(ask(), states(PAIR)).targets[0].provider == "a"
    efficient = (target("a", HYBRID), target("b", HYBRID, cost_efficiency=0.9))
    assert router(efficient).route(ask(), states(efficient)).targets[0].provider == "b"
    cheaper = (target("a", HYBRID), target("b", HYBRID, cost=10))
    assert router(cheaper).route(ask(), states(cheaper)).targets[0].provider == "b"


def test_full_providers_are_passed_over_and_when_all_are_full_the_caller_waits() -> None:
    live = states(THREE)
    live[1].load = load(10)
    route = router(THREE).route(ask(HYBRID), live)
    assert (route.targets[0].provider, route.served_tier) == ("small", LOCAL)
    assert "its providers are at their limit" in route.reason
    for state in live:
        state.load = load(10)
    with pytest.raises(Overloaded) as full:
        router(THREE).route(ask(), live)
    assert full.value.retry_after_s == 1


def test_a_budget_steps_down_and_then_refuses_with_both_sums() -> None:
    route = router(THREE).route(ask(REMOTE, budget_nano=500), states(THREE))
    assert (route.served_tier, route.estimate_nano) == (HYBRID, 100)
    assert "its estimate is over the budget" in route.reason
    dear = THREE[1:]
    with pytest.raises(CostLimitExceeded) as over:
        router(dear).route(ask(REMOTE, budget_nano=99), states(dear))
    assert "the cheapest estimate is $0.000000100" in over.value.message
    assert "the budget is $0.000000099" in over.value.message


def test_when_the_affordable_one_is_full_the_caller_waits_and_is_not_told_to_pay_more() -> None:
    live = states(THREE)
    live[0].load = live[1].load = load(10)
    with pytest.raises(Overloaded):
        router(THREE).route(ask(REMOTE, budget_nano=500), live)


def test_the_reason_is_the_asked_tiers_own() -> None:
    live = states(THREE)
    live[2].load = load(10)
    dear = (THREE[0], target("middle", HYBRID, cost=5000), THREE[2])
    route = router(dear).route(ask(REMOTE, budget_nano=2000), live)
    assert route.served_tier == LOCAL
    assert "its providers are at their limit" in route.reason
    capped = (THREE[0], target("large", REMOTE, cost=1000, max_cost_nano=999))
    assert "its estimate is over maxCostPerQuery" in router(capped).route(ask(REMOTE), states(capped)).reason


def test_a_target_of_several_tiers_is_tried_once() -> None:
    wide = (target("wide", *TIERS), *THREE)
    route = router(wide).route(ask(REMOTE), states(wide))
    assert sorted(t.provider for t in route.targets) == ["large", "middle", "small", "wide"]


def test_max_cost_per_query_is_a_ceiling() -> None:
    capped = (THREE[0], target("large", REMOTE, cost=1000, max_cost_nano=999))
    assert router(capped).route(ask(REMOTE), states(capped)).targets[0].provider == "small"
    with pytest.raises(CostLimitExceeded, match="maxCostPerQuery"):
        router(capped[1:]).route(ask(REMOTE), states(capped[1:]))


def test_a_model_by_name() -> None:
    twins = (target("a", HYBRID, model="m"), target("b", REMOTE, model="m"), *THREE)
    route = router(twins).route(ask(LOCAL, model="m"), states(twins))
    assert {t.provider for t in route.targets} == {"a", "b"}
    one = router(twins).route(ask(LOCAL, model="b/m"), states(twins))
    assert [t.provider for t in one.targets] == ["b"]
    assert one.served_tier == REMOTE
    with pytest.raises(UnknownModel, match="did you mean small-model"):
        router(THREE).route(ask(model="smal-model"), states(THREE))


def test_the_preferred_provider_goes_first_where_it_can() -> None:
    route = router(THREE).route(ask(HYBRID, preferred_provider="large"), states(THREE))
    assert [t.provider for t in route.targets] == ["large", "middle", "small"]
    assert route.reason == "preferred provider, which serves remote"
    live = states(THREE)
    live[2].load = load(10)
    full = router(THREE).route(ask(HYBRID, preferred_provider="large"), live)
    assert full.targets[0].provider == "middle"
    assert "large cannot serve this now" in full.reason
    with pytest.raises(InvalidRequest, match="known: large, middle, small"):
        router(THREE).route(ask(preferred_provider="nobody"), states(THREE))


def test_capabilities_are_required() -> None:
    seeing = (THREE[0], THREE[1], target("large", REMOTE, capabilities=frozenset({"vision"})))
    route = router(seeing).route(ask(LOCAL, required_capabilities=frozenset({"vision"})), states(seeing))
    assert [t.provider for t in route.targets] == ["large"]
    assert "none of its models can do what is needed" in route.reason
    with pytest.raises(InvalidRequest, match="audio"):
        router(seeing).route(ask(required_capabilities=frozenset({"audio"})), states(seeing))


def test_time_grows_no_faster_than_the_number_of_targets() -> None:
    def best_s(count: int) -> float:
        many = [target(f"p{i:04}", TIERS[i % 3]) for i in range(count)]
        chosen, live, question = router(many), states(many), ask(REMOTE)
        best = float("inf")
        for _ in range(20):
            begun = time.perf_counter()
            assert len(chosen.route(question, live).targets) == count
            best = min(best, time.perf_counter() - begun)
        return best

    assert best_s(900) < 25 * best_s(90)  # linear: about 10; comparing each target with each: about 100


def test_a_very_long_model_name_is_refused_quickly() -> None:
    begun = time.perf_counter()
    with pytest.raises(UnknownModel) as unknown:
        router(THREE).route(ask(model="small-model" * 200_000), states(THREE))
    assert time.perf_counter() - begun < 0.1
    assert len(unknown.value.message) < 300


@st.composite
def situations(draw: st.DrawFn) -> tuple[list[Target], dict[str, str], list[TargetState], Question]:
    count = draw(st.integers(1, 6))
    targets = [
        target(
            f"p{i}",
            *draw(st.sets(st.sampled_from(TIERS), min_size=1)),
            cost=draw(st.integers(0, 1000)),
            max_concurrent=draw(st.integers(1, 3)),
            max_cost_nano=draw(st.none() | st.integers(1, 1000)),
        )
        for i in range(count)
    ]
    statuses = {t.provider: draw(st.sampled_from(("online", "online", "offline", "draining"))) for t in targets}
    live = [TargetState(load(draw(st.integers(0, 3))), draw(st.floats(0, 1)), draw(st.floats(0, 9))) for _ in targets]
    budget = draw(st.none() | st.integers(0, 1000))
    return targets, statuses, live, ask(draw(st.sampled_from(TIERS)), budget_nano=budget)


@given(situations(), st.booleans())
def test_whatever_the_situation(
    situation: tuple[list[Target], dict[str, str], list[TargetState], Question], fallback: bool
) -> None:
    targets, statuses, live, question = situation
    chosen = Router(targets, RoutingConfig(fallback=fallback), statuses, estimate)
    usable = [
        t
        for t, state in zip(targets, live, strict=True)
        if statuses[t.provider] == "online"
        and not state.load.full
        and (t.max_cost_nano is None or t.base_cost_nano <= t.max_cost_nano)
        and (question.budget_nano is None or t.base_cost_nano <= question.budget_nano)
    ]
    try:
        route = chosen.route(question, live)
    except GatewayError:
        assert not usable
        return
    assert route.targets and all(t in usable for t in route.targets)
    assert len(set(route.targets)) == len(route.targets)
    assert route.served_tier in route.targets[0].tiers
    assert route == chosen.route(question, live)
    if any(question.tier in t.tiers for t in usable):
        assert route.served_tier == question.tier
    place = TIERS.index(route.served_tier)
    assert all(min(TIERS.index(tier) for tier in t.tiers) <= place for t in route.targets)
