"""Which adapter and which credential header belong to each kind of provider: the one place that knows them all."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from model_gateway.config.schema import ProviderConfig
from model_gateway.providers import embedded
from model_gateway.providers.adapter import Adapter
from model_gateway.providers.anthropic import AnthropicAdapter
from model_gateway.providers.gemini import GeminiAdapter
from model_gateway.providers.openai import OpenAIAdapter
from model_gateway.providers.responses import ResponsesAdapter
from model_gateway.wire.protocols import PROTOCOLS

# What `kind` a provider is of → the schema it speaks (`wire.protocols.PROTOCOLS`).
PROTOCOL_OF: Mapping[str, str] = {
    "openai": "openai",
    "embedded": "openai",
    "responses": "responses",
    "anthropic": "anthropic",
    "gemini": "gemini",
}
_ADAPTERS: Mapping[str, Callable[[], Adapter]] = {
    "openai": OpenAIAdapter,
    "responses": ResponsesAdapter,
    "embedded": lambda: OpenAIAdapter(embedded.SAMPLING),
    "anthropic": AnthropicAdapter,
    "gemini": GeminiAdapter,
}
ANTHROPIC_VERSION = "2023-06-01"


def adapter_of(config: ProviderConfig) -> Adapter:
    return _ADAPTERS[config.kind]()


def features_of(kind: str) -> frozenset[str]:
    """What a request to a provider of this kind can say: see wire/needs.py."""
    return PROTOCOLS[PROTOCOL_OF[kind]].features


def headers_of(config: ProviderConfig, key: str) -> dict[str, str]:
    """The fixed headers of every call. What the user wrote in `headers` wins."""
    headers = {name: value.get_secret_value() for name, value in config.headers.items()}
    named = {name.lower() for name in headers}
    defaults = {"anthropic-version": ANTHROPIC_VERSION} if config.kind == "anthropic" else {}
    if key:
        if config.api_key_header:
            defaults[config.api_key_header] = key
        elif config.kind == "anthropic":
            defaults["x-api-key"] = key
        elif config.kind == "gemini":
            defaults["x-goog-api-key"] = key
        else:
            defaults["Authorization"] = f"Bearer {key}"
    return headers | {name: value for name, value in defaults.items() if name.lower() not in named}
