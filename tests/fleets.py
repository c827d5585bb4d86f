"""A gateway of several processes, and callers that keep it busy and count what they meet."""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
import yaml

from gateway import QUESTION
from model_gateway.config.load import load
from model_gateway.pb import gateway_pb2 as pb
from model_gateway.pb import gateway_pb2_grpc
from model_gateway.workers.reload import Reloader
from model_gateway.workers.supervisor import Supervisor

SERVER: dict[str, Any] = {
    "port": 0, "httpPort": 0, "controlPort": 0, "shutdownGrace": 15_000, "reloadOnChange": False,
}  # fmt: skip
MESSAGES = [{"role": "user", "content": QUESTION}]


def document(url: str, **more: Any) -> dict[str, Any]:
    provider: dict[str, Any] = {
        "baseUrl": url, "defaultModel": "fixture-model", "supportedModelTypes": ["local", "hybrid", "remote"],
        "pricePerMillionInput": 1, "pricePerMillionOutput": 2, "maxConcurrentQueries": 1000,
    }  # fmt: skip
    base: dict[str, Any] = {
        "server": SERVER,
        "providers": {"embedded": {"status": "offline"}, "fixture": provider},
        "cache": {"enabled": False},
        "ledger": {"flushInterval": 20},
        "logging": {"destination": "file"},
    }
    return base | more


class Fleeted:
    """What a test holds of a running gateway."""

    def __init__(self, gateway: Supervisor, file: Path, reloader: Reloader) -> None:
        self.gateway = gateway
        self.file = file
        self.reloader = reloader
        self.met: Counter[str] = Counter()
        self.base = f"http://127.0.0.1:{gateway.http_port}"
        self.control = f"http://127.0.0.1:{gateway.control_port}"

    def pids(self) -> list[int]:
        return [worker.pid for worker in self.gateway.health().workers if worker.state == "serving"]

    def write(self, written: dict[str, Any]) -> None:
        self.file.write_text(yaml.safe_dump(written))

    async def metrics(self) -> dict[str, float]:
        async with httpx.AsyncClient() as client:
            lines = (await client.get(f"{self.control}/metrics")).text.splitlines()
        found = (line.rpartition(" ") for line in lines if not line.startswith("#"))
        return {name: float(value) for name, _, value in found}

    async def ask(self, client: httpx.AsyncClient) -> None:
        try:
            body = {"model": "auto", "messages": MESSAGES}
            reply = await client.post(f"{self.base}/v1/chat/completions", json=body)
            self.met[str(reply.status_code)] += 1
        except httpx.HTTPError as error:
            self.met[type(error).__name__] += 1

    async def keep_asking(self, done: asyncio.Event) -> None:
        """Requests on one connection, one after the other."""
        async with httpx.AsyncClient(timeout=30) as client:
            while not done.is_set():
                await self.ask(client)

    async def keep_knocking(self, done: asyncio.Event) -> None:
        """Requests on a new connection each."""
        while not done.is_set():
            async with httpx.AsyncClient(timeout=30) as client:
                await self.ask(client)
            await asyncio.sleep(0.01)

    async def keep_calling(self, done: asyncio.Event) -> None:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{self.gateway.grpc_port}", options=RETRYING) as channel:
            stub = gateway_pb2_grpc.ModelGatewayServiceStub(channel)
            while not done.is_set():
                try:
                    await stub.ProcessQuery(pb.ModelRequest(query=QUESTION))
                    self.met["called"] += 1
                except grpc.aio.AioRpcError as error:
                    self.met[f"{error.code().name}: {error.details()}"] += 1

    async def keep_assessing(self, done: asyncio.Event) -> None:
        """Short calls on a connection of its own, never sent again."""
        async with grpc.aio.insecure_channel(f"127.0.0.1:{self.gateway.grpc_port}", options=OWN) as channel:
            stub = gateway_pb2_grpc.ModelGatewayServiceStub(channel)
            while not done.is_set():
                try:
                    await stub.EvaluateComplexity(pb.ComplexityEvaluationRequest(query="why?"))
                    self.met["assessed"] += 1
                except grpc.aio.AioRpcError as error:
                    self.met[f"{error.code().name}: {error.details()}"] += 1

    async def http_stream(self, client: httpx.AsyncClient) -> None:
        try:
            body = {"model": "auto", "messages": MESSAGES, "stream": True}
            text = (await client.post(f"{self.base}/v1/chat/completions", json=body)).text
            self.met["streamed" if text.rstrip().endswith("[DONE]") else f"cut: {text[-200:]}"] += 1
        except httpx.HTTPError as error:
            self.met[f"stream: {type(error).__name__}"] += 1

    async def grpc_stream(self, channel: grpc.aio.Channel) -> None:
        stub = gateway_pb2_grpc.ModelGatewayServiceStub(channel)
        try:
            last = None
            async for chunk in stub.ProcessQueryStream(pb.ModelRequest(query=QUESTION)):
                last = chunk
            self.met["grpc streamed" if last is not None and last.HasField("result") else "grpc cut"] += 1
        except grpc.aio.AioRpcError as error:
            self.met[f"grpc stream: {error.code().name}: {error.details()}"] += 1


OWN = (("grpc.use_local_subchannel_pool", 1),)
"""A connection of its own for each channel, as different clients have."""


RETRYING = (
    *OWN,
    (
        "grpc.service_config",
        json.dumps(
            {
                "methodConfig": [
                    {
                        "name": [{"service": "modelgateway.ModelGatewayService"}],
                        "retryPolicy": {
                            "maxAttempts": 3,
                            "initialBackoff": "0.01s",
                            "maxBackoff": "1s",
                            "backoffMultiplier": 2,
                            "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
                        },
                    }
                ]
            }
        ),
    ),
)
"""As docs/operations.md tells clients: grpc's server cancels what reaches it in the moment in which it says goodbye."""


@asynccontextmanager
async def fleet(
    folder: Path, written: dict[str, Any], monkeypatch: pytest.MonkeyPatch, workers: int = 2
) -> AsyncGenerator[Fleeted]:
    monkeypatch.chdir(folder)  # the ledger and the log are in it
    file = folder / "gateway.yaml"
    file.write_text(yaml.safe_dump(written))
    loaded = load(None, {}, folder)
    async with Supervisor(loaded.config, workers) as gateway:
        reloader = Reloader(gateway.operations, loaded, None, {}, folder)
        gateway.operations.reload = reloader.reload
        yield Fleeted(gateway, file, reloader)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
