from __future__ import annotations

from pydantic import SecretStr

from model_gateway.config.changes import AT_START, changes, pinned
from model_gateway.config.options import Option, dotted, options
from model_gateway.config.schema import (
    BudgetConfig,
    BudgetsConfig,
    GatewayConfig,
    LedgerConfig,
    ProviderConfig,
    RoutingConfig,
    ServerConfig,
)


def provider(**more: object) -> ProviderConfig:
    given: dict[str, object] = {"base_url": "http://127.0.0.1:9/v1", "default_model": "m", **more}
    return ProviderConfig.model_validate(given)


def test_what_differs_is_named_and_no_secret_is_told() -> None:
    before = GatewayConfig(providers={"a": provider(api_key=SecretStr("one")), "b": provider()})
    after = GatewayConfig(
        providers={"a": provider(api_key=SecretStr("two"), timeout=5), "c": provider()},
        routing=RoutingConfig(fallback=False),
        budgets=BudgetsConfig(limits=(BudgetConfig(name="x", usd=1),)),
    )
    of_providers = ["providers.a.api_key", "providers.a.timeout", "providers.b", "providers.c"]
    assert sorted(changes(before, after)) == ["budgets.limits", *of_providers, "routing.fallback"]
    assert list(changes(after, after)) == []


def test_what_only_a_start_can_change_stays_as_it_runs() -> None:
    running = GatewayConfig(server=ServerConfig(port=1, timeout=1_000), ledger=LedgerConfig(path="a.db"))
    wanted = GatewayConfig(
        server=ServerConfig(port=2, timeout=2_000), ledger=LedgerConfig(path="b.db"), key_secret=SecretStr("s")
    )
    config, kept = pinned(running, wanted)
    assert kept == ["server.port", "ledger.path", "key_secret"]
    assert (config.server.port, config.server.timeout) == (1, 2_000)
    assert config.ledger == running.ledger and config.key_secret is None
    assert pinned(running, running) == (running, [])


def test_the_options_that_need_a_start_exist() -> None:
    every: list[Option] = list(options())
    known = {dotted(option.keys) for option in every}
    for name in AT_START:
        assert any(path == name or path.startswith(f"{name}.") for path in known), name
