"""Tokens and money. Money is integer nano-USD (10⁻⁹ USD); prices are integer pico-USD (10⁻¹² USD) per token."""

from __future__ import annotations

import msgspec

NANO_PER_USD = 1_000_000_000
PICO_PER_NANO = 1_000


class Usage(msgspec.Struct, frozen=True):
    """Tokens of one call as the provider counted them. `estimated` marks our own count."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_input_tokens: int = 0
    reasoning_tokens: int = 0
    estimated: bool = False


class Price(msgspec.Struct, frozen=True):
    """Pico-USD per token. `known` is false when nobody published a price: then a query is estimated otherwise."""

    input_pico: int = 0
    output_pico: int = 0
    cached_input_pico: int = 0
    known: bool = False


def usd_from_nano(nano: int) -> float:
    """For doors and displays only: the contract's fields are floats."""
    return nano / NANO_PER_USD
