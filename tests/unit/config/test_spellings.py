"""Both spellings of every option, found by introspection: a new option is tested by existing."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel, SecretStr
from pydantic.alias_generators import to_camel

from model_gateway.config.load import load
from model_gateway.config.options import Option, dotted, options

OPTIONS = list(options())

# Values that differ from the default, for options whose value another rule restricts.
VALUES: dict[str, Any] = {
    "version": 1,
    "server.host": "localhost",
    "server.tls.min_version": "1.3",
    "server.tls.client_identity": "dns",
    "server.tls.unlisted_identity": "admit",
    "server.control_tls.min_version": "1.3",
    "providers.*.kind": "embedded",
    "providers.*.preset": "ollama",
    "providers.*.status": "draining",
    "providers.*.base_url": "https://api.example.com/v2",
    "providers.*.tier_models": {"remote": "x"},
    "providers.*.supported_model_types": ["remote", "local"],
    "providers.*.service_tier_prices": {"flex": 0.4},
    "providers.*.headers": {"X-Some_header": "x"},
    "providers.*.on_disconnect": "drain",
    "limits.store": "redis",
    "limits.when_unavailable": "fail_open",
    "ledger.when_unavailable": "fail_closed",
    "budgets.limits.*.scope": "team",
    "keys.*.doors": ["grpc"],
    "keys.*.tiers": ["local"],
    "keys.*.expires_at": datetime(2030, 1, 1, tzinfo=UTC),
    "budgets.limits.*.per": "day",
    "budgets.limits.*.mode": "soft",
    "budgets.limits.*.on_limit": "step_down",
    "budgets.timezone": "Asia/Shanghai",
    "budgets.when_unavailable": "fail_open",
    "routing.aliases": {"smart": "auto:best"},
    "routing.cascades.*.first": "local",
    "routing.cascades.*.then": "local",
    "routing.cascades.*.check.logprob": -0.43,
    "routing.cascades.*.check.format": "json",
    "routing.cascades.*.check.pattern": "a+",
    "routing.canary.model": "smollm2-135m-instruct",
    "routing.session.tier": "free",
    "routing.shadow.model": "embedded/smollm2-135m-instruct",
    "complexity.features": ["length"],
    "complexity.safe_tier": "local",
    "security.sensitive_patterns": ["a+"],
    "cache.type": "redis",
    "logging.level": "error",
    "logging.format": "text",
    "logging.destination": "file",
    "logging.file.max_size": "7k",
    "keys.*.models": ["embedded/*"],
    "keys.*.budget_per": "day",
}


CASCADE = {"first": "embedded/smollm2-135m-instruct", "then": "smollm2-135m-instruct"}
PAIR = {"cert": "c", "key": "k"}
TLS: dict[str, Any] = {**PAIR, "client_ca": "a", "client_identity": "uri", "unlisted_identity": "admit"}


def value_for(option: Option) -> Any:
    path = dotted(option.keys).replace("[0]", ".*")
    if path in VALUES:
        return VALUES[path]
    default: object = option.info.get_default(call_default_factory=True, validated_data={})
    annotation = str(option.info.annotation)
    if isinstance(default, bool):
        return not default
    if "int" in annotation:
        return 7
    if "float" in annotation:
        return 0.43
    return ["x"] if "tuple" in annotation else "x"


def document(option: Option, *, camel: bool) -> dict[str, Any]:
    """A document that sets this one option, with what else its section needs."""
    spell = to_camel if camel else str
    root: dict[str, Any] = {}
    here = root
    for key in option.keys[:-1]:
        if key == "*":
            provider = {"base_url": "http://127.0.0.1/v1", "default_model": "m"}
            here["p"] = dict(CASCADE) if "cascades" in option.keys else provider
            here = here["p"]
        elif key == 0:
            budget = {"name": "n", "usd": 1, "scope": "team"}
            here.update(budget if "budgets" in option.keys else {"name": "n", "key": "k"})
        else:
            inner: Any = {}
            follower = option.keys[option.keys.index(key) + 1 :]
            here[spell(str(key))] = [inner] if follower[:1] == (0,) else inner
            here = inner
    name = str(option.keys[-1])
    if "tls" in option.keys:
        here.update(TLS)
    elif "control_tls" in option.keys:
        here.update(PAIR)
    elif name == "certificate":
        root["server"] = {"tls": TLS}
    here.pop(name, None)
    here[spell(name)] = value_for(option)
    return root


def found(config: BaseModel, option: Option) -> object:
    value: Any = config
    for key in option.keys:
        value = value["p"] if key == "*" else value[0] if key == 0 else getattr(value, str(key))
    return plain(value)


def plain(value: Any) -> object:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    return {key: plain(item) for key, item in value.items()} if isinstance(value, dict) else value


@pytest.mark.parametrize("camel", [False, True], ids=["snake", "camel"])
@pytest.mark.parametrize("option", OPTIONS, ids=[dotted(option.keys) for option in OPTIONS])
def test_option_takes_effect_in_both_spellings(tmp_path: Path, option: Option, camel: bool) -> None:
    written = document(option, camel=camel)
    (tmp_path / "gateway.yaml").write_text(yaml.safe_dump(written))
    loaded = load(None, {}, tmp_path)
    assert found(loaded.config, option) == value_for(option)
    assert loaded.sources[dotted(option.keys).replace("*", "p")].startswith("gateway.yaml:")


def test_the_guides_provider_example_loads_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "gateway.yaml").write_text("""
providers:
  openai:
    status: online
    apiKey: env:OPENAI_API_KEY
    baseUrl: https://api.openai.com/v1
    defaultModel: gpt-4
    supportedModels: [gpt-4, gpt-3.5-turbo]
    supportedModelTypes: [remote]
    maxConcurrentQueries: 50
    baseCostPerQuery: 0.02
    maxCostPerQuery: 0.5
    timeout: 15000
    retryCount: 2
    retryDelay: 1000
    costEfficiency: 0.6
    capabilities: [text_generation, code_generation, reasoning, summarization]
security:
  enableRequestValidation: true
  maxQueryLength: 10000
  sensitivePatterns: ['/exec\\s*\\(/i']
monitoring:
  metricsInterval: 1000
  alertThresholds: {error: {rate: 0.1, interval: 300000}, latency: {threshold: 2000, percentile: 95}}
""")
    loaded = load(None, {"OPENAI_API_KEY": "sk-1"}, tmp_path)
    openai = loaded.config.providers["openai"]
    assert openai.default_model == "gpt-4"
    assert openai.tier_models == {}
    assert openai.supported_model_types == ("remote",)
    assert openai.timeout == 15_000
    assert openai.api_key is not None
    assert openai.api_key.get_secret_value() == "sk-1"
    assert loaded.warnings == ()
