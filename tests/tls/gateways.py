"""Gateways for these tests: both planes over TLS, a recorded provider behind them."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from certificates import Authority
from gateway import QUESTION, config_for, fixture_provider
from model_gateway.app import App
from model_gateway.config.schema import CacheConfig, SecurityConfig, ServerConfig
from model_gateway.domain.record import Record
from upstream import FixtureUpstream

BODY: dict[str, Any] = {"model": "auto", "messages": [{"role": "user", "content": QUESTION}]}
_FREE = {"port": 0, "http_port": 0, "control_port": 0, "shutdown_grace": 2_000}


async def start(
    stack: AsyncExitStack, folder: Path, authority: Authority, sections: dict[str, Any] | None = None, **server: Any
) -> App:
    """`server.tls` and `server.control_tls` are as given, or one certificate of the authority's."""
    cert, key = authority.issue().write(folder)
    files = {"cert": cert, "key": key}
    upstream = await stack.enter_async_context(FixtureUpstream())
    config = config_for(
        folder,
        {"fixture": fixture_provider(upstream.url)},
        server=ServerConfig.model_validate({**_FREE, "tls": files, "control_tls": files, **server}),
        cache=CacheConfig(enabled=False),
        security=SecurityConfig(max_query_length=20_000_000),
        **(sections or {}),
    )
    return await stack.enter_async_context(App(config))


def records_of(app: App) -> list[Record]:
    """Those of requests that end from now on."""
    found: list[Record] = []
    app.gateway.observers.append(found.append)
    return found
