"""Providers without configuration, and how far a file may change them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import pytest

from model_gateway.budget.prices import price_of
from model_gateway.config.environment import AZURE_ENDPOINT
from model_gateway.config.errors import ConfigError
from model_gateway.config.load import Loaded, load
from model_gateway.config.schema import ProviderConfig
from model_gateway.config.vendors import ALIASES, KEY_VARIABLES, VENDORS
from model_gateway.providers.adapters import headers_of

DOCUMENTATION = Path(__file__).parents[3] / "docs/providers.md"


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


@pytest.mark.parametrize(
    ("name", "variable"), [(name, variable) for name, variables in KEY_VARIABLES.items() for variable in variables]
)
def test_a_key_switches_a_vendor_on(tmp_path: Path, name: str, variable: str) -> None:
    address = {"AZURE_OPENAI_ENDPOINT": "https://me.openai.azure.com/"} if name == "azure" else {}
    text = "providers: {azure: {defaultModel: my-deployment}}" if name == "azure" else ""
    loaded = load_text(tmp_path, text, {variable: "sk-1", **address})
    provider = loaded.config.providers[name]
    assert sorted(loaded.config.providers) == sorted([name, "embedded"])
    assert provider.api_key is not None
    assert provider.api_key.get_secret_value() == "sk-1"
    assert provider.kind == {"anthropic": "anthropic", "gemini": "gemini"}.get(name, "openai")
    assert set(provider.tier_models.values()) <= set(provider.supported_models)
    assert loaded.warnings == ()


def test_of_two_variables_for_one_key_the_first_named_wins(tmp_path: Path) -> None:
    key = load(None, {"GOOGLE_API_KEY": "b", "GEMINI_API_KEY": "a"}, tmp_path).config.providers["gemini"].api_key
    assert key is not None
    assert key.get_secret_value() == "a"


@pytest.mark.parametrize("name", [name for name in VENDORS if "supported_models" in VENDORS[name]])
def test_models_of_vendors_have_published_prices(name: str) -> None:
    """All but Qwen's, whose prices nobody publishes in the list we use; docs/providers.md says so."""
    config = ProviderConfig.model_validate(VENDORS[name])
    for model in (*config.supported_models, *config.tier_models.values()):
        assert price_of(name, config, model).known == (name != "qwen"), model


def test_azure_takes_its_address_as_the_vendor_shows_it_and_its_own_header(tmp_path: Path) -> None:
    environ = {"AZURE_OPENAI_API_KEY": "k", "AZURE_OPENAI_ENDPOINT": "https://me.openai.azure.com/"}
    azure = load_text(tmp_path, "providers: {azure: {defaultModel: d}}", environ).config.providers["azure"]
    assert azure.base_url == "https://me.openai.azure.com/openai/v1"
    assert headers_of(azure, "k") == {"api-key": "k"}


def test_azures_key_alone_is_no_provider_and_no_reason_to_stop(tmp_path: Path) -> None:
    loaded = load(None, {"AZURE_OPENAI_API_KEY": "k"}, tmp_path)
    assert "azure" not in loaded.config.providers
    assert loaded.warnings == ("the provider azure has a key, but stays off: it needs its base_url and a model too",)


@pytest.mark.parametrize("name", ["ollama", "vllm", "llama.cpp", "llamacpp", "lmstudio", "lm-studio"])
def test_a_local_server_needs_only_its_model(tmp_path: Path, name: str) -> None:
    provider = load_text(tmp_path, f"providers: {{{name}: {{defaultModel: m}}}}").config.providers[name]
    assert provider.base_url is not None
    assert provider.base_url.startswith("http://127.0.0.1:")
    assert provider.supported_model_types == ("local",)
    assert price_of(name, provider, "m").known
    with pytest.raises(ConfigError, match=f"{name}.*needs a model"):
        load_text(tmp_path, f"providers: {{{name}: {{}}}}")


def test_a_preset_under_another_name(tmp_path: Path) -> None:
    text = "providers: {mine: {preset: dashscope, apiKey: k}, yours: {preset: deepseek, apiKey: k, retryCount: 3}}"
    loaded = load_text(tmp_path, text)
    mine, yours = loaded.config.providers["mine"], loaded.config.providers["yours"]
    assert mine.base_url == VENDORS["qwen"]["base_url"]
    assert (yours.base_url, yours.retry_count) == (VENDORS["deepseek"]["base_url"], 3)
    assert loaded.sources["providers.yours.base_url"] == "preset"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{p: {preset: deepsek}}", "'deepsek' is not a preset; did you mean deepseek?"),
        ("{p: {preset: qqqqq}}", "'qqqqq' is not a preset; there are embedded, openai, anthropic"),
        ("{anthropic: {embeddingModels: [m]}}", "only providers of kind openai answer /v1/embeddings here"),
        ("{azure: {defaultModel: d}}", "azure.*base_url"),
        ("{openai: {apiKeyHeader: 'a b'}}", "api_?[kK]ey_?[hH]eader.*is not a valid HTTP header name"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        load_text(tmp_path, f"providers: {text}")


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
        ("cache: {type: redis}", {}, "cache: this version caches in memory only; Redis counts the callers' limits"),
        ("server: {host: 0.0.0.0, allow_anonymous: true}", {}, "server.host is 0.0.0.0 and there are no `keys`"),
        ("server: {host: my-host, allowAnonymous: true}", {}, "server.host is my-host and there are no `keys`"),
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


def test_the_table_in_the_documentation_is_true() -> None:
    lines = DOCUMENTATION.read_text(encoding="utf-8").split("## Protocols")[0].splitlines()
    rows = [line.split("|")[1:-1] for line in lines if line.startswith("| `")]
    table = {re.findall("`([^`]+)`", name)[0]: [cell.strip() for cell in cells] for name, *cells in rows}
    aliases = {alias for name, *_ in rows for alias in re.findall("`([^`]+)`", name)[1:]}
    assert aliases == ALIASES.keys()
    for name, preset in VENDORS.items():
        key, address, kind, models = table[name]
        assert re.findall("`([^`]+)`", key) == list(KEY_VARIABLES.get(name, ())), name
        assert address == f"`{preset.get('base_url', AZURE_ENDPOINT)}`", name
        assert kind == preset["kind"], name
        tier_models = preset.get("tier_models")
        if isinstance(tier_models, Mapping):
            assert models == " / ".join(cast("Mapping[str, str]", tier_models).values()), name


@pytest.mark.parametrize(
    ("routing", "problem"),
    [
        ("{aliases: {fast: p/modle}}", "routing.aliases.fast: no provider offers 'p/modle'; did you mean p/model?"),
        ("{aliases: {fast: {}}}", "must name at least one model"),
        ("{aliases: {fast: {m: 0}}}", "at least one must be greater than 0"),
        ("{aliases: {fast: {model: -1, p/model: 2}}}", "weights must not be negative"),
        ("{aliases: {auto: model}}", "is a name of the gateway's own; choose another"),
        ("{aliases: {x: {auto: 1, model: 1}}}", "auto cannot be one of several: it chooses by itself"),
        ("{canary: {model: q}}", "routing.canary.model: no provider offers 'q'"),
        ("{shadow: {model: q}}", "routing.shadow.model: no provider offers 'q'"),
    ],
)
def test_names_that_lead_nowhere_are_refused(tmp_path: Path, routing: str, problem: str) -> None:
    provider = "{p: {baseUrl: 'http://127.0.0.1/v1', defaultModel: model}}"
    with pytest.raises(ConfigError, match=re.escape(problem)):
        load_text(tmp_path, f"providers: {provider}\nrouting: {routing}")
