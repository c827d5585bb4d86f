"""Where prices come from: the configuration, else the list shipped with genai-prices, which is never updated over the
network. Asked once per configuration; decides what a token costs, not what a query did.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import msgspec

from model_gateway.config.errors import ConfigError
from model_gateway.config.schema import ProviderConfig
from model_gateway.domain.usage import Price

PICO_PER_MILLION_USD = 1_000_000
"""USD per million tokens → pico-USD per token."""

ASSUMED_NANO = 1_000_000
"""0.001 USD: the base cost of a query to a model elsewhere whose price nobody told. 0 would be overlooked."""

_FREE = Price(known=True)


def price_of(provider: str, config: ProviderConfig, model: str) -> Price:
    """The price of `model` at `provider`; to be called once per configuration (the price list takes 0.5 s, 18 MB).

    First the configuration (`pricePerMillion…`), then the published price: by the provider's address, by its name, by
    the model's name alone. The last is not tried for an address on this machine or in a private network, where a model
    with a vendor's name is likely served for free. An embedded model is free unless it is priced. Where input is
    configured and the cache's prices are not, cached tokens cost what others do. Raises ConfigError where one of input
    and output is configured and nobody published the other.
    """
    read, written = _pico(config.price_per_million_input), _pico(config.price_per_million_output)
    if config.kind == "embedded" and read is None and written is None:
        return _FREE
    if read is not None and written is not None:
        base = Price(read, written, cached_input_pico=read, known=True)
    else:
        base = _published(provider, config.base_url, model)
        if not base.known:
            if read is not None or written is not None:
                raise _half_told(provider, model, "Output" if written is None else "Input")
            return Price(base_nano=0 if _is_local(config.base_url) else ASSUMED_NANO)
        if read is not None:
            base = Price(read, base.output_pico, cached_input_pico=read, known=True)
        elif written is not None:
            base = msgspec.structs.replace(base, output_pico=written, reasoning_extra_pico=0, longer=())
    return _with_extras(base, config)


def _with_extras(base: Price, config: ProviderConfig) -> Price:
    """What is configured of the cache's prices holds for inputs of any length, and for an hour as for minutes."""
    cached, write = _pico(config.price_per_million_cached_input), _pico(config.price_per_million_cache_write)
    tiers = tuple((name, round(share * 1000)) for name, share in config.service_tier_prices.items())
    base = msgspec.structs.replace(base, service_tiers=tiers)
    if cached is not None:
        base = msgspec.structs.replace(base, cached_input_pico=cached, longer=())
    if write is not None:
        extra = write - base.input_pico
        base = msgspec.structs.replace(base, cache_write_extra_pico=extra, cache_write_1h_extra_pico=extra, longer=())
    return base


def _half_told(provider: str, model: str, missing: str) -> ConfigError:
    given = "Input" if missing == "Output" else "Output"
    return ConfigError(
        f"providers.{provider}.pricePerMillion{missing} is missing while pricePerMillion{given} is set, "
        f"and no price of {model!r} is published",
        "set both prices (0 for a free model)",
    )


def _published(provider: str, base_url: str | None, model: str) -> Price:
    # Imported here: the list is 18 MB, and a gateway whose prices are all configured never needs it.
    from genai_prices.data_snapshot import get_snapshot

    snapshot = get_snapshot()
    lookups: list[tuple[str | None, str | None]] = [(provider, None)]
    if base_url is not None:
        lookups.insert(0, (None, base_url))
    if not _is_local(base_url):
        lookups.append((None, None))
    for provider_id, url in lookups:
        try:
            _, found = snapshot.find_provider_model(model, None, provider_id, url)
        except LookupError:
            continue
        prices = found.get_prices(datetime.now(UTC))
        base = _price_at(prices, 0)
        if base is not None:
            return msgspec.structs.replace(base, longer=_longer(prices))
    return Price()


def _longer(prices: object) -> tuple[tuple[int, Price], ...]:
    """For inputs longer than so many tokens all of them, and the output, cost otherwise: longest first."""
    values: list[Any] = [*vars(prices).values()]
    starts: set[int] = {tier.start for value in values for tier in getattr(value, "tiers", ())}
    found = [(start, _price_at(prices, start + 1)) for start in sorted(starts, reverse=True)]
    return tuple((start, price) for start, price in found if price is not None)


def _price_at(prices: Any, tokens: int) -> Price | None:
    """At an input of so many tokens. None: priced by the image, minute or request, not by the token."""

    def pico(name: str, default: int) -> int:
        value = getattr(prices, name, None)
        amount = getattr(value, "base", value)
        for tier in getattr(value, "tiers", ()):
            if tokens > tier.start:
                amount = tier.price
        found = _pico(amount)
        return default if found is None else found

    read, written = pico("input_mtok", -1), pico("output_mtok", -1)
    if read < 0 or written < 0:
        return None
    write = pico("cache_write_mtok", read)
    return Price(
        input_pico=read,
        output_pico=written,
        cached_input_pico=pico("cache_read_mtok", read),
        cache_write_extra_pico=write - read,
        cache_write_1h_extra_pico=pico("cache_write_1h_mtok", write) - read,
        reasoning_extra_pico=pico("output_reasoning_mtok", written) - written,
        known=True,
    )


def _pico(usd_per_million: object) -> int | None:
    if usd_per_million is None:
        return None
    return int((Decimal(str(usd_per_million)) * PICO_PER_MILLION_USD).to_integral_value(ROUND_HALF_UP))


def _is_local(base_url: str | None) -> bool:
    if base_url is None:
        return False
    host = urlsplit(base_url).hostname or ""
    try:
        return ip_address(host).is_private
    except ValueError:
        return host == "localhost" or "." not in host or host.endswith((".local", ".internal", ".localhost"))
