"""Prices come from the right place: the configuration, else the published list, else an assumption that is seen."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from genai_prices import Usage as ListedUsage
from genai_prices.data_snapshot import get_snapshot
from hypothesis import given
from hypothesis import strategies as st

from model_gateway.budget.prices import ASSUMED_NANO, price_of
from model_gateway.budget.pricing import cost_nano
from model_gateway.config.errors import ConfigError
from model_gateway.config.schema import ProviderConfig
from model_gateway.domain.route import Target
from model_gateway.domain.usage import Price, Usage

NOW = datetime.now(UTC)
PLAIN = ProviderConfig(service_tier_prices={})
MINI = Price(input_pico=150_000, output_pico=600_000, cached_input_pico=75_000, known=True)


def config(**options: object) -> ProviderConfig:
    return ProviderConfig.model_validate({"service_tier_prices": {}, **options})


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
    assert price_of(provider, config(base_url=base_url), model) == MINI


@pytest.mark.parametrize("host", ["localhost:11434", "127.0.0.1:8000", "10.1.2.3", "ollama:11434", "[::1]:8000"])
def test_a_local_server_is_not_billed_at_a_vendors_price(host: str) -> None:
    assert price_of("mine", config(base_url=f"http://{host}/v1"), "gpt-4o-mini") == Price()


def test_a_model_elsewhere_without_a_price_costs_what_is_seen_and_an_embedded_one_nothing() -> None:
    assert price_of("nobody", config(base_url="https://example.com"), "no-such-model") == Price(base_nano=ASSUMED_NANO)
    assert price_of("local", config(kind="embedded"), "gpt-4o-mini") == Price(known=True)
    priced = price_of("local", config(kind="embedded", price_per_million_input=1, price_per_million_output=2), "any")
    assert (priced.input_pico, priced.output_pico) == (1_000_000, 2_000_000), "unless it is priced"


def test_configured_prices_win_and_half_a_price_is_completed_or_refused() -> None:
    both = config(price_per_million_input=0.0375, price_per_million_output=2)
    assert price_of("openai", both, "gpt-4o-mini") == Price(37_500, 2_000_000, 37_500, True)
    half = config(price_per_million_input=1)
    assert price_of("openai", half, "gpt-4o-mini") == Price(1_000_000, 600_000, 1_000_000, True)
    other = config(price_per_million_output=1)
    assert price_of("openai", other, "gpt-4o-mini") == Price(150_000, 1_000_000, 75_000, True)
    with pytest.raises(ConfigError, match=r"providers\.x\.pricePerMillionOutput is missing"):
        price_of("x", half, "no-such-model")


def test_a_caches_prices_and_service_tiers_can_be_configured() -> None:
    caches = config(
        price_per_million_input=1,
        price_per_million_output=2,
        price_per_million_cached_input=0.1,
        price_per_million_cache_write=1.25,
        service_tier_prices={"flex": 0.4},
    )
    assert price_of("x", caches, "m") == Price(
        1_000_000,
        2_000_000,
        100_000,
        known=True,
        cache_write_extra_pico=250_000,
        cache_write_1h_extra_pico=250_000,
        service_tiers=(("flex", 400),),
    )


# Tiers by length, writes for minutes and for an hour, cheap thoughts, a cache's reads.
LISTED = [
    ("anthropic", "claude-sonnet-4-5"),
    ("google", "gemini-2.5-pro"),
    ("openai", "gpt-5"),
    ("deepseek", "deepseek-chat"),
    ("perplexity", "sonar-deep-research"),
]
TARGETS = {
    model: Target("p", model, frozenset(), frozenset(), price_of(provider, PLAIN, model), 0.5, 0, None, 10)
    for provider, model in LISTED
}


@given(
    st.sampled_from(LISTED),
    st.integers(0, 400_000),
    st.integers(0, 100_000),
    st.floats(0, 1),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_a_charge_is_what_the_list_itself_computes(
    listed: tuple[str, str], read: int, written: int, cached: float, stored: float, thought: float
) -> None:
    provider, model = listed
    hits = int(read * cached)
    writes = int((read - hits) * stored)
    thoughts = int(written * thought)
    usage = Usage(read, written, hits, thoughts, cache_write_tokens=writes)
    _, known = get_snapshot().find_provider_model(model, None, provider, None)
    prices = known.get_prices(NOW)
    told = {"input_tokens": read, "output_tokens": written, "cache_read_tokens": hits}
    if prices.cache_write_mtok is not None:
        told["cache_write_tokens"] = writes
    if prices.output_reasoning_mtok is not None:
        told["output_reasoning_tokens"] = thoughts
    usd = prices.calc_price(ListedUsage(**told))["total_price"]
    assert cost_nano(TARGETS[model], usage, 0.5) == -(-Decimal(usd) * 10**9 // 1)
