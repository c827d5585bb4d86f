"""The catalog: every model of every provider as a Target, computed once per configuration. Pure.

Decides which tiers a model is the default of and which capabilities it has. Never looks at live state.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import msgspec

from model_gateway.config.schema import GatewayConfig, ProviderConfig
from model_gateway.domain.route import Target, Tier
from model_gateway.domain.usage import NANO_PER_USD, Price

# What a request may need beyond text. A provider that names none of them is taken to know best: the request goes to it
# and its own refusal comes back. The embedded model is known to have none.
MODALITIES = frozenset(("tools", "vision", "audio", "files", "json_schema"))

FeaturesOf = Callable[[str], frozenset[str]]
PriceOf = Callable[[str, ProviderConfig, str], Price]


def build_targets(config: GatewayConfig, price_of: PriceOf, features: FeaturesOf) -> tuple[Target, ...]:
    """In the order of the configuration: providers, then their models. `features`: what a kind's schema can carry."""
    found: list[Target] = []
    for name, provider in config.providers.items():
        found += [
            _target(name, provider, model, price_of(name, provider, model), features) for model in models_of(provider)
        ]
        for model in provider.embedding_models:
            price = price_of(name, provider, model)
            target = _target(name, provider, model, price, features)
            found.append(msgspec.structs.replace(target, tiers=frozenset(), embeds=True))
    return tuple(found)


def models_of(provider: ProviderConfig) -> tuple[str, ...]:
    """default_model, then tier_models, then supported_models, each once."""
    default = (provider.default_model,) if provider.default_model else ()
    return tuple(dict.fromkeys((*default, *provider.tier_models.values(), *provider.supported_models)))


def _target(name: str, provider: ProviderConfig, model: str, price: Price, features: FeaturesOf) -> Target:
    default = provider.default_model or next(iter(provider.supported_models), None)
    tiers = frozenset(Tier(t) for t in provider.supported_model_types if provider.tier_models.get(t, default) == model)
    capabilities = frozenset(provider.capabilities)
    if provider.kind != "embedded" and not capabilities & MODALITIES:
        capabilities |= MODALITIES
    capabilities |= features(provider.kind)
    base_nano = _nano(provider.base_cost_per_query)
    return Target(
        provider=name,
        model=model,
        tiers=tiers,
        capabilities=capabilities,
        price=price,
        cost_efficiency=provider.cost_efficiency,
        base_cost_nano=price.base_nano if base_nano is None else base_nano,
        max_cost_nano=_nano(provider.max_cost_per_query),
        max_concurrent=provider.max_concurrent_queries,
        drains=provider.on_disconnect == "drain",
    )


def _nano(usd: float | None) -> int | None:
    # Through the decimal text: 0.07 USD is 70,000,000 nano-USD, not what binary makes of it.
    return None if usd is None else int(Decimal(str(usd)) * NANO_PER_USD)
