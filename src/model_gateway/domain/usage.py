"""Tokens and money. Money is integer nano-USD (10⁻⁹ USD); prices are integer pico-USD (10⁻¹² USD) per token."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

NANO_PER_USD = 1_000_000_000
PICO_PER_NANO = 1_000


_USUAL_TIERS: Final = frozenset(("", "auto", "default", "standard", "on_demand"))


class Usage(msgspec.Struct, frozen=True):
    """Tokens of one call as the provider counted them. `estimated` marks our own count.

    Tokens read from a provider's cache and written to one (`_1h`: to be kept for an hour) are parts of the input,
    reasoning tokens of the output. `service_tier`: such as flex, where the provider says that it was not the usual one.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cached_input_tokens: int = 0
    reasoning_tokens: int = 0
    estimated: bool = False
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    service_tier: str = ""


class Expected(msgspec.Struct, frozen=True):
    """Tokens that a request is expected to take: `exactly` counts them, and it takes long and a vocabulary of 28 MB.

    Without either: `about` so many, and never more than `most`.
    """

    about: int
    most: int
    exactly: Callable[[], int]


class Price(msgspec.Struct, frozen=True):
    """Pico-USD per token. `known` is false when nobody published a price: then a query is estimated otherwise.

    `…_extra_pico`: by how much such a token is dearer than any of the input (of the output, for reasoning), or cheaper.
    `longer`: prices of inputs of more than so many tokens, longest first; they hold for all tokens of the call.
    `service_tiers`: thousandths of the price by service tier. `base_nano`: what a query costs where no price is known.
    """

    input_pico: int = 0
    output_pico: int = 0
    cached_input_pico: int = 0
    known: bool = False
    cache_write_extra_pico: int = 0
    cache_write_1h_extra_pico: int = 0
    reasoning_extra_pico: int = 0
    longer: tuple[tuple[int, Price], ...] = ()
    service_tiers: tuple[tuple[str, int], ...] = ()
    base_nano: int = 0

    def at(self, input_tokens: int) -> Price:
        """The price of a call that reads so many tokens."""
        for start, price in self.longer:
            if input_tokens > start:
                return price
        return self

    def share_of(self, service_tier: str) -> int:
        """Thousandths of the price; all of it for a tier that nobody told us about."""
        for name, share in self.service_tiers:
            if name == service_tier:
                return share
        return 1000


def with_tier(usage: Usage, service_tier: Any) -> Usage:
    """`service_tier` as a provider told it, whatever that is; the usual ones are not worth a word."""
    if not isinstance(service_tier, str) or service_tier in _USUAL_TIERS:
        return usage
    return msgspec.structs.replace(usage, service_tier=service_tier[:32])


def usd_from_nano(nano: int) -> float:
    """For doors and displays only: the contract's fields are floats."""
    return nano / NANO_PER_USD
