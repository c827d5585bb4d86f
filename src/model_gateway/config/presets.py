"""Providers that need little or no configuration: the embedded model, and vendors by name.

Decides which starting values a provider gets: those of the preset it names, or is named after. Never reads a file or
the environment; what is written there replaces these values one by one (config/load.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, cast

from model_gateway.config.vendors import ALIASES, VENDORS, Options

MODEL_OPTIONS: Final = frozenset({"default_model", "supported_models", "tier_models"})

EMBEDDED: Final = "embedded"

PRESETS: Final[Mapping[str, Options]] = {
    EMBEDDED: {
        "kind": "embedded",
        "default_model": "smollm2-135m-instruct",
        "supported_model_types": ("local",),
        "max_concurrent_queries": 4,
        "base_cost_per_query": 0.0,
        "price_per_million_input": 0.0,
        "price_per_million_output": 0.0,
        "cost_efficiency": 1.0,
        # The first query also loads the weights, on a machine that may be slow and busy.
        "first_token_timeout": 120_000,
        "capabilities": ("text_generation", "summarization", "conversation"),
    },
    **VENDORS,
}


def preset_name(provider: str, written: Options) -> str:
    """The preset that `written` asks for, or that the provider is named after; empty if there is none."""
    named = written.get("preset") or provider
    name = ALIASES.get(str(named), str(named))
    return name if name in PRESETS else ""


def preset_for(provider: str, written: Options) -> Options:
    """The preset values under what is `written` for `provider`; empty where it describes something else.

    Whoever names models of his own must not inherit the preset's mapping of tiers to models, and whoever narrows the
    tiers keeps the models of the rest.
    """
    preset: dict[str, object] = dict(PRESETS.get(preset_name(provider, written), {}))
    if "kind" in written and written["kind"] != preset.get("kind"):
        return {}
    tiers = written.get("supported_model_types")
    models = written.get("tier_models")
    if MODEL_OPTIONS & written.keys():
        preset = {option: value for option, value in preset.items() if option not in MODEL_OPTIONS}
        if isinstance(models, Mapping) and "default_model" not in written:
            preset["supported_model_types"] = tuple(cast("Mapping[str, object]", models))
    elif isinstance(tiers, list | tuple) and "tier_models" in preset:
        inherited = cast("Mapping[str, str]", preset["tier_models"])
        preset["tier_models"] = {tier: model for tier, model in inherited.items() if tier in tiers}
        if not preset["tier_models"]:
            preset["default_model"] = inherited["hybrid"]
    return preset
