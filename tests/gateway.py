"""Running gateways for tests: real doors on free ports of 127.0.0.1, providers as the test says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from model_gateway.config.schema import (
    GatewayConfig,
    LedgerConfig,
    LogFile,
    LoggingConfig,
    ProviderConfig,
    ServerConfig,
)

QUESTION = "Explain what a black hole is in one sentence"


def config_for(folder: Path, providers: dict[str, ProviderConfig], **sections: Any) -> GatewayConfig:
    """A configuration on free ports with its ledger and log in `folder`."""
    server = sections.pop("server", ServerConfig(port=0, http_port=0, control_port=0, shutdown_grace=2_000))
    return GatewayConfig(
        server=server,
        providers=providers,
        ledger=sections.pop("ledger", LedgerConfig(path=str(folder / "ledger.db"), flush_interval=20)),
        logging=sections.pop(
            "logging", LoggingConfig(destination="file", file=LogFile(path=str(folder / "gateway.log")))
        ),
        **sections,
    )


def fixture_provider(url: str, **options: Any) -> ProviderConfig:
    """A provider that serves every tier from a FixtureUpstream, at 1 USD per million tokens in, 2 out."""
    given: dict[str, Any] = {
        "base_url": url,
        "default_model": "fixture-model",
        "supported_model_types": ("local", "hybrid", "remote"),
        "price_per_million_input": 1.0,
        "price_per_million_output": 2.0,
        "retry_count": 0,
        "retry_delay": 1,
        "first_token_timeout": 1_000,
        "idle_timeout": 500,
        **options,
    }
    return ProviderConfig(**given)


def embedded_provider() -> ProviderConfig:
    return ProviderConfig(
        kind="embedded",
        default_model="smollm2-135m-instruct",
        supported_model_types=("local",),
        price_per_million_input=0,
        price_per_million_output=0,
        max_concurrent_queries=4,
        first_token_timeout=60_000,
    )
