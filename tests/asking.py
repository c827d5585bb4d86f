"""Requests straight into a running gateway's pipeline, as a door would make them."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from gateway import QUESTION, config_for, fixture_provider
from model_gateway.app import App
from model_gateway.config.schema import CacheConfig, RoutingConfig
from model_gateway.domain.chat import ChatRequest
from model_gateway.domain.errors import GatewayError
from model_gateway.domain.record import Record
from model_gateway.wire import openai as wire
from upstream import Answer, FixtureUpstream, whole

NO_CACHE = CacheConfig(enabled=False)


async def start(
    stack: AsyncExitStack,
    tmp_path: Path,
    first: FixtureUpstream,
    second: FixtureUpstream | None = None,
    routing: RoutingConfig | None = None,
    **options: Any,
) -> App:
    """`options` are the first provider's; it is the better of the two by its price."""
    providers = {"first": fixture_provider(first.url, cost_efficiency=1.0, **options)}
    if second is not None:
        providers["second"] = fixture_provider(second.url, cost_efficiency=0.0, default_model="second-model")
    config = config_for(tmp_path, providers, cache=NO_CACHE, routing=routing or RoutingConfig())
    return await stack.enter_async_context(App(config))


def request(*, stream: bool = False, model: str = "auto", **options: Any) -> ChatRequest:
    body, fields = wire.decode_chat(
        wire.encode({"model": model, "messages": [{"role": "user", "content": QUESTION}], "stream": stream})
    )
    return ChatRequest(request_id="r", model=model, messages=body.messages, body=fields, stream=stream, **options)


async def run(app: App, asked: ChatRequest | None = None) -> tuple[Record, GatewayError | None]:
    """One request through the pipeline, streams read to their end."""
    asked = asked or request()
    held: Record | None = None
    failure: GatewayError | None = None
    try:
        with app.gateway.journal("test") as record:
            held = record
            caller = app.gateway.admit("", record)
            if asked.stream:
                async for _chunks in await app.gateway.stream(asked, caller, record):
                    pass
            else:
                await app.gateway.complete(asked, caller, record)
    except GatewayError as error:
        failure = error
    assert held is not None
    return held, failure


def idle(app: App) -> bool:
    return all(state.load.in_flight == 0 and state.load.waiting == 0 for state in app.gateway.states)


def fails(status: int = 500, **headers: str) -> Answer:
    return whole(b'{"error":{"message":"no"}}', status, **headers)
