"""Samples and a candidate on live traffic: after the answer, bounded, private, joined with feedback, erased."""

from __future__ import annotations

import asyncio
import csv
import json
import stat
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway import config_for, fixture_provider
from model_gateway.app import App
from model_gateway.config.complexity import ComplexityConfig
from model_gateway.config.errors import ConfigError
from model_gateway.config.schema import RoutingConfig
from model_gateway.config.trials import SamplesConfig
from model_gateway.domain.chat import ChatRequest, Message
from model_gateway.domain.record import Record
from model_gateway.generation import candidate_of
from model_gateway.observing import noting, samples
from model_gateway.observing.noting import Noter, Plan
from model_gateway.telemetry.counts import Comparison
from upstream import FixtureUpstream, until

EASY = "今天天气怎么样？"


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[App]:
    """Everything is sampled; the candidate sends everything to the remote model, which costs ten times as much."""
    candidate = tmp_path / "candidate.yaml"
    candidate.write_text("thresholds: {low: 0.0, high: 0.0}\n")
    async with FixtureUpstream() as cheap, FixtureUpstream() as dear:
        providers = {
            "cheap": fixture_provider(cheap.url, supported_model_types=("local", "hybrid")),
            "dear": fixture_provider(
                dear.url, default_model="large", supported_model_types=("remote",),
                price_per_million_input=10.0, price_per_million_output=20.0,
            ),
        }  # fmt: skip
        routing = RoutingConfig(shadow_model=str(candidate), samples=SamplesConfig(enabled=True, rate=1.0, max=3))
        config = config_for(tmp_path, providers, routing=routing)
        (tmp_path / "gateway.yaml").write_text(json.dumps({"ledger": {"path": str(tmp_path / "ledger.db")}}))
        async with App(config) as running:
            yield running


async def ask(app: App, text: str, model: str = "auto") -> str:
    async with httpx.AsyncClient(timeout=30) as client:
        messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": text}]
        url = f"http://127.0.0.1:{app.http_port}/v1/chat/completions"
        reply = await client.post(url, json={"model": model, "messages": messages})
        assert reply.status_code == 200
        return reply.headers["x-request-id"]


async def rate(app: App, request_id: str, score: float) -> None:
    async with httpx.AsyncClient(timeout=30) as client:
        body = {"request_id": request_id, "score": score}
        assert (await client.post(f"http://127.0.0.1:{app.http_port}/v1/feedback", json=body)).status_code == 200


async def command(folder: Path, *arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "model_gateway.cli", "routing", *arguments),
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return out.decode()


async def test_samples_are_private_bounded_joined_with_feedback_and_erased(app: App, tmp_path: Path) -> None:
    path = tmp_path / "samples.db"
    texts = [f"{EASY} {number}" for number in range(4)]
    ids = [await ask(app, text) for text in texts]
    await until(lambda: [each.prompt for each in samples.every(path)] == texts[1:])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    again = await ask(app, texts[3], model="large")
    await rate(app, ids[3], 0.25)
    await rate(app, again, 1.0)
    await rate(app, ids[2], 0.75)
    await until(lambda: [each.request_id for each in samples.every(path)] == [ids[2], ids[3], again])
    out = tmp_path / "rows.csv"
    told = json.loads(await command(tmp_path, "export", "--out", str(out)))
    assert (told["samples"], told["rated"], told["rows"], told["rows_with_both"]) == (3, 3, 2, 1)
    with out.open(newline="") as file:
        rows = {row["prompt"]: row for row in csv.DictReader(file)}
    assert (rows[texts[2]]["weak"], rows[texts[2]]["strong"]) == ("0.75", "")
    assert rows[texts[3]] == {
        "prompt": texts[3], "weak": "0.25", "strong": "1", "domain": "", "language": "",
        "weak_model": "cheap/fixture-model", "strong_model": "dear/large",
    }  # fmt: skip
    assert "1 samples erased" in await command(tmp_path, "samples", "--erase", "--request-id", ids[2])
    assert "2 samples erased" in await command(tmp_path, "samples", "--erase")
    assert EASY.encode() not in path.read_bytes(), "nothing of them is left in the file"
    for kept in ("ledger.db", "ledger.db-wal"):
        assert EASY.encode() not in (tmp_path / kept).read_bytes()


async def test_a_candidate_is_compared_and_changes_nothing(app: App, tmp_path: Path) -> None:
    for number in range(3):
        await ask(app, f"{EASY} {number}")
    await ask(app, EASY, model="large")  # asked by name: no routing model decides
    url = f"http://127.0.0.1:{app.control_port}"
    counted = 'model_gateway_candidate_requests_total{candidate_tier="remote",tier="local"} 3.0'
    async with httpx.AsyncClient(timeout=30) as client, asyncio.timeout(10):
        while counted not in (await client.get(f"{url}/metrics")).text:  # noqa: ASYNC110 (asked as Prometheus asks)
            await asyncio.sleep(0.01)
    told: dict[str, Any] = json.loads(await command(tmp_path, "shadow", "--json", "--url", url))
    assert (told["requests"], told["agreement"], told["dropped"]) == (3, 0.0, 0)
    assert told["tiers"]["local"] == {"local": 0, "hybrid": 0, "remote": 3}
    assert told["candidate_usd"] == pytest.approx(10 * told["current_usd"])
    assert told["current_usd"] > 0
    text = await command(tmp_path, "shadow", "--url", url)
    assert "3 requests; the same tier for 0.0%" in text


async def test_what_cannot_be_noted_is_dropped_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noting, "MAX_WAITING", 2)
    counts = Comparison()
    noter = Noter(lambda: counts, dice=lambda: 0.5)
    noter.adopt(Plan(tmp_path / "samples.db", rate=0.6, most=10))
    request = ChatRequest(request_id="r", model="auto", messages=[Message(role="user", content="hello")], body={})
    for number in range(5):
        record = Record(f"r{number}", "http", 0.0)
        noter.note(request, record)
        record.status = "ok" if number else "model_unavailable"
        noter.close(record)
    assert counts.dropped == 2, "one failed and teaches nothing, two wait"
    await noter.flush()
    assert [each.request_id for each in samples.every(tmp_path / "samples.db")] == ["r1", "r2"]
    noter.adopt(Plan(tmp_path / "samples.db", rate=0.4, most=10))
    record = Record("r9", "http", 0.0)
    noter.note(request, record)
    noter.close(record)
    await noter.flush()
    assert len(samples.every(tmp_path / "samples.db")) == 2
    (tmp_path / "file").write_text("")
    noter.adopt(Plan(tmp_path / "file" / "samples.db", rate=0.6, most=10))
    record = Record("r10", "http", 0.0)
    noter.note(request, record)
    noter.close(record)
    await noter.flush()
    assert counts.dropped == 3, "traffic goes on though the file cannot be written"


def test_a_bad_candidate_is_refused_and_named(tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("weights: {length: -1}")
    for path in (bad, tmp_path / "missing.yaml"):
        config = config_for(tmp_path, {}, routing=RoutingConfig(shadow_model=str(path)), complexity=ComplexityConfig())
        with pytest.raises(ConfigError, match=r"routing\.shadow_model"):
            candidate_of(config)
