"""The official openai SDK asks a running gateway for embeddings, before a real local provider of them."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import sqlite3
import struct
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from gateway import config_for, fixture_provider
from model_gateway.app import App
from model_gateway.config.schema import GatewayConfig, RoutingConfig
from upstream import FixtureUpstream, Seen, hang_up, until, whole

SMALL, LARGE = "embed-small", "embed-large"
DIMENSIONS = 8


def vector(text: str, dimensions: int) -> list[float]:
    """Always the same for the same text."""
    digest = hashlib.sha256(text.encode()).digest()
    return [byte / 256 for byte in digest[:dimensions]]


def embed(seen: Seen, writer: asyncio.StreamWriter) -> Any:
    """A provider of embeddings: one vector for each text, as numbers or packed."""
    body = seen.json
    texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
    found: list[dict[str, Any]] = []
    for at, text in enumerate(texts):
        numbers = vector(str(text), body.get("dimensions", DIMENSIONS))
        packed = base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()
        told = packed if body.get("encoding_format") == "base64" else numbers
        found.append({"object": "embedding", "index": at, "embedding": told})
    usage = {"prompt_tokens": 5 * len(texts), "total_tokens": 5 * len(texts)}
    reply = {"object": "list", "model": body["model"], "data": found, "usage": usage}
    return whole(json.dumps(reply).encode())(seen, writer)


@pytest.fixture
async def upstream() -> AsyncIterator[FixtureUpstream]:
    async with FixtureUpstream(embed) as server:
        yield server


@pytest.fixture
def config(tmp_path: Path, upstream: FixtureUpstream) -> GatewayConfig:
    provider = fixture_provider(upstream.url, embedding_models=(SMALL, LARGE))
    return config_for(tmp_path, {"fixture": provider}, routing=RoutingConfig(aliases={"vectors": SMALL}))


@pytest.fixture
async def app(config: GatewayConfig) -> AsyncIterator[App]:
    async with App(config) as running:
        yield running


@pytest.fixture
async def client(app: App) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"http://127.0.0.1:{app.http_port}/v1", api_key="x", max_retries=0) as sdk:
        yield sdk


def near(told: list[float], text: str, dimensions: int = DIMENSIONS) -> bool:
    return told == pytest.approx(vector(text, dimensions))


async def test_one_text_and_many(client: AsyncOpenAI, upstream: FixtureUpstream) -> None:
    one = await client.embeddings.create(model=SMALL, input="a black hole")
    assert near(one.data[0].embedding, "a black hole") and one.model == SMALL
    assert upstream.seen[0].path == "/v1/embeddings"
    assert upstream.seen[0].json["encoding_format"] == "base64", "as the SDK asks by itself"
    many = await client.embeddings.create(model=SMALL, input=["a", "b", "黑洞"])
    assert [near(item.embedding, text) for item, text in zip(many.data, ("a", "b", "黑洞"), strict=True)] == [True] * 3
    assert [item.index for item in many.data] == [0, 1, 2] and many.usage.total_tokens == 15


async def test_numbers_dimensions_and_tokens(client: AsyncOpenAI, upstream: FixtureUpstream) -> None:
    asked = await client.embeddings.create(model=LARGE, input="a", dimensions=3, encoding_format="float", user="u")
    assert near(asked.data[0].embedding, "a", 3)
    sent = upstream.seen[0].json
    assert (sent["model"], sent["dimensions"], sent["user"]) == (LARGE, 3, "u")
    await client.embeddings.create(model=SMALL, input=[[1, 2, 3]])
    assert upstream.seen[1].json["input"] == [[1, 2, 3]]


async def test_names(client: AsyncOpenAI, upstream: FixtureUpstream) -> None:
    for name in ("fixture/embed-small", "vectors"):
        assert (await client.embeddings.create(model=name, input=name)).model == SMALL
    listed = [model.id async for model in client.models.list()]
    assert SMALL in listed and LARGE in listed


async def test_what_cannot_be_is_a_clear_error(client: AsyncOpenAI, upstream: FixtureUpstream) -> None:
    with pytest.raises(openai.NotFoundError, match="embed-none"):
        await client.embeddings.create(model="embed-none", input="a")
    with pytest.raises(openai.BadRequestError, match="input"):
        await client.embeddings.create(model=SMALL, input=[])
    with pytest.raises(openai.APIStatusError) as chatting:
        await client.embeddings.create(model="fixture-model", input="a")
    assert chatting.value.status_code in (400, 404)
    with pytest.raises(openai.APIStatusError) as embedding:
        await client.chat.completions.create(model=SMALL, messages=[{"role": "user", "content": "a"}])
    assert embedding.value.status_code in (400, 404)
    with pytest.raises(openai.BadRequestError, match="unsafe"):
        await client.embeddings.create(model=SMALL, input=["fine", "exec ('x')"])
    assert upstream.seen == []


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (whole(b'{"error":{"message":"slow down"}}', 429), openai.InternalServerError),
        (whole(b'{"object":"list","data":[]}'), openai.InternalServerError),
        (whole(b'{"choices":[]}'), openai.InternalServerError),
        (hang_up, openai.InternalServerError),
        (whole(b'{"error":{"message":"too long"}}', 400), openai.BadRequestError),
    ],
)
async def test_a_failing_provider_gives_one_typed_error(
    client: AsyncOpenAI, upstream: FixtureUpstream, answer: Any, kind: type[openai.APIStatusError]
) -> None:
    upstream.answer = answer
    with pytest.raises(kind):
        await client.embeddings.create(model=SMALL, input="a")


@pytest.mark.parametrize("texts", [["a", "b"], [[1, 2], [3]], ["a", "b", "c"]])
async def test_fewer_vectors_than_texts_are_no_answer(
    client: AsyncOpenAI, upstream: FixtureUpstream, texts: Any
) -> None:
    upstream.answer = whole(b'{"object":"list","data":[{"index":0,"embedding":[0.5]}]}')
    with pytest.raises(openai.InternalServerError, match=f"1 embeddings for {len(texts)} texts"):
        await client.embeddings.create(model=SMALL, input=texts)


async def test_another_provider_of_the_same_model_takes_over(tmp_path: Path) -> None:
    async with FixtureUpstream(whole(b"{}", 503)) as first, FixtureUpstream(embed) as second:
        options: dict[str, Any] = {"embedding_models": (SMALL,)}
        providers = {
            "first": fixture_provider(first.url, cost_efficiency=1.0, **options),
            "second": fixture_provider(second.url, cost_efficiency=0.0, **options),
        }
        async with App(config_for(tmp_path, providers)) as app:
            url = f"http://127.0.0.1:{app.http_port}/v1"
            async with AsyncOpenAI(base_url=url, api_key="x", max_retries=0) as client:
                raw = await client.embeddings.with_raw_response.create(model=SMALL, input="a")
        assert near(raw.parse().data[0].embedding, "a")
        assert (raw.headers["x-gateway-provider"], raw.headers["x-gateway-attempts"]) == ("second", "2")
        assert (len(first.seen), len(second.seen)) == (1, 1)


async def test_it_is_paid_for_once_and_then_cached(client: AsyncOpenAI, app: App, upstream: FixtureUpstream) -> None:
    for _ in range(2):
        await client.embeddings.create(model=SMALL, input=["a", "b"])
    assert len(upstream.seen) == 1
    path = app.config.ledger.path

    def rows() -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(path)) as ledger:
            found = ledger.execute("select door, status, input_tokens, cost_nano, cache from requests").fetchall()
        ledger.close()
        return found

    await until(lambda: len(rows()) == 2)
    first, second = rows()
    assert first == ("embeddings", "ok", 10, 10_000, "miss")
    assert second[:2] == ("embeddings", "ok") and second[3] == 0 and second[4] != "miss"


async def test_the_synchronous_client(app: App) -> None:
    def ask() -> list[float]:
        with OpenAI(base_url=f"http://127.0.0.1:{app.http_port}/v1", api_key="x", max_retries=0) as client:
            return client.embeddings.create(model=SMALL, input="a").data[0].embedding

    assert near(await asyncio.to_thread(ask), "a")
