"""Providers without configuration, and how far a file may change them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from genai_prices import Usage, calc_price

from model_gateway.config.load import Loaded, load
from model_gateway.config.presets import PRESETS


def load_text(folder: Path, text: str, environ: Mapping[str, str] | None = None) -> Loaded:
    (folder / "gateway.yaml").write_text(text)
    return load(None, environ or {}, folder)


def test_embedded_is_free_and_local(tmp_path: Path) -> None:
    embedded = load(None, {}, tmp_path).config.providers["embedded"]
    assert embedded.kind == "embedded"
    assert embedded.default_model == "smollm2-135m-instruct"
    assert embedded.supported_model_types == ("local",)
    assert embedded.max_concurrent_queries == 4
    assert embedded.cost_efficiency == 1.0
    assert (embedded.base_cost_per_query, embedded.price_per_million_input, embedded.price_per_million_output) == (
        0,
        0,
        0,
    )


def test_embedded_may_be_changed_in_part_or_switched_off(tmp_path: Path) -> None:
    text = "providers: {embedded: {status: offline, maxConcurrentQueries: 9, supportedModelTypes: [local, hybrid]}}"
    embedded = load_text(tmp_path, text).config.providers["embedded"]
    assert (embedded.status, embedded.max_concurrent_queries) == ("offline", 9)
    assert embedded.supported_model_types == ("local", "hybrid")
    assert embedded.default_model == "smollm2-135m-instruct"


def test_a_provider_of_another_kind_takes_only_the_name(tmp_path: Path) -> None:
    text = "providers: {embedded: {kind: openai, baseUrl: http://127.0.0.1/v1, defaultModel: m}}"
    embedded = load_text(tmp_path, text).config.providers["embedded"]
    assert embedded.price_per_million_input is None
    assert embedded.supported_model_types == ("remote",)


@pytest.mark.parametrize(("name", "variable"), [("openai", "OPENAI_API_KEY"), ("anthropic", "ANTHROPIC_API_KEY")])
def test_a_key_switches_a_vendor_on(tmp_path: Path, name: str, variable: str) -> None:
    loaded = load(None, {variable: "sk-1"}, tmp_path)
    provider = loaded.config.providers[name]
    assert list(loaded.config.providers) in ([name, "embedded"], ["embedded", name])
    assert provider.kind == "openai"
    assert provider.supported_model_types == ("hybrid", "remote")
    assert set(provider.tier_models) == {"hybrid", "remote"}
    assert set(provider.tier_models.values()) <= set(provider.supported_models)
    assert loaded.warnings == ()


@pytest.mark.parametrize("name", ["openai", "anthropic"])
def test_every_model_of_a_vendor_has_a_published_price(name: str) -> None:
    models = PRESETS[name]["supported_models"]
    assert isinstance(models, tuple)
    for model in models:
        assert calc_price(Usage(input_tokens=1000), model_ref=str(model), provider_id=name).total_price > 0


def test_a_file_entry_uses_the_key_of_the_environment(tmp_path: Path) -> None:
    text = "providers: {openai: {retryCount: 4}}"
    openai = load_text(tmp_path, text, {"OPENAI_API_KEY": "sk-1"}).config.providers["openai"]
    assert openai.retry_count == 4
    assert openai.base_url == "https://api.openai.com/v1"
    assert openai.api_key is not None
    assert openai.api_key.get_secret_value() == "sk-1"


def test_a_file_entry_without_a_key_loads_with_a_warning(tmp_path: Path) -> None:
    loaded = load_text(tmp_path, "providers: {openai: {}}")
    assert loaded.warnings == ("providers.openai has no api_key: calls go out without a credential",)


def test_the_environments_key_wins_over_the_files_and_says_so(tmp_path: Path) -> None:
    text = "providers: {openai: {apiKey: other}}"
    loaded = load_text(tmp_path, text, {"OPENAI_API_KEY": "sk-1"})
    key = loaded.config.providers["openai"].api_key
    assert key is not None
    assert key.get_secret_value() == "sk-1"
    assert loaded.warnings == (
        "OPENAI_API_KEY (environment) replaces the value at gateway.yaml:1: providers.openai.apiKey",
    )


def test_base_url_of_the_environment(tmp_path: Path) -> None:
    both = load(None, {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": "https://proxy.example.com/v1"}, tmp_path)
    assert both.config.providers["openai"].base_url == "https://proxy.example.com/v1"
    alone = load(None, {"OPENAI_BASE_URL": "https://proxy.example.com/v1"}, tmp_path)
    assert "openai" not in alone.config.providers
    assert alone.warnings == ("OPENAI_BASE_URL is set, but OPENAI_API_KEY is not: the provider openai stays off",)


@pytest.mark.parametrize(
    ("text", "tiers", "tier_models", "default"),
    [
        ("defaultModel: m", ("hybrid", "remote"), {}, "m"),
        ("tierModels: {remote: m}", ("remote",), {"remote": "m"}, None),
        ("supportedModelTypes: [remote]", ("remote",), {"remote": "gpt-4.1"}, None),
        ("supportedModelTypes: [local]", ("local",), {}, "gpt-4.1-mini"),
    ],
)
def test_own_models_replace_the_presets_mapping(
    tmp_path: Path, text: str, tiers: tuple[str, ...], tier_models: dict[str, str], default: str | None
) -> None:
    openai = load_text(tmp_path, f"providers: {{openai: {{{text}, apiKey: k}}}}").config.providers["openai"]
    assert openai.supported_model_types == tiers
    assert openai.tier_models == tier_models
    assert openai.default_model == default


@pytest.mark.parametrize(
    ("text", "environ", "warning"),
    [
        ("cache: {type: redis}", {}, "cache: this version caches in memory only; Redis is not used"),
        ("", {"REDIS_URL": "redis://r"}, "cache: this version caches in memory only; Redis is not used"),
        ("server: {host: 0.0.0.0}", {}, "server.host is 0.0.0.0 and there are no `keys`"),
        ("server: {host: my-host}", {}, "server.host is my-host and there are no `keys`"),
        (
            "providers: {a: {baseUrl: 'http://x.example.com', defaultModel: m, apiKey: k}}",
            {},
            "providers.a: its api_key travels unencrypted; use https in base_url",
        ),
    ],
)
def test_warnings(tmp_path: Path, text: str, environ: dict[str, str], warning: str) -> None:
    (found,) = load_text(tmp_path, text, environ).warnings
    assert found.startswith(warning)


@pytest.mark.parametrize(
    "text",
    [
        "cache: {type: redis, enabled: false}",
        "server: {host: '::1'}",
        "server: {host: 0.0.0.0}\nkeys: [{name: a, key: b}]",
        "providers: {ollama: {baseUrl: 'http://localhost:11434/v1', defaultModel: m, supportedModelTypes: [local]}}",
    ],
)
def test_no_warning_where_all_is_well(tmp_path: Path, text: str) -> None:
    assert load_text(tmp_path, text).warnings == ()
