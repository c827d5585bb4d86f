"""A request with an idempotency key is answered once and charged once, however often it is repeated, and wherever."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Generator
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import Any

import grpc
import httpx
import openai
import pytest
from pydantic import SecretStr
from sqlalchemy import text

from gateway import config_for, fixture_provider
from model_gateway.app import App
from model_gateway.budget import answers, once
from model_gateway.config.schema import CacheConfig, CallerKey, LedgerConfig
from model_gateway.domain.record import Record
from model_gateway.pb import gateway_pb2 as pb
from model_gateway.pb import gateway_pb2_grpc as stubs
from postgres import emptied, server
from upstream import FixtureUpstream, Seen, chat, events, fixture, until, whole

ASK: dict[str, Any] = {"model": "auto", "messages": [{"role": "user", "content": "Explain what a black hole is."}]}
COST = 39 * 1_000 + 27 * 2_000  # of the recorded reply


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    with server(tmp_path_factory.mktemp("postgres")) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> LedgerConfig:
    path = str(tmp_path / "ledger.db")
    if request.param == "sqlite":
        return LedgerConfig(path=path, flush_interval=20)
    url = SecretStr(emptied(request.getfixturevalue("postgres")))
    return LedgerConfig(path=path, url=url, flush_interval=20)


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=20) as found:
        yield found


async def start(
    stack: AsyncExitStack, tmp_path: Path, upstream: FixtureUpstream, ledger: LedgerConfig | None = None, **options: Any
) -> App:
    provider = fixture_provider(upstream.url, embedding_models=("vectors",), first_token_timeout=10_000)
    options = {"cache": CacheConfig(enabled=False), **options}
    if ledger is not None:
        options["ledger"] = ledger
    return await stack.enter_async_context(App(config_for(tmp_path, {"fixture": provider}, **options)))


def closed_of(app: App) -> list[Record]:
    found: list[Record] = []
    app.gateway.observers.append(found.append)
    return found


async def post(
    client: httpx.AsyncClient, app: App, key: str, body: Any = ASK, path: str = "/v1/chat/completions", **headers: str
) -> httpx.Response:
    url = f"http://127.0.0.1:{app.http_port}{path}"
    return await client.post(url, json=body, headers={"Idempotency-Key": key, **headers})


@pytest.mark.parametrize("stream", [False, True])
async def test_a_repetition_gets_the_same_answer_and_costs_nothing(
    stack: AsyncExitStack,
    tmp_path: Path,
    first: FixtureUpstream,
    ledger: LedgerConfig,
    client: httpx.AsyncClient,
    stream: bool,
) -> None:
    one, two = [await start(stack, tmp_path, first, ledger) for _ in range(2)]
    closed = closed_of(one)
    repeated = closed_of(two)
    body = {**ASK, "stream": stream, "stream_options": {"include_usage": True}} if stream else ASK
    told = await post(client, one, "k-1", body)
    again = await post(client, two, "k-1", body)
    assert told.status_code == again.status_code == 200
    assert told.content == again.content and len(first.seen) == 1
    assert (told.headers["x-gateway-cache"], again.headers["x-gateway-cache"]) == ("off", "repeated")
    assert again.headers["x-gateway-model"] == "fixture-model"
    assert (closed[0].cost_nano, repeated[0].cost_nano, repeated[0].status) == (COST, 0, "ok")
    assert (await post(client, two, "k-2", body)).headers["x-gateway-cache"] == "off"
    assert len(first.seen) == 2


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/messages", {**ASK, "max_tokens": 99}),
        ("/v1/messages", {**ASK, "max_tokens": 99, "stream": True}),
        ("/v1/responses", {"model": "auto", "input": "Hello"}),
        ("/v1/responses", {"model": "auto", "input": "Hello", "stream": True}),
        ("/v1beta/models/auto:generateContent", {"contents": [{"parts": [{"text": "Hello"}]}]}),
        ("/v1beta/models/auto:streamGenerateContent?alt=sse", {"contents": [{"parts": [{"text": "Hello"}]}]}),
        ("/v1/embeddings", {"model": "vectors", "input": "Hello"}),
    ],
)
async def test_at_every_door(
    stack: AsyncExitStack,
    tmp_path: Path,
    first: FixtureUpstream,
    client: httpx.AsyncClient,
    path: str,
    body: dict[str, Any],
) -> None:
    if path.endswith("embeddings"):
        first.answer = whole(b'{"object":"list","data":[{"index":0,"embedding":[0.5]}],"usage":{"prompt_tokens":1}}')
    app = await start(stack, tmp_path, first)
    told = await post(client, app, "k", body, path)
    again = await post(client, app, "k", body, path)
    assert told.status_code == again.status_code == 200 and len(first.seen) == 1
    assert again.headers["x-gateway-cache"] == "repeated"
    ids = (told.headers["x-request-id"].encode(), again.headers["x-request-id"].encode())
    assert told.content.replace(ids[0], b"") == again.content.replace(ids[1], b"")


async def test_over_grpc(stack: AsyncExitStack, tmp_path: Path, first: FixtureUpstream) -> None:
    app = await start(stack, tmp_path, first)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{app.grpc_port}") as channel:
        stub: Any = stubs.ModelGatewayServiceStub(channel)
        replies = [
            await stub.ProcessQuery(pb.ModelRequest(query="Hello"), metadata=(("idempotency-key", "k"),))
            for _ in range(2)
        ]
    assert len(first.seen) == 1 and replies[0].response == replies[1].response
    assert [reply.cached for reply in replies] == [False, True] and replies[1].cost == 0


async def test_repetitions_at_the_same_time_wait_for_the_one_answer(
    stack: AsyncExitStack, tmp_path: Path, first: FixtureUpstream, ledger: LedgerConfig, client: httpx.AsyncClient
) -> None:
    async def slow(seen: Seen, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.3)
        await chat(seen, writer)

    first.answer = slow
    apps = [await start(stack, tmp_path, first, ledger) for _ in range(2)]
    closed = [closed_of(app) for app in apps]
    replies = await asyncio.gather(*(post(client, apps[n % 2], f"k{n % 3}") for n in range(30)))
    assert {reply.status_code for reply in replies} == {200} and len(first.seen) == 3
    assert len({reply.content for reply in replies}) == 1
    assert sorted(record.cost_nano for each in closed for record in each) == [0] * 27 + [COST] * 3


async def test_a_key_is_for_one_request_of_one_caller(
    stack: AsyncExitStack, tmp_path: Path, first: FixtureUpstream, client: httpx.AsyncClient
) -> None:
    keys = tuple(CallerKey(name=name, key=SecretStr(f"sk-{name}")) for name in ("a", "ab"))
    app = await start(stack, tmp_path, first, keys=keys)
    assert (await post(client, app, "bk", authorization="Bearer sk-a")).status_code == 200
    assert (await post(client, app, "k", authorization="Bearer sk-ab")).headers["x-gateway-cache"] == "off"
    assert (await post(client, app, "bk", authorization="Bearer sk-ab")).headers["x-gateway-cache"] == "off"
    other: dict[str, Any] = {**ASK, "max_tokens": 5}
    refused = await post(client, app, "bk", other, authorization="Bearer sk-a")
    assert refused.status_code == 400 and refused.json()["error"]["param"] == "Idempotency-Key"
    for wrong in ("", "x" * 256):
        assert (await post(client, app, wrong, authorization="Bearer sk-a")).status_code == 400
    assert len(first.seen) == 3


@pytest.mark.parametrize("stream", [False, True])
async def test_what_failed_is_asked_anew(
    stack: AsyncExitStack, tmp_path: Path, first: FixtureUpstream, client: httpx.AsyncClient, stream: bool
) -> None:
    app = await start(stack, tmp_path, first)
    first.answer = events(fixture("stream.sse"), cut_at=3_000) if stream else whole(b"oops", 400)
    told = await post(client, app, "k", {**ASK, "stream": stream})
    assert told.status_code == (200 if stream else 400) and b"[DONE]" not in told.content
    first.answer = chat
    again = await post(client, app, "k", {**ASK, "stream": stream})
    assert again.status_code == 200 and again.headers["x-gateway-cache"] == "off"
    assert (await post(client, app, "k", {**ASK, "stream": stream})).headers["x-gateway-cache"] == "repeated"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("leaves_after", [0.05, 0.25])
async def test_a_caller_that_leaves_and_comes_back_is_charged_once(
    stack: AsyncExitStack, tmp_path: Path, first: FixtureUpstream, stream: bool, leaves_after: float
) -> None:
    """What the SDKs do after a timeout, with the same key."""

    async def slow(seen: Seen, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.2)
        await (events(fixture("stream.sse"), pace_s=0.02) if stream else chat)(seen, writer)
        await asyncio.sleep(0.2)

    async def slower(seen: Seen, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.1 if stream else 0.4)
        await slow(seen, writer)

    first.answer = slow if leaves_after < 0.1 else slower
    app = await start(stack, tmp_path, first)
    closed = closed_of(app)
    url = f"http://127.0.0.1:{app.http_port}/v1"
    asked: dict[str, Any] = {**ASK, "extra_headers": {"Idempotency-Key": "k"}, "stream": stream}
    async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as sdk:
        with pytest.raises(openai.APITimeoutError):
            found = await sdk.chat.completions.create(**asked, timeout=leaves_after)
            if stream:
                async for _ in found:
                    pass
        answer = await sdk.chat.completions.create(**asked, timeout=20)
        said = "".join([c.choices[0].delta.content or "" async for c in answer if c.choices]) if stream else answer
        assert said
    await until(lambda: len(closed) == 2)
    assert len(first.seen) == 1 and first.hung_up == 0
    assert sorted(record.cost_nano for record in closed) == [0, COST]
    assert sorted(record.status for record in closed) == ["cancelled", "ok"]


async def test_an_answer_of_a_dead_gateway_is_asked_for_anew(
    stack: AsyncExitStack, tmp_path: Path, first: FixtureUpstream, ledger: LedgerConfig, client: httpx.AsyncClient
) -> None:
    app = await start(stack, tmp_path, first, ledger)
    assert (await post(client, app, "k")).status_code == 200
    book = app.ledger
    assert book is not None
    half_open = text("UPDATE answers SET answer = NULL, uid = 'dead', expires_at = :until")
    book.run(lambda c: c.execute(half_open, {"until": time.time() + 0.5}))
    begun = time.monotonic()
    assert (await post(client, app, "k")).headers["x-gateway-cache"] == "off"
    assert time.monotonic() - begun > 0.4 and len(first.seen) == 2
    assert (await post(client, app, "k")).headers["x-gateway-cache"] == "repeated"


async def test_a_long_call_says_that_it_lives(
    stack: AsyncExitStack,
    tmp_path: Path,
    first: FixtureUpstream,
    client: httpx.AsyncClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(once, "LEASE_S", 0.3)
    monkeypatch.setattr(once, "BEAT_S", 0.05)

    async def slow(seen: Seen, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(1.0)
        await chat(seen, writer)

    first.answer = slow
    app = await start(stack, tmp_path, first)
    replies = await asyncio.gather(*(post(client, app, "k") for _ in range(3)))
    assert {reply.status_code for reply in replies} == {200} and len(first.seen) == 1


async def test_answers_are_forgotten_after_their_time(
    stack: AsyncExitStack, tmp_path: Path, first: FixtureUpstream, client: httpx.AsyncClient
) -> None:
    app = await start(stack, tmp_path, first, LedgerConfig(path=str(tmp_path / "ledger.db"), idempotency_ttl=1))
    assert (await post(client, app, "k")).status_code == 200
    await asyncio.sleep(1.1)
    assert (await post(client, app, "k")).headers["x-gateway-cache"] == "off"
    book = app.ledger
    assert book is not None
    assert book.run(lambda c: answers.forget(c, time.time() + 2)) == 1


async def test_nothing_is_promised_without_the_database(
    stack: AsyncExitStack, tmp_path: Path, first: FixtureUpstream, client: httpx.AsyncClient
) -> None:
    app = await start(stack, tmp_path, first)
    with closing(sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        refused = await post(client, app, "k")
        assert refused.status_code == 503 and refused.headers["retry-after"] == "5"
        assert refused.json()["error"]["param"] == "Idempotency-Key" and not first.seen
        other.execute("ROLLBACK")
    # Where the ledger's own writer met the lock as well, the database counts as lost until its next try.
    async with asyncio.timeout(10):
        while (reply := await post(client, app, "k")).status_code == 503:  # noqa: ASYNC110 (it is the answer that tells)
            await asyncio.sleep(0.1)
    assert reply.status_code == 200
    without = await start(stack, tmp_path / "other", first, LedgerConfig(enabled=False))
    refused = await post(client, without, "k")
    assert refused.status_code == 400 and "ledger.enabled" in refused.json()["error"]["message"]


async def test_an_answer_from_the_cache_is_kept_as_well(
    stack: AsyncExitStack, tmp_path: Path, first: FixtureUpstream, client: httpx.AsyncClient
) -> None:
    app = await start(stack, tmp_path, first, cache=CacheConfig(enabled=True))
    for stream in (False, True):
        body: dict[str, Any] = {**ASK, "stream": stream}
        await post(client, app, f"first {stream}", body)
        assert (await post(client, app, f"k {stream}", body)).headers["x-gateway-cache"] == "hit"
        told = await post(client, app, f"k {stream}", body)
        assert told.headers["x-gateway-cache"] == "repeated" and told.content.endswith(
            b"[DONE]\n\n" if stream else b"}"
        )
    assert len(first.seen) == 1
