"""What the dashboard tells of a query and of requests is what a request meets, over the admin API."""

from __future__ import annotations

import pickle
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway import config_for, fixture_provider
from model_gateway.app import App
from model_gateway.config.schema import LedgerConfig, RoutingConfig
from upstream import FixtureUpstream, chat, until, whole

QUESTIONS = (
    "What is the weather like today?",
    "今天天气怎么样？",
    "Explain the basic principles of quantum computing",
    "Analyse in detail how AI changes medicine: 1) imaging 2) drug discovery 3) ethics; compare the EU and the US.",
)


@pytest.fixture
async def app(stack: AsyncExitStack, tmp_path: Path) -> App:
    upstream = await stack.enter_async_context(FixtureUpstream(chat))
    broken = await stack.enter_async_context(FixtureUpstream(whole(b'{"error": {"message": "down"}}', 500)))

    def offered(tier: str, price: float, url: str = upstream.url, **more: Any) -> Any:
        prices = {"price_per_million_input": price, "price_per_million_output": price * 4}
        return fixture_provider(url, default_model=f"{tier}-model", supported_model_types=(tier,), **prices, **more)

    providers = {
        "small": offered("local", 0.1),
        "middle": offered("hybrid", 1.0),
        "big": offered("remote", 15.0),
        "broken": fixture_provider(broken.url, default_model="broken-model", supported_model_types=()),
    }
    routing = RoutingConfig.model_validate({"cascades": {"checked": {"first": "local", "then": "remote"}}})
    ledger = LedgerConfig(path=str(tmp_path / "ledger.db"), flush_interval=10)
    return await stack.enter_async_context(App(config_for(tmp_path, providers, ledger=ledger, routing=routing)))


@pytest.fixture
async def admin(app: App, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"Authorization": f"Bearer {(tmp_path / 'admin.token').read_text().strip()}"}
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{app.control_port}/admin/v1", headers=headers) as client:
        yield client


async def answered(app: App, question: str, **more: Any) -> dict[str, Any]:
    body = {"model": "auto", "max_tokens": 100, "messages": [{"role": "user", "content": question}]} | more
    async with httpx.AsyncClient(timeout=30) as client:
        url = f"http://127.0.0.1:{app.http_port}/v1/chat/completions"
        return (await client.post(url, json=body, headers={"x-gateway-details": "1"})).json()


@pytest.mark.parametrize("question", QUESTIONS)
async def test_a_query_is_explained_as_it_is_routed(app: App, admin: httpx.AsyncClient, question: str) -> None:
    told = (await admin.post("/explain", json={"prompt": question, "max_tokens": 100})).json()
    met = (await answered(app, question))["gateway"]
    assert told["score"] == pytest.approx(met["score"], abs=1e-3)
    assert (told["asked_tier"], told["tier"], told["reason"]) == (met["asked_tier"], met["tier"], met["route_reason"])
    first = told["targets"][0]
    assert (first["provider"], first["model"]) == (met["provider"], met["model"])
    assert float(first["estimate_usd"]) == pytest.approx(met["estimate_usd"])
    assert [each["name"] for each in told["factors"]] == [each["name"] for each in met["factors"]]
    assert sum(each["contribution"] for each in told["factors"]) == pytest.approx(told["score"], abs=1e-6)


async def test_nothing_is_asked_or_recorded(app: App, admin: httpx.AsyncClient) -> None:
    for question in QUESTIONS:
        await admin.post("/explain", json={"prompt": question})
    await answered(app, QUESTIONS[0])
    rows: list[Any] = []
    while not rows:  # rows are written every 10 ms
        rows = (await admin.get("/requests")).json()["requests"]
    assert len(rows) == 1 and rows[0]["provider"] == "small"


async def test_what_would_be_refused_says_why(admin: httpx.AsyncClient) -> None:
    poor = (await admin.post("/explain", json={"prompt": QUESTIONS[3], "budget_usd": 0})).json()
    assert poor["targets"] == [] and "budget" in poor["refused"] and poor["score"] > 0.7
    unknown = (await admin.post("/explain", json={"prompt": "Why?", "model": "smal-model"})).json()
    assert "smal-model" in unknown["refused"]
    named = (await admin.post("/explain", json={"prompt": "Why?", "model": "big"})).json()
    assert named["refused"]
    assert (await admin.post("/explain", json={"prompt": "Why?", "model": "checked"})).json()["cascade"] == "checked"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, None),
        ({"prompt": " "}, "prompt"),
        ({"prompt": "x", "max_tokens": 0}, "max_tokens"),
        ({"prompt": "x", "budget_usd": -1}, "budget_usd"),
        ({"prompt": "x", "budget_usd": "much"}, "budget_usd"),
        ({"prompt": "x", "model": ""}, "model"),
        ({"prompt": "x", "temperature": 1}, None),
        ({"prompt": "x" * 70_000}, None),
    ],
)
async def test_bad_queries_are_refused(admin: httpx.AsyncClient, body: Any, field: str | None) -> None:
    refused = await admin.post("/explain", json=body)
    assert refused.status_code == 400 and refused.json()["error"]["field"] == field


@pytest.mark.parametrize("query", ["limit=0", "limit=201", "limit=x", "before=-1", "status=odd"])
async def test_bad_pages_are_refused(admin: httpx.AsyncClient, query: str) -> None:
    refused = await admin.get(f"/requests?{query}")
    assert refused.status_code == 400 and refused.json()["error"]["field"] == query.partition("=")[0]


async def test_a_provider_whose_breaker_is_open_is_seen(app: App, admin: httpx.AsyncClient) -> None:
    assert (await admin.get("/overview")).json()["providers"]["broken"]["resting"] == []
    for number in range(12):
        await answered(app, f"What is {number}?", model="broken/broken-model")

    await until(lambda: bool(app.condition().providers["broken"].resting), 10)
    told = (await admin.get("/overview")).json()
    assert told["providers"]["broken"]["resting"] == ["broken-model"]
    assert told["providers"]["small"] == {"status": "online", "reason": "", "in_flight": 0, "resting": []}


# --- why a request went where it went --------------------------------------------------------------------------------


async def newest(admin: httpx.AsyncClient, count: int) -> list[dict[str, Any]]:
    """All rows, the newest first, once there are so many."""
    rows: list[dict[str, Any]] = []
    while len(rows) < count:  # rows are written every 10 ms
        rows = (await admin.get("/requests")).json()["requests"]
    return rows


async def decision_of(admin: httpx.AsyncClient, row: dict[str, Any]) -> dict[str, Any]:
    return (await admin.get(f"/requests/{row['seq']}/decision")).json()


@pytest.mark.parametrize("question", QUESTIONS)
async def test_a_request_is_explained_later_as_it_was_routed(app: App, admin: httpx.AsyncClient, question: str) -> None:
    met = (await answered(app, question))["gateway"]
    (row,) = await newest(admin, 1)
    told = await decision_of(admin, row)
    assert told["unknown"] == ""
    decision = told["decision"]
    for name in ("asked_tier", "tier"):
        assert decision[name] == met[name] == row[name]
    assert decision["reason"] == met["route_reason"]
    assert decision["score"] == pytest.approx(row["score"])
    assert {(each["name"], round(each["contribution"], 5)) for each in decision["factors"]} == {
        (each["name"], round(each["contribution"], 5)) for each in met["factors"]
    }
    assert (decision["targets"][0]["provider"], decision["low"], decision["high"]) == (row["provider"], 0.3, 0.7)


async def test_no_word_of_a_prompt_is_kept(app: App, admin: httpx.AsyncClient) -> None:
    """Not even where its caller asks for the explanation, in which there are some."""
    words = ("quantum", "computing", "principles", "Explain")
    answer = await answered(app, QUESTIONS[2])
    assert any(word.lower() in str(answer["gateway"]["factors"]) for word in words)
    (row,) = await newest(admin, 1)
    kept = pickle.dumps(list(app.generation.explainer.decisions))
    assert row["request_id"].encode() in kept or row["provider"].encode() in kept
    told = str(await decision_of(admin, row))
    for word in words:
        assert word.encode() not in kept and word.lower().encode() not in kept
        assert word not in told and word.lower() not in told


async def test_what_comes_with_the_words_is_a_factor_later_too(app: App, admin: httpx.AsyncClient) -> None:
    tools = [{"type": "function", "function": {"name": f"tool{n}", "description": "x" * 2_000}} for n in range(9)]
    met = (await answered(app, QUESTIONS[0], tools=tools))["gateway"]
    (row,) = await newest(admin, 1)
    parts = {each["name"]: each["contribution"] for each in (await decision_of(admin, row))["decision"]["factors"]}
    expected = {each["name"]: each["contribution"] for each in met["factors"]}
    assert parts["around_the_words"] == pytest.approx(expected["around_the_words"], abs=1e-4)
    assert sum(parts.values()) == pytest.approx(row["score"], abs=1e-5)


async def test_who_does_not_know_says_why(app: App, admin: httpx.AsyncClient) -> None:
    for _ in range(2):
        await answered(app, QUESTIONS[0])
    await answered(app, QUESTIONS[0], model="nobody/nothing")
    refused, cached, first = await newest(admin, 3)
    assert await decision_of(admin, cached) == {"decision": None, "unknown": "cache"}
    assert (await decision_of(admin, first))["decision"]
    assert refused["score"] is None or (await decision_of(admin, refused))["decision"]["targets"] == []
    await app.apply(app.config)  # a configuration of its own: what the one before has decided is gone
    assert await decision_of(admin, first) == {"decision": None, "unknown": "gone"}


@pytest.mark.parametrize(("seq", "status"), [("0", 400), ("x", 400), ("9" * 30, 400), ("4000", 404)])
async def test_rows_that_are_not_there(admin: httpx.AsyncClient, seq: str, status: int) -> None:
    refused = await admin.get(f"/requests/{seq}/decision")
    assert (refused.status_code, refused.json()["error"]["field"]) == (status, "seq")
