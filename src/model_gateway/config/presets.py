"""Providers that need no configuration: the embedded model, and two vendors that a key switches on.

Decides the starting values of the providers called `embedded`, `openai` and `anthropic`. Never reads a file or the
environment; what is written in the file or the environment replaces these values one by one (config/load.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeAlias, cast

Options: TypeAlias = Mapping[str, object]

_MODEL_OPTIONS: Final = frozenset({"default_model", "supported_models", "tier_models"})

_SKILLS = ("text_generation", "code_generation", "reasoning", "summarization", "translation", "conversation")
_API_SKILLS = (*_SKILLS, "tools", "vision", "json_schema")

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
    "openai": {
        "kind": "openai",
        "base_url": "https://api.openai.com/v1",
        "supported_model_types": ("hybrid", "remote"),
        "tier_models": {"hybrid": "gpt-4.1-mini", "remote": "gpt-4.1"},
        "supported_models": ("gpt-4.1", "gpt-4.1-mini", "gpt-4.1-nano", "gpt-4o", "gpt-4o-mini"),
        "cost_efficiency": 0.6,
        "capabilities": _API_SKILLS,
    },
    # The vendor's OpenAI-compatible endpoint.
    "anthropic": {
        "kind": "openai",
        "base_url": "https://api.anthropic.com/v1",
        "supported_model_types": ("hybrid", "remote"),
        "tier_models": {"hybrid": "claude-haiku-4-5", "remote": "claude-sonnet-4-5"},
        "supported_models": ("claude-haiku-4-5", "claude-sonnet-4-5", "claude-opus-4-5"),
        "cost_efficiency": 0.5,
        "capabilities": _API_SKILLS,
    },
}

KEY_VARIABLES: Final[Mapping[str, str]] = {"openai": "OPENAI_API_KEY", "anthropic": "ANTHROPIC_API_KEY"}
"""The variable whose presence switches a preset on."""


def preset_for(name: str, written: Options) -> Options:
    """The preset values under what is `written` for provider `name`; empty where it describes something else.

    Whoever names models of his own must not inherit the preset's mapping of tiers to models, and whoever narrows the
    tiers keeps the models of the rest.
    """
    preset: dict[str, object] = dict(PRESETS.get(name, {}))
    if "kind" in written and written["kind"] != preset.get("kind"):
        return {}
    tiers = written.get("supported_model_types")
    models = written.get("tier_models")
    if _MODEL_OPTIONS & written.keys():
        preset = {option: value for option, value in preset.items() if option not in _MODEL_OPTIONS}
        if isinstance(models, Mapping) and "default_model" not in written:
            preset["supported_model_types"] = tuple(cast("Mapping[str, object]", models))
    elif isinstance(tiers, list | tuple) and "tier_models" in preset:
        inherited = cast("Mapping[str, str]", preset["tier_models"])
        preset["tier_models"] = {tier: model for tier, model in inherited.items() if tier in tiers}
        if not preset["tier_models"]:
            preset["default_model"] = inherited["hybrid"]
    return preset
