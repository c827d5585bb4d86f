"""Who goes on with a conversation: bounded, by price, and the same in every process where nobody is known."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_gateway.config.schema import RoutingConfig
from model_gateway.domain.route import Route, Target, TargetState
from model_gateway.domain.usage import Price
from model_gateway.routing.affinity import (
    CACHED,
    GROUPS,
    LOT_BITS,
    STAYING,
    Stay,
    drawn,
    group_of,
    mark,
    worth,
)
from model_gateway.routing.router import Router
from targets import HYBRID, REMOTE, ask, estimate, states, target

CACHING = Price(input_pico=3_000_000, output_pico=15_000_000, cached_input_pico=300_000, known=True)
MANY = [number.getrandbits(62) | 1 for number in [random.Random(11)] for _ in range(600)]
PAIR = (target("a", HYBRID, cost=30_000_000, price=CACHING), target("b", HYBRID, cost=30_000_000, price=CACHING))


def stay(conversation: int = 0, stays: int = -1, new_tokens: int = -1) -> Stay | None:
    return Stay(conversation, stays, new_tokens) if conversation else None


def route(
    targets: Sequence[Target],
    live: Sequence[TargetState] | None = None,
    conversation: int = 0,
    stays: int = -1,
    new_tokens: int = -1,
    **fields: object,
) -> Route:
    router = Router(targets, RoutingConfig(), {t.provider: "online" for t in targets}, estimate)
    return router.route(ask(HYBRID, stay=stay(conversation, stays, new_tokens), **fields), live or states(targets))


def slower(place: int, latency_s: float = 2.0) -> list[TargetState]:
    live = [TargetState(latency_s=1.0), TargetState(latency_s=1.0)]
    live[place].latency_s = latency_s
    return live


@pytest.mark.parametrize("stays", [0, 1])
def test_the_one_that_answered_before_goes_on_though_it_is_slower(stays: int) -> None:
    route_ = route(PAIR, slower(stays, 1.5), stays=stays, conversation=1)
    assert route_.targets[0] is PAIR[stays]
    assert route_.reason.endswith(f"; stays with {PAIR[stays].provider}/{PAIR[stays].model}")


def test_what_its_cache_saves_counts_and_is_told() -> None:
    live = slower(1, 8.0)
    assert route(PAIR, live, stays=1, conversation=1).targets[0] is PAIR[0]
    found = route(PAIR, live, stays=1, conversation=1, input_tokens=10_000, new_tokens=1_000)
    assert found.targets[0] is PAIR[1]
    assert found.reason.endswith("; stays with b/b-model, whose cached input saves $0.024300000")


@pytest.mark.parametrize(
    "broken",
    [
        TargetState(open_until=10.0),
        TargetState(success_rate=0.1, latency_s=60.0),
    ],
)
def test_one_that_fails_loses_the_conversation(broken: TargetState) -> None:
    live = [broken, TargetState(latency_s=1.0)]
    found = route(PAIR, live, stays=0, conversation=1, input_tokens=10_000, new_tokens=0, now=1.0)
    assert found.targets[0] is PAIR[1]
    assert "a/a-model answered before" in found.reason


def test_it_does_not_flap_back() -> None:
    """After a failure the other one holds the cache: that the first is well again is no reason to go back."""
    assert route(PAIR, states(PAIR), stays=1, conversation=1).targets[0] is PAIR[1]


def test_another_tier_is_not_held_back() -> None:
    targets = (PAIR[0], target("strong", REMOTE, price=CACHING))
    router = Router(targets, RoutingConfig(), {"a": "online", "strong": "online"}, estimate)
    found = router.route(ask(REMOTE, stay=Stay(1, 0, 0), input_tokens=9_000), states(targets))
    assert found.targets[0].provider == "strong"


@given(st.integers(0, 10**9), st.integers(0, 10**6), st.integers(0, 10**6))
def test_what_staying_is_worth_is_bounded(cost: int, tokens: int, cached: int) -> None:
    found = worth(PAIR[0], cost, tokens, cached)
    assert STAYING <= found <= STAYING + CACHED
    assert worth(target("x", HYBRID), cost, tokens, cached) == STAYING  # its price is not known


def test_equals_share_new_conversations_out_and_every_process_alike() -> None:
    three = tuple(target(name, HYBRID) for name in "abc")
    chosen = [route(three, conversation=number).targets[0].provider for number in MANY]
    assert all(150 < count < 250 for count in Counter(chosen).values())
    again = [route(three[::-1], conversation=number).targets[0].provider for number in MANY]
    assert chosen == again
    # When one goes only its own conversations move.
    left = [route(three[:2], conversation=number).targets[0].provider for number in MANY]
    assert all(one == other for one, other in zip(chosen, left, strict=True) if one != "c")


def test_a_dearer_or_a_worse_one_is_no_equal() -> None:
    dearer = (target("a", HYBRID, cost=100), target("b", HYBRID, cost=101))
    assert {route(dearer, conversation=number).targets[0].provider for number in MANY[:50]} == {"a"}
    worse = [TargetState(), TargetState(success_rate=0.7)]
    assert {route(PAIR, worse, conversation=number).targets[0].provider for number in MANY[:50]} == {"a"}
    assert {route(PAIR).targets[0].provider for _ in range(9)} == {"a"}, "without a conversation as before"


def test_only_a_long_beginning_that_was_read_lately_is_cached() -> None:
    assert Stay(1, 0, 100).cached_of(10_000) == 9_900
    assert Stay(1, 0, 100).cached_of(1_000) == 0
    assert Stay(1, 0).cached_of(10_000) == 0


def test_marks_differ_and_lots_are_spread() -> None:
    assert mark(PAIR[0]) != mark(PAIR[1])
    assert 0 < mark(PAIR[0]) < 2**63
    assert {group_of(number) for number in (0, 2**63 - 1)} == {0, GROUPS - 1}
    assert len({drawn(group, [mark(PAIR[0])])[0] >> LOT_BITS - 8 for group in range(GROUPS)}) > 250
    assert drawn(123, [mark(PAIR[0])]) == drawn(123, [mark(target("a", REMOTE))])


@pytest.mark.parametrize("count", [2, 3, 5, 10, 16])
def test_groups_of_conversations_share_out_evenly(count: int) -> None:
    marks = [mark(target(f"p{number}", HYBRID)) for number in range(count)]
    winners = Counter(lots.index(max(lots)) for lots in (drawn(group, marks) for group in range(GROUPS)))
    mean = GROUPS / count
    assert max(abs(winners[place] - mean) for place in range(count)) < 4.5 * mean**0.5, "no more uneven than dice"
