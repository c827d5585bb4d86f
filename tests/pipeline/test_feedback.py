"""Feedback: on one's own requests only, by any id, the last word counts; kept by backups."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from pydantic import SecretStr
from typer.testing import CliRunner

from gateway import QUESTION, config_for, fixture_provider
from model_gateway.app import App
from model_gateway.cli.app import app as commands
from model_gateway.config.schema import CallerKey, LedgerConfig
from model_gateway.pb import gateway_pb2 as pb
from model_gateway.pb import gateway_pb2_grpc
from upstream import FixtureUpstream

ALICE, BOB = "alice-0123456789abcdef", "bob-0123456789abcdef"


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[App]:
    keys = tuple(CallerKey(name=key[:3], key=SecretStr(key)) for key in (ALICE, BOB))
    async with FixtureUpstream() as upstream:
        config = config_for(tmp_path, {"fixture": fixture_provider(upstream.url)}, keys=keys)
        async with App(config) as running:
            yield running


async def post(app: App, path: str, body: Any, key: str = ALICE, **headers: str) -> httpx.Response:
    async with httpx.AsyncClient(timeout=30) as client:
        told = {"Authorization": f"Bearer {key}"} | {name.replace("_", "-"): value for name, value in headers.items()}
        return await client.post(f"http://127.0.0.1:{app.http_port}{path}", json=body, headers=told)


async def ask(app: App, key: str = ALICE, **headers: str) -> str:
    body = {"model": "auto", "messages": [{"role": "user", "content": QUESTION}]}
    reply = await post(app, "/v1/chat/completions", body, key, **headers)
    assert reply.status_code == 200
    return reply.headers["x-request-id"]


def kept(folder: Path) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(folder / "ledger.db")) as ledger:
        return ledger.execute(
            "SELECT r.key_name, f.score, f.comment, f.labels FROM feedback f JOIN requests r ON r.uid = f.uid"
        ).fetchall()


async def test_the_last_word_on_a_request_counts_and_it_may_come_at_once(app: App, tmp_path: Path) -> None:
    asked = await ask(app)
    reply = await post(app, "/v1/feedback", {"request_id": asked, "thumb": "down", "comment": "no"})
    assert (reply.status_code, reply.json()) == (200, {"request_id": asked, "score": 0.0})
    reply = await post(app, "/v1/feedback", {"request_id": asked, "score": 0.75, "labels": {"screen": "a"}})
    assert reply.status_code == 200
    assert kept(tmp_path) == [("ali", 0.75, "", '{"screen":"a"}')]


async def test_an_id_of_the_callers_own_and_nobody_elses(app: App, tmp_path: Path) -> None:
    assert await ask(app, x_request_id="order-7") == "order-7"
    assert await ask(app, BOB, x_request_id="order-7") == "order-7"
    assert (await post(app, "/v1/feedback", {"request_id": "order-7", "thumb": "up"}, BOB)).status_code == 200
    assert kept(tmp_path) == [("bob", 1.0, "", "{}")]
    mine = await ask(app)
    refused = await post(app, "/v1/feedback", {"request_id": mine, "thumb": "up"}, BOB)
    assert refused.status_code == 404
    error = refused.json()["error"]
    assert (error["code"], error["param"]) == ("unknown_request", "request_id")
    assert "x-request-id" in error["message"]
    assert (await post(app, "/v1/feedback", {"request_id": mine, "thumb": "up"}, "wrong")).status_code == 401


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"request_id": "r"}, "thumb"),
        ({"request_id": "r", "score": 1, "thumb": "up"}, "thumb"),
        ({"request_id": "r", "score": 1.5}, "score"),
        ({"request_id": "r", "thumb": "sideways"}, "thumb"),
        ({"request_id": "", "thumb": "up"}, "request_id"),
        ({"thumb": "up"}, "request_id"),
        ({"request_id": "r", "thumb": "up", "rating": 5}, "rating"),
        ({"request_id": "r", "thumb": "up", "comment": "x" * 2001}, "comment"),
        ({"request_id": "r", "thumb": "up", "labels": {str(i): "" for i in range(17)}}, "labels"),
        ({"request_id": "r", "thumb": "up", "labels": {"a": "x" * 257}}, "labels"),
    ],
)
async def test_what_is_wrong_is_named(app: App, body: dict[str, Any], field: str) -> None:
    reply = await post(app, "/v1/feedback", body)
    assert reply.status_code == 400
    assert field in reply.json()["error"]["message"]


async def test_over_grpc(app: App, tmp_path: Path) -> None:
    metadata = (("authorization", f"Bearer {ALICE}"),)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{app.grpc_port}") as channel:
        stub: Any = gateway_pb2_grpc.ModelGatewayServiceStub(channel)
        answer = await stub.ProcessQuery(pb.ModelRequest(request_id="g-1", query=QUESTION), metadata=metadata)
        told = pb.FeedbackRequest(request_id=answer.request_id, thumb=pb.UP, comment="对", labels={"a": "b"})
        assert await stub.GiveFeedback(told, metadata=metadata) == pb.FeedbackResponse(request_id="g-1", score=1.0)
        assert kept(tmp_path) == [("ali", 1.0, "对", '{"a":"b"}')]
        for request, status in (
            (pb.FeedbackRequest(request_id="nobody's", score=0.5), grpc.StatusCode.NOT_FOUND),
            (pb.FeedbackRequest(request_id="g-1"), grpc.StatusCode.INVALID_ARGUMENT),
            (pb.FeedbackRequest(request_id="g-1", score=0.5, thumb=pb.UP), grpc.StatusCode.INVALID_ARGUMENT),
            (pb.FeedbackRequest(request_id="g-1", score=float("nan")), grpc.StatusCode.INVALID_ARGUMENT),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.GiveFeedback(request, metadata=metadata)
            assert caught.value.code() == status


async def test_without_the_ledger_it_is_refused_and_says_why(tmp_path: Path) -> None:
    async with (
        FixtureUpstream() as upstream,
        App(
            config_for(tmp_path, {"fixture": fixture_provider(upstream.url)}, ledger=LedgerConfig(enabled=False))
        ) as app,
    ):
        reply = await post(app, "/v1/feedback", {"request_id": "r", "thumb": "up"})
    assert reply.status_code == 400
    assert "ledger.enabled" in reply.json()["error"]["message"]


async def test_a_backup_holds_it_and_a_restore_brings_it_back(app: App, tmp_path: Path) -> None:
    asked = await ask(app)
    assert (await post(app, "/v1/feedback", {"request_id": asked, "score": 0.5})).status_code == 200
    config = tmp_path / "gateway.yaml"
    config.write_text(json.dumps({"ledger": {"path": str(tmp_path / "ledger.db")}}))
    file = tmp_path / "saved.tar.gz"
    run = CliRunner()
    made = run.invoke(commands, ["backup", "--to", str(file), "-c", str(config)])
    assert made.exit_code == 0, made.output
    back = tmp_path / "back"
    back.mkdir()
    restored = run.invoke(commands, ["restore", str(file), "--into", str(back / "ledger.db"), "-c", str(config)])
    assert restored.exit_code == 0, restored.output
    assert kept(back) == [("ali", 0.5, "", "{}")]
