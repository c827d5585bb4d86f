"""What a query costs, in integers (pico-USD a token, nano-USD a query): estimates, upper bounds and charges. Pure.

Decides no route, keeps no budget and knows no price: those are in the target (prices.py).
"""

from __future__ import annotations

from model_gateway.domain.route import Target
from model_gateway.domain.usage import PICO_PER_NANO, Price, Usage

MAX_TOKENS = 100_000_000
"""More than any model reads or writes in one call: a larger count is a provider's mistake and is cut here."""

_PLAIN = 1000  # thousandths of the price


def estimate_nano(target: Target, input_tokens: int, output_tokens: int, score: float) -> int:
    """What a query will cost at `target`, in nano-USD, rounded up; `score` is its complexity, 0–1 (below 0: unknown).

    Price known: input_tokens × input price + output_tokens × output price. Else the target's base cost, grown with
    complexity and length: base × (1 + score) × (1 + tokens / 1000). `maxCostPerQuery` is for the caller to compare.
    """
    if not (0 <= input_tokens <= MAX_TOKENS and 0 <= output_tokens <= MAX_TOKENS):
        input_tokens, output_tokens = _cut(input_tokens, MAX_TOKENS), _cut(output_tokens, MAX_TOKENS)
    price = target.price
    if not price.known:
        return _guessed(target, input_tokens + output_tokens, score)
    if price.longer:
        price = price.at(input_tokens)
    return -(-(input_tokens * price.input_pico + output_tokens * price.output_pico) // PICO_PER_NANO)


def most_nano(target: Target, input_tokens: int, output_tokens: int, score: float, *, tiered: bool = False) -> int:
    """No charge for so many tokens or fewer is larger, in nano-USD: each at the highest price that it may have.

    `tiered`: the caller asked for a service tier, whose price may be a multiple.
    """
    price = target.price
    if not price.known:
        return estimate_nano(target, input_tokens, output_tokens, score)
    if not (0 <= input_tokens <= MAX_TOKENS and 0 <= output_tokens <= MAX_TOKENS):
        input_tokens, output_tokens = _cut(input_tokens, MAX_TOKENS), _cut(output_tokens, MAX_TOKENS)
    most = input_tokens * _dearest_input(price) + output_tokens * _dearest_output(price)
    for start, longer in price.longer:
        if input_tokens > start:
            most = max(most, input_tokens * _dearest_input(longer) + output_tokens * _dearest_output(longer))
    times = max([_PLAIN, *(share for _, share in price.service_tiers)]) if tiered else _PLAIN
    return -(-most * times // (_PLAIN * PICO_PER_NANO))


def cost_nano(target: Target, usage: Usage | None, score: float) -> int:
    """What a call is charged, in nano-USD, rounded up; never negative, whatever the provider reports.

    Tokens read from a cache, written to one (for minutes or for an hour) and thoughts have their own prices; they are
    parts of input and output, as providers count them. Counts are cut to 0–MAX_TOKENS and parts to their whole. Without
    usage: the base cost of an empty query where the token price is unknown, else 0 (count the text first and pass it as
    an estimated Usage).
    """
    if usage is None:
        return estimate_nano(target, 0, 0, score)
    price = target.price
    input_tokens = _cut(usage.input_tokens, MAX_TOKENS)
    output_tokens = _cut(usage.output_tokens, MAX_TOKENS)
    if not price.known:
        return _guessed(target, input_tokens + output_tokens, score)
    if price.longer:
        price = price.at(input_tokens)
    pico = input_tokens * price.input_pico + output_tokens * price.output_pico
    cached = usage.cached_input_tokens and _cut(usage.cached_input_tokens, input_tokens)
    if cached:
        pico += cached * (price.cached_input_pico - price.input_pico)
    if usage.reasoning_tokens:
        pico += _cut(usage.reasoning_tokens, output_tokens) * price.reasoning_extra_pico
    if usage.cache_write_tokens:
        pico += _writes(price, usage, input_tokens - cached)
    if usage.service_tier:
        pico = pico * target.price.share_of(usage.service_tier) // _PLAIN
    return -(-pico // PICO_PER_NANO)


def _cut(tokens: int, most: int) -> int:
    """To 0–`most`; plain comparisons, since every request asks several times."""
    if tokens < 0:
        return 0
    return most if tokens > most else tokens


def _writes(price: Price, usage: Usage, uncached: int) -> int:
    """What tokens cost more for being written to a cache: none is counted twice."""
    written = min(max(usage.cache_write_tokens, 0), uncached)
    for_an_hour = min(max(usage.cache_write_1h_tokens, 0), written)
    return (written - for_an_hour) * price.cache_write_extra_pico + for_an_hour * price.cache_write_1h_extra_pico


def _dearest_input(price: Price) -> int:
    """By comparisons: `max` takes twice as long, and every target of a request is asked."""
    extra, for_an_hour = price.cache_write_extra_pico, price.cache_write_1h_extra_pico
    if for_an_hour > extra:
        extra = for_an_hour
    dearest = price.input_pico + extra if extra > 0 else price.input_pico
    return dearest if dearest > price.cached_input_pico else price.cached_input_pico


def _dearest_output(price: Price) -> int:
    extra = price.reasoning_extra_pico
    return price.output_pico + extra if extra > 0 else price.output_pico


def _guessed(target: Target, tokens: int, score: float) -> int:
    thousandths = int(score * 1000) if 0.0 < score <= 1.0 else (1000 if score > 1.0 else 0)
    return -(-target.base_cost_nano * (1000 + thousandths) * (1000 + tokens) // 1_000_000)
