"""Hours of mixed traffic with a fault every minute: does anybody notice, and does anything grow? `make soak`.

One gateway as a process of its own, two providers: the first fails in turn in every way below, the second is the
fallback. Callers use both doors, whole and streamed, new and kept connections, cache hits and misses; every minute the
configuration is reloaded, too. Memory, descriptors and threads are read from the operating system.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import random
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import grpc
import httpx
import psutil
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from model_gateway.pb import gateway_pb2 as pb
from model_gateway.pb import gateway_pb2_grpc
from upstream import FixtureUpstream, Seen, chat, hang_up, silence, whole

WARM_UP: Final = 0.25
"""Part of the time that is not measured for growth."""

FAULTS: Final[dict[str, Callable[[Seen, asyncio.StreamWriter], Awaitable[None]]]] = {
    "closes": hang_up,
    "is silent": silence,
    "500": whole(b"{}", 500),
    "429": whole(b'{"error":{"message":"slow down"}}', 429, retry_after="1"),
    "no JSON": whole(b"<html>"),
    "empty": whole(b""),
}


@dataclass
class Result:
    """`growth_bytes`: of resident memory after the warm-up; `descriptors`: at the warm-up's end, at the end."""

    seconds: float = 0.0
    met: Counter[str] = field(default_factory=Counter[str])
    growth_bytes: int = 0
    measured: int = 0
    descriptors: tuple[int, int] = (0, 0)
    threads: tuple[int, int] = (0, 0)
    in_flight: float = 0.0
    faults: int = 0

    @property
    def requests(self) -> int:
        return sum(self.met.values())

    @property
    def failed(self) -> dict[str, int]:
        return {name: count for name, count in self.met.items() if not name.endswith("ok")}


class Soak:
    """`run` it for so many seconds, with a fault every `fault_s`."""

    def __init__(self, folder: Path, seconds: float, fault_s: float, callers: int = 4) -> None:
        self._folder = folder
        self._seconds = seconds
        self._fault_s = fault_s
        self._callers = callers
        self._done = asyncio.Event()
        self._random = random.Random(1)
        self._numbers = itertools.count()
        self.result = Result()

    async def run(self) -> Result:
        async with AsyncExitStack() as stack:
            weak = await stack.enter_async_context(FixtureUpstream(chat))
            strong = await stack.enter_async_context(FixtureUpstream(chat))
            process = await self._gateway(weak.url, strong.url)
            try:
                await self._ready(process)
                begun = time.monotonic()
                kinds = (self._whole, self._streams, self._new, self._calls)
                tasks = [asyncio.create_task(kind()) for kind in kinds for _ in range(self._callers)]
                tasks.append(asyncio.create_task(self._trouble(weak)))
                await self._measured(psutil.Process(process.pid))
                self._done.set()
                await asyncio.gather(*tasks)
                self.result.seconds = time.monotonic() - begun
                await self._rested(psutil.Process(process.pid))
            finally:
                if process.returncode is None:
                    process.terminate()
                await process.wait()
        return self.result

    async def _measured(self, process: psutil.Process) -> None:
        await asyncio.sleep(self._seconds * WARM_UP)
        memory, asked = process.memory_info().rss, self.result.requests
        await asyncio.sleep(self._seconds * (1 - WARM_UP))
        self.result.growth_bytes = process.memory_info().rss - memory
        self.result.measured = self.result.requests - asked

    async def _rested(self, process: psutil.Process) -> None:
        """When all callers have gone, what is left of them?"""
        await asyncio.sleep(2.0)
        self.result.descriptors = self._descriptors, process.num_fds()
        self.result.threads = self._threads, process.num_threads()
        async with httpx.AsyncClient() as client:
            lines = (await client.get(f"{self._control}/metrics")).text.splitlines()
        found = [float(line.rpartition(" ")[2]) for line in lines if line.startswith("model_gateway_in_flight{")]
        self.result.in_flight = sum(found)

    async def _gateway(self, weak: str, strong: str) -> asyncio.subprocess.Process:
        held = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
        ports = [each.getsockname()[1] for each in held]
        for each in held:
            each.close()
        self._grpc, self._http = f"127.0.0.1:{ports[0]}", f"http://127.0.0.1:{ports[1]}/v1/chat/completions"
        self._control = f"http://127.0.0.1:{ports[2]}"
        common = {"supportedModelTypes": ["local", "hybrid", "remote"], "maxConcurrentQueries": 200, "retryCount": 0}
        cheap = {"firstTokenTimeout": 1000, "timeout": 1000, "pricePerMillionInput": 1, "pricePerMillionOutput": 1}
        dear = {"pricePerMillionInput": 9, "pricePerMillionOutput": 9}
        self._written: dict[str, Any] = {
            "server": {"port": ports[0], "httpPort": ports[1], "controlPort": ports[2], "shutdownGrace": 5000},
            "providers": {
                "embedded": {"status": "offline"},
                "weak": {
                    "baseUrl": weak,
                    "defaultModel": "weak-model",
                    **common,
                    **cheap,
                },
                "strong": {"baseUrl": strong, "defaultModel": "strong-model", **common, **dear},
            },
            "logging": {"destination": "file"},
        }
        self._write()
        out = (self._folder / "out.log").open("wb")
        with out:
            arguments = ("-m", "model_gateway.cli", "serve")
            return await asyncio.create_subprocess_exec(
                sys.executable, *arguments, cwd=self._folder, stdout=out, stderr=out
            )

    def _write(self) -> None:
        (self._folder / "gateway.yaml").write_text(yaml.safe_dump(self._written))

    async def _ready(self, process: asyncio.subprocess.Process) -> None:
        async with asyncio.timeout(30), httpx.AsyncClient() as client:
            while True:
                if process.returncode is not None:
                    raise RuntimeError((self._folder / "out.log").read_text())
                try:
                    if (await client.get(f"{self._control}/health/ready")).is_success:
                        break
                except httpx.HTTPError:
                    await asyncio.sleep(0.1)
            await client.get(f"{self._control}/metrics")
        started = psutil.Process(process.pid)
        self._descriptors, self._threads = started.num_fds(), started.num_threads()

    async def _trouble(self, weak: FixtureUpstream) -> None:
        """A third of the time all is well."""
        for name, fault in itertools.cycle(FAULTS.items()):
            for answer, part in ((chat, 1 / 3), (fault, 2 / 3)):
                weak.answer = answer
                try:
                    async with asyncio.timeout(self._fault_s * part):
                        await self._done.wait()
                        return
                except TimeoutError:
                    pass
            self.result.faults += 1
            self._written["routing"] = {"aliases": {f"after {name}".replace(" ", "-"): "strong-model"}}
            self._write()

    # --- callers -----------------------------------------------------------------------------------------------------

    def _body(self, **more: Any) -> dict[str, Any]:
        number = next(self._numbers) if self._random.random() < 0.8 else 0  # one in five from the cache
        return {"model": "auto", "messages": [{"role": "user", "content": f"What is {number} plus one?"}], **more}

    async def _whole(self) -> None:
        async with httpx.AsyncClient(timeout=30) as client:
            while not self._done.is_set():
                await self._ask(client, "whole")

    async def _new(self) -> None:
        while not self._done.is_set():
            async with httpx.AsyncClient(timeout=30) as client:
                await self._ask(client, "new connection")
            await asyncio.sleep(0.05)

    async def _ask(self, client: httpx.AsyncClient, what: str) -> None:
        try:
            reply = await client.post(self._http, json=self._body())
            good = reply.is_success and reply.json()["choices"][0]["message"]["content"]
            self.result.met[f"{what} ok" if good else f"{what} {reply.status_code} {reply.text[:200]}"] += 1
        except httpx.HTTPError as error:
            self.result.met[f"{what} {type(error).__name__}"] += 1

    async def _streams(self) -> None:
        async with httpx.AsyncClient(timeout=30) as client:
            while not self._done.is_set():
                try:
                    reply = await client.post(self._http, json=self._body(stream=True))
                    good = reply.text.rstrip().endswith("[DONE]")
                    self.result.met["stream ok" if good else f"stream {reply.text[-200:]}"] += 1
                except httpx.HTTPError as error:
                    self.result.met[f"stream {type(error).__name__}"] += 1

    async def _calls(self) -> None:
        async with grpc.aio.insecure_channel(self._grpc) as channel:
            stub = gateway_pb2_grpc.ModelGatewayServiceStub(channel)
            while not self._done.is_set():
                query = self._body()["messages"][0]["content"]
                try:
                    await stub.ProcessQuery(pb.ModelRequest(query=query), timeout=30)
                    self.result.met["call ok"] += 1
                except grpc.aio.AioRpcError as error:
                    self.result.met[f"call {error.code().name} {error.details()}"] += 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3 * 3600)
    parser.add_argument("--fault-seconds", type=float, default=60)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = asyncio.run(Soak(Path(folder), options.seconds, options.fault_seconds).run())
    shown = {
        "seconds": round(result.seconds),
        "requests": result.requests,
        "faults": result.faults,
        "failed": result.failed,
        "failed_percent": round(100 * sum(result.failed.values()) / max(result.requests, 1), 5),
        "growth_mb_per_100k": round(result.growth_bytes / 1e6 / max(result.measured, 1) * 100_000, 2),
        "growth_mb": round(result.growth_bytes / 1e6, 2),
        "descriptors": result.descriptors,
        "threads": result.threads,
        "in_flight": result.in_flight,
    }
    print(json.dumps(shown, indent=2))
    sys.exit(1 if result.failed else 0)


if __name__ == "__main__":
    main()
