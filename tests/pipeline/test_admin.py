"""The admin API: what the commands do, over HTTP, for whoever has the token and nobody else."""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway import QUESTION, config_for, fixture_provider
from model_gateway.app import App
from model_gateway.config.schema import BudgetConfig, BudgetsConfig, LedgerConfig, ServerConfig
from upstream import FixtureUpstream

TOKENS_USD = 39 * 1e-6 + 27 * 2e-6


@pytest.fixture
async def app(stack: AsyncExitStack, tmp_path: Path, first: FixtureUpstream) -> App:
    limits = (
        BudgetConfig(name="all", usd=5, per="month"),
        BudgetConfig(name="each key", scope="key", usd=1, per="day"),
    )
    config = config_for(
        tmp_path,
        {"fixture": fixture_provider(first.url)},
        budgets=BudgetsConfig(limits=limits),
        ledger=LedgerConfig(path=str(tmp_path / "ledger.db"), flush_interval=10),
        server=ServerConfig(port=0, http_port=0, control_port=0, require_keys=True),
    )
    return await stack.enter_async_context(App(config))


@pytest.fixture
async def admin(app: App, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    token = (tmp_path / "admin.token").read_text().strip()
    url = f"http://127.0.0.1:{app.control_port}/admin/v1"
    async with httpx.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {token}"}) as client:
        yield client


async def ask(app: App, key: str) -> int:
    body = {"model": "auto", "messages": [{"role": "user", "content": QUESTION}]}
    async with httpx.AsyncClient() as client:
        url = f"http://127.0.0.1:{app.http_port}/v1/chat/completions"
        return (await client.post(url, json=body, headers={"Authorization": f"Bearer {key}"})).status_code


async def test_a_keys_life(app: App, admin: httpx.AsyncClient) -> None:
    asked = {"name": "ada", "team": "search", "expires_in": 60, "requests_per_minute": 5, "doors": ["http"]}
    made = await admin.post("/keys", json=asked)
    assert made.status_code == 201 and made.json()["options"] == {"requests_per_minute": 5, "doors": ["http"]}
    key = made.json()["key"]
    assert await ask(app, key) == 200, "known at once, not only after a second"
    again = await admin.post("/keys", json={"name": "ada"})
    assert again.status_code == 409 and again.json()["error"]["field"] == "name"
    rotated = (await admin.post("/keys/ada/rotate", json={"overlap": 30})).json()["key"]
    assert rotated != key and [await ask(app, each) for each in (key, rotated)] == [200, 200]
    listed = (await admin.get("/keys")).json()["keys"]
    assert [(each["name"], each["team"], each["state"]) for each in listed] == [("ada", "search", "active")] * 2
    assert key not in str(listed)
    assert len((await admin.delete("/keys/ada")).json()["revoked"]) == 2
    assert [await ask(app, each) for each in (key, rotated)] == [401, 401]
    assert (await admin.delete("/keys/ada")).status_code == 404


async def test_costs_and_budgets(app: App, admin: httpx.AsyncClient) -> None:
    key = (await admin.post("/keys", json={"name": "ada", "team": "search"})).json()["key"]
    assert await ask(app, key) == 200
    cost = f"{TOKENS_USD:.9f}"
    told: list[dict[str, str]] = []
    while not told:  # rows are written every 10 ms
        told = (await admin.get("/costs", params={"by": "team,key"})).json()["costs"]
    assert [(row["team"], row["key"], row["cost_usd"]) for row in told] == [("search", "ada", cost)]
    rows = list(csv.DictReader(io.StringIO((await admin.get("/costs?by=day&format=csv")).text)))
    assert len(rows) == 1 and rows[0]["cost_usd"] == cost
    assert (await admin.get("/costs?until=2020-01-01")).json() == {"costs": []}
    states = (await admin.get("/budgets")).json()["budgets"]
    assert [(each["budget"], each["account"]) for each in states] == [("all", "gateway"), ("each key", "key:ada")]
    assert states[1]["spent_usd"] == cost and states[1]["held_usd"] == "0.000000000"
    assert float(states[1]["left_usd"]) == pytest.approx(1 - TOKENS_USD)


async def test_a_key_has_a_budget_of_its_own(app: App, admin: httpx.AsyncClient, tmp_path: Path) -> None:
    own = {"name": "bob", "budget": 0.001, "budget_per": "total"}
    key = (await admin.post("/keys", json=own)).json()["key"]
    body = {"model": "auto", "max_tokens": 100, "messages": [{"role": "user", "content": QUESTION}]}
    url = f"http://127.0.0.1:{app.http_port}/v1/chat/completions"
    async with httpx.AsyncClient() as client:

        async def ask_many() -> list[httpx.Response]:
            headers = {"Authorization": f"Bearer {key}", "Cache-Control": "no-store"}
            return await asyncio.gather(*(client.post(url, json=body, headers=headers) for _ in range(20)))

        replies = await ask_many()
    answered = [reply.status_code for reply in replies].count(200)
    (refused, *_) = [reply for reply in replies if reply.status_code == 402]
    assert "the budget `own` (total)" in refused.json()["error"]["message"]
    assert 0 < answered * TOKENS_USD <= 0.001
    states = (await admin.get("/budgets")).json()["budgets"]
    (own_state,) = [each for each in states if each["budget"] == "own"]
    assert (own_state["account"], own_state["limit_usd"]) == ("key:bob", "0.001000000")
    assert own_state["spent_usd"] == f"{answered * TOKENS_USD:.9f}"
    assert {each["budget"] for each in states} == {"all", "each key", "own"}


@pytest.mark.parametrize(
    ("method", "path", "body", "field"),
    [
        ("POST", "/keys", {}, None),
        ("POST", "/keys", {"name": ""}, "name"),
        ("POST", "/keys", {"name": "x", "doors": ["window"]}, "doors"),
        ("POST", "/keys", {"name": "x", "requests_per_minute": -1}, "requests_per_minute"),
        ("POST", "/keys", {"name": "x", "team": 5}, "team"),
        ("POST", "/keys", {"name": "x", "expires_in": -1}, "expires_in"),
        ("POST", "/keys", {"name": "x", "budget": 0}, "budget"),
        ("POST", "/keys", {"name": "x", "budget_per": "hour"}, "budget_per"),
        ("POST", "/keys", {"name": "x", "rpm": 1}, None),
        ("POST", "/keys", {"name": "x" * 70_000}, None),
        ("GET", "/costs?by=colour", None, "by"),
        ("GET", "/costs?since=yesterday", None, "since"),
        ("GET", "/costs?format=pdf", None, "format"),
        ("GET", "/audit?since=yesterday", None, "since"),
        ("GET", "/audit?limit=0", None, "limit"),
        ("GET", "/audit?before=x", None, "before"),
    ],
)
async def test_a_mistake_is_explained(
    admin: httpx.AsyncClient, method: str, path: str, body: Any, field: str | None
) -> None:
    refused = await admin.request(method, path, json=body)
    assert refused.status_code == 400, refused.text
    error = refused.json()["error"]
    assert error["field"] == field and error["message"]


async def test_nobody_enters_without_the_token(app: App, tmp_path: Path) -> None:
    file = tmp_path / "admin.token"
    assert file.stat().st_mode & 0o077 == 0
    url = f"http://127.0.0.1:{app.control_port}/admin/v1"
    async with httpx.AsyncClient() as client:
        for headers in ({}, {"Authorization": "Bearer x"}, {"Authorization": "Basic x"}):
            for method, path in (("GET", "/keys"), ("POST", "/keys"), ("GET", "/costs"), ("DELETE", "/keys/x")):
                refused = await client.request(method, url + path, headers=headers)
                assert refused.status_code == 401 and "admin.token" in refused.json()["error"]["message"]
        assert (await client.get(url + "/nothing")).status_code == 404


async def test_who_did_what_is_in_the_audit_log(app: App, admin: httpx.AsyncClient) -> None:
    key = (await admin.post("/keys", json={"name": "ada", "requests_per_minute": 5})).json()["key"]
    await admin.post("/keys", json={"name": "ada"})  # refused: nothing was done
    rotated = (await admin.post("/keys/ada/rotate", json={"overlap": 30})).json()["key"]
    await admin.delete("/keys/ada")
    for _ in range(5):
        assert (await admin.get("/audit", headers={"Authorization": "Bearer guess"})).status_code == 401
    told = (await admin.get("/audit")).json()["audit"]
    assert [(each["action"], each["target"]) for each in told] == [
        ("admin.refused", "/admin/v1/audit"),
        ("key.revoked", "ada"),
        ("key.rotated", "ada"),
        ("key.created", "ada"),
    ], "the newest first; guesses of one minute and one address fill no log"
    assert {each["source"] for each in told} == {"127.0.0.1"}
    assert [each["actor"] for each in told] == ["no valid token", *["admin token"] * 3]
    assert told[3]["detail"]["options"] == {"requests_per_minute": 5}
    assert not any(secret in str(told) for secret in (key, rotated, "guess"))
    one = (await admin.get("/audit?action=key&limit=1&before=3")).json()["audit"]
    assert [each["action"] for each in one] == ["key.rotated"]
    assert (await admin.get("/audit?since=2999-01-01")).json() == {"audit": []}


async def test_a_configured_token_needs_no_file(stack: AsyncExitStack, tmp_path: Path, first: FixtureUpstream) -> None:
    server = ServerConfig.model_validate({"port": 0, "http_port": 0, "control_port": 0, "admin_token": "let me in"})
    app = await stack.enter_async_context(
        App(config_for(tmp_path, {"fixture": fixture_provider(first.url)}, server=server))
    )
    async with httpx.AsyncClient(headers={"Authorization": "Bearer let me in"}) as client:
        assert (await client.get(f"http://127.0.0.1:{app.control_port}/admin/v1/keys")).json() == {"keys": []}
    assert not (tmp_path / "admin.token").exists()
