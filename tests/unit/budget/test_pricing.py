"""Estimates grow with the question, every kind of token costs its price, and no usage makes a charge negative."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_gateway.budget.pricing import MAX_TOKENS, cost_nano, estimate_nano, most_nano
from model_gateway.domain.route import Target
from model_gateway.domain.usage import Price, Usage

MINI = Price(input_pico=150_000, output_pico=600_000, cached_input_pico=75_000, known=True)


def target(price: Price = MINI, base_cost_nano: int = 0) -> Target:
    return Target("p", "m", frozenset(), frozenset(), price, 0.5, base_cost_nano, None, 10)


def test_a_known_price_decides_the_estimate_rounded_up() -> None:
    assert estimate_nano(target(), 1000, 500, 0.9) == 150_000 + 300_000
    assert estimate_nano(target(Price(1, 1, 1, True)), 1, 0, 0) == 1


@pytest.mark.parametrize(
    ("tokens", "score", "expected"),
    [((0, 0), 0.0, 1000), ((0, 0), 1.0, 2000), ((500, 500), 0.0, 2000), ((500, 500), 0.5, 3000), ((0, 0), -1.0, 1000)],
)
def test_an_unknown_price_grows_from_the_base_cost(tokens: tuple[int, int], score: float, expected: int) -> None:
    unknown = target(Price(), base_cost_nano=1000)
    assert estimate_nano(unknown, *tokens, score) == expected
    assert cost_nano(unknown, Usage(*tokens), score) == expected


def test_cached_input_has_its_own_price_and_reasoning_is_part_of_the_output() -> None:
    assert cost_nano(target(), Usage(1000, 100, cached_input_tokens=400, reasoning_tokens=90), 0.5) == 90_000 + 90_000


def test_without_usage_only_the_base_cost_is_charged() -> None:
    assert cost_nano(target(), None, 0.5) == 0
    assert cost_nano(target(Price(), 1000), None, 0.5) == 1500


# USD per million: 1 in, 10 out; read from the cache 0.1, written to it 1.25 or 2; thoughts 5. Twice that above 1,000.
FULL = Price(
    input_pico=1_000_000,
    output_pico=10_000_000,
    cached_input_pico=100_000,
    cache_write_extra_pico=250_000,
    cache_write_1h_extra_pico=1_000_000,
    reasoning_extra_pico=-5_000_000,
    longer=((1_000, Price(2_000_000, 20_000_000, 200_000, True)),),
    service_tiers=(("flex", 500), ("priority", 2_000)),
    known=True,
)


@pytest.mark.parametrize(
    ("usage", "nano"),
    [
        (Usage(1_000, 10), 1_100_000),
        (Usage(1_001, 10), 2_202_000),  # all of it at the price of long inputs
        (Usage(1_000, 0, cached_input_tokens=400), 640_000),
        (Usage(1_000, 0, cached_input_tokens=400, cache_write_tokens=200), 690_000),
        (Usage(1_000, 0, cache_write_tokens=200, cache_write_1h_tokens=100), 1_125_000),
        (Usage(1_000, 0, cached_input_tokens=900, cache_write_tokens=500), 215_000),  # no token is read and written
        (Usage(0, 100, reasoning_tokens=60), 700_000),
        (Usage(1_000, 10, service_tier="flex"), 550_000),
        (Usage(1_000, 10, service_tier="priority"), 2_200_000),
        (Usage(1_001, 10, service_tier="flex"), 1_101_000),
        (Usage(1_000, 10, service_tier="unheard-of"), 1_100_000),
    ],
)
def test_every_kind_of_token_has_its_price(usage: Usage, nano: int) -> None:
    assert cost_nano(target(FULL), usage, 0.5) == nano


anything = st.integers(-(2**70), 2**70)
prices = st.sampled_from([MINI, Price(), Price(known=True), FULL])
usages = st.builds(
    Usage,
    anything,
    anything,
    anything,
    anything,
    cache_write_tokens=anything,
    cache_write_1h_tokens=anything,
    service_tier=st.sampled_from(["", "flex", "priority", "batch"]),
)


@given(usages, st.floats(), prices)
def test_hostile_usage_never_gives_money_back(usage: Usage, score: float, price: Price) -> None:
    billed = target(price, 1000)
    cost = cost_nano(billed, usage, score)
    assert isinstance(cost, int)
    bound = most_nano(billed, MAX_TOKENS, MAX_TOKENS, score, tiered=True)
    assert 0 <= cost <= max(bound, 2 * 1000 * (2 * MAX_TOKENS + 1000) // 1000)
    assert estimate_nano(billed, usage.input_tokens, usage.output_tokens, score) >= 0


@given(usages, st.integers(0, 3_000), st.integers(0, 3_000), st.floats(0, 1), prices)
def test_what_is_held_covers_every_charge_for_so_many_tokens(
    usage: Usage, read: int, written: int, score: float, price: Price
) -> None:
    used = msgspec.structs.replace(
        usage, input_tokens=min(usage.input_tokens, read), output_tokens=min(usage.output_tokens, written)
    )
    billed = target(price, 1000)
    held = most_nano(billed, read, written, score, tiered=bool(used.service_tier))
    assert cost_nano(billed, used, score) <= held
