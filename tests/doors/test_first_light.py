"""The main job without a key: the real embedded model behind both doors, started as a user starts it."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from openai import OpenAI

from gateway import QUESTION
from model_gateway.pb import gateway_pb2, gateway_pb2_grpc


@dataclass
class Running:
    folder: Path
    process: subprocess.Popen[str]
    banner: str
    grpc: str
    http: str
    control: str


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """`model-gateway serve` in an empty folder: no configuration, no key; only free ports are asked for."""
    folder = tmp_path_factory.mktemp("first-light")
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")}
    environment |= {"PORT": "0", "HTTP_PORT": "0", "CONTROL_PORT": "0", "NO_COLOR": "1"}
    with subprocess.Popen(
        [sys.executable, "-m", "model_gateway.cli", "serve"],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        lines: list[str] = []
        for line in process.stdout:
            lines.append(line)
            if "model-gateway ask" in line:
                break
        banner = "".join(lines)
        grpc_address = re.search(r"gRPC\s+(\S+:\d+)", banner)
        http_address = re.search(r"http://\S+:\d+/v1", banner)
        control_address = re.search(r"(http://\S+:\d+)/metrics", banner)
        assert grpc_address and http_address and control_address, banner
        yield Running(folder, process, banner, grpc_address[1], http_address[0], control_address[1])
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


def test_the_banner_says_where_it_listens_and_what_is_online(gateway: Running) -> None:
    assert "embedded" in gateway.banner
    assert "online" in gateway.banner
    assert QUESTION in gateway.banner


def test_the_openai_sdk_gets_a_real_sentence(gateway: Running) -> None:
    with OpenAI(base_url=gateway.http, api_key="none", max_retries=0) as client:
        reply = client.chat.completions.create(model="auto", messages=[{"role": "user", "content": QUESTION}])
        text = reply.choices[0].message.content or ""
        assert len(text.split()) >= 4  # a sampled model of this size: that it speaks, not what it says
        assert reply.usage is not None and reply.usage.completion_tokens > 3
        stream = client.chat.completions.create(
            model="smollm2-135m-instruct",
            messages=[{"role": "user", "content": "List three fruits."}],
            max_tokens=24,
            stream=True,
        )
        pieces = [chunk.choices[0].delta.content or "" for chunk in stream]
        assert len(pieces) >= 2
        assert "".join(pieces).strip()


def test_process_query_answers_over_grpc(gateway: Running) -> None:
    with grpc.insecure_channel(gateway.grpc) as channel:
        stub = gateway_pb2_grpc.ModelGatewayServiceStub(channel)
        reply = stub.ProcessQuery(
            gateway_pb2.ModelRequest(request_id="mine", query="Explain what rain is in one sentence."), timeout=60
        )
        assert reply.request_id == "mine"
        assert reply.model_used == "embedded"
        assert len(reply.response.split()) >= 2
        assert 0 < reply.complexity_score < 1
        assert reply.cost == 0
        capabilities = stub.GetModelCapabilities(gateway_pb2.Empty(), timeout=10)
        assert [provider.provider_name for provider in capabilities.providers] == ["embedded"]
        judged = stub.EvaluateComplexity(
            gateway_pb2.ComplexityEvaluationRequest(query=QUESTION, features=["length", "domain_knowledge"]), timeout=10
        )
        assert len(judged.complexity_factors) == 2


def test_ask_streams_and_explains(gateway: Running) -> None:
    url = gateway.http.removesuffix("/v1")
    done = subprocess.run(
        [sys.executable, "-m", "model_gateway.cli", "ask", "Explain what snow is in one sentence", "--url", url],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "NO_COLOR": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) >= 2
    for word in ("embedded", "smollm2-135m-instruct", "local", "length"):
        assert word in (done.stdout + done.stderr).lower()


def test_health_metrics_and_ledger_tell_of_it(gateway: Running) -> None:
    with urllib.request.urlopen(gateway.control + "/health", timeout=10) as reply:  # noqa: S310 (loopback)
        assert reply.status == 200
        health = json.load(reply)
    assert health["status"] == "healthy"
    assert health["providers"]["embedded"]["status"] == "online"
    with urllib.request.urlopen(gateway.control + "/metrics", timeout=10) as reply:  # noqa: S310
        text = reply.read().decode()
    counted = re.search(r'model_gateway_requests_total\{model="smollm2-135m-instruct",status="ok"\} (\d+)', text)
    assert counted and int(counted[1]) >= 4
    time.sleep(0.5)  # the ledger is written in batches
    with closing(sqlite3.connect(gateway.folder / "data" / "ledger.db")) as database:
        rows = database.execute("SELECT door, status, output_tokens, cost_nano FROM requests").fetchall()
    assert {row[0] for row in rows} == {"http", "grpc"}
    assert all(row[1] == "ok" and row[2] > 0 and row[3] == 0 for row in rows)
