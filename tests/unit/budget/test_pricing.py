"""Prices come from the right place, estimates grow with the question, and no usage makes a charge negative."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_gateway.budget.pricing import MAX_TOKENS, cost_nano, count_tokens, estimate_nano, price_of
from model_gateway.config.errors import ConfigError
from model_gateway.config.schema import ProviderConfig
from model_gateway.domain.route import Target
from model_gateway.domain.usage import Price, Usage

MINI = Price(input_pico=150_000, output_pico=600_000, cached_input_pico=75_000, known=True)


def target(price: Price = MINI, base_cost_nano: int = 0) -> Target:
    return Target("p", "m", frozenset(), frozenset(), price, 0.5, base_cost_nano, None, 10)


@pytest.mark.parametrize(
    ("provider", "base_url", "model"),
    [
        ("openai", None, "gpt-4o-mini"),
        ("anything", "https://api.openai.com/v1", "gpt-4o-mini"),
        ("anything", "https://proxy.example.com/v1", "gpt-4o-mini"),
        ("openai", "http://127.0.0.1:9999/v1", "gpt-4o-mini"),
    ],
)
def test_published_prices_are_found_by_address_name_or_model(provider: str, base_url: str | None, model: str) -> None:
    assert price_of(provider, ProviderConfig(base_url=base_url), model) == MINI


@pytest.mark.parametrize("host", ["localhost:11434", "127.0.0.1:8000", "10.1.2.3", "ollama:11434", "[::1]:8000"])
def test_a_local_server_is_not_billed_at_a_vendors_price(host: str) -> None:
    assert price_of("mine", ProviderConfig(base_url=f"http://{host}/v1"), "gpt-4o-mini") == Price()


def test_tiered_prices_give_their_base_tier() -> None:
    price = price_of("anthropic", ProviderConfig(), "claude-sonnet-4-5")
    assert price == Price(input_pico=3_000_000, output_pico=15_000_000, cached_input_pico=300_000, known=True)


def test_unknown_models_have_no_price_and_embedded_ones_are_free() -> None:
    assert price_of("nobody", ProviderConfig(base_url="https://example.com"), "no-such-model") == Price(known=False)
    assert price_of("local", ProviderConfig(kind="embedded"), "gpt-4o-mini") == Price(known=True)


def test_configured_prices_win_and_half_a_price_is_completed_or_refused() -> None:
    both = ProviderConfig(price_per_million_input=0.0375, price_per_million_output=2)
    assert price_of("openai", both, "gpt-4o-mini") == Price(37_500, 2_000_000, 37_500, True)
    half = ProviderConfig(price_per_million_input=1)
    assert price_of("openai", half, "gpt-4o-mini") == Price(1_000_000, 600_000, 1_000_000, True)
    with pytest.raises(ConfigError, match=r"providers\.x\.pricePerMillionOutput is missing"):
        price_of("x", half, "no-such-model")


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("", 0, 0),
        ("a", 1, 1),
        ("Please explain the basic principles of quantum computing to a child.", 11, 18),  # o200k: 12
        ("解释一下量子计算的基本原理", 8, 14),  # o200k: 8, cl100k: 14
        ("Объясните основные принципы квантовых вычислений", 10, 26),
        ("😀", 1, 3),
        ("\ud800", 1, 2),
    ],
)
def test_token_counts_are_near_the_truth(text: str, low: int, high: int) -> None:
    assert low <= count_tokens(text) <= high


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


anything = st.integers(-(2**70), 2**70)


@given(anything, anything, anything, anything, st.floats(), st.sampled_from([MINI, Price(), Price(known=True)]))
def test_hostile_usage_never_gives_money_back(
    given_tokens: int, out: int, cached: int, reasoning: int, score: float, price: Price
) -> None:
    cost = cost_nano(target(price, 1000), Usage(given_tokens, out, cached, reasoning), score)
    assert isinstance(cost, int)
    assert 0 <= cost <= max(2 * MAX_TOKENS * 600_000 // 1000, 2 * 1000 * (2 * MAX_TOKENS + 1000) // 1000)
    assert estimate_nano(target(price, 1000), given_tokens, out, score) >= 0
