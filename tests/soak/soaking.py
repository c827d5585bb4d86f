"""Hours of mixed traffic with a fault every minute: does anybody notice, and does anything grow? `make soak`.

One gateway, of one process or several, and two providers: the first fails in turn in every way below, the second is the
fallback. What callers do is in traffic.py; every fault is followed by a reload. The gateway is looked at when it is
warm and its callers have gone, again when it has served most of the time and they have gone once more, and while they
are there. What differs between the two rests has leaked.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import re
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import psutil
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from traffic import Traffic

from upstream import FixtureUpstream, Seen, chat, hang_up, silence, whole

WARM_UP: Final = 0.25
"""Part of the time before the first rest."""

REST_S: Final = 3.0
"""Between two looks whether anything is left of the callers."""

REST_LOOKS: Final = 4

FAULTS: Final[dict[str, Callable[[Seen, asyncio.StreamWriter], Awaitable[None]]]] = {
    "closes": hang_up,
    "is silent": silence,
    "500": whole(b"{}", 500),
    "429": whole(b'{"error":{"message":"slow down"}}', 429, retry_after="1"),
    "no JSON": whole(b"<html>"),
    "empty": whole(b""),
}


@dataclass(frozen=True)
class Figures:
    """At one moment, of the processes that serve. Megabytes are of one of them on average, all else is the sum.

    `private_mb` leaves out what files in memory take (libraries, the ledger and its journal).
    """

    resident_mb: float
    private_mb: float
    descriptors: int
    threads: int
    tasks: int
    in_flight: int


@dataclass
class Result:
    """`begun`: when it was ready; `warm`: at the first rest; `loaded`: under load, at its end; `rested`: at the end."""

    begun: Figures
    warm: Figures
    loaded: Figures
    rested: Figures
    seconds: float
    warming: int
    faults: int
    workers: int
    met: Counter[str]

    @property
    def requests(self) -> int:
        return sum(self.met.values())

    @property
    def failed(self) -> dict[str, int]:
        return {name: count for name, count in self.met.items() if not name.endswith("ok")}

    def growth(self, before: float, after: float) -> float:
        """Per 100,000 requests of one process."""
        return (after - before) / max(self.requests - self.warming, 1) * 100_000 * self.workers


class Soak:
    """`run` it for so many seconds, with a fault every `fault_s`. `callers`: of each of the busy kinds."""

    def __init__(self, folder: Path, seconds: float, fault_s: float, callers: int = 4, workers: int = 1) -> None:
        self._folder = folder
        self._seconds = seconds
        self._fault_s = fault_s
        self._callers = callers
        self._workers = workers
        self._faults = 0

    async def run(self) -> Result:
        async with AsyncExitStack() as stack:
            weak = await stack.enter_async_context(FixtureUpstream(chat))
            strong = await stack.enter_async_context(FixtureUpstream(chat))
            process = await self._gateway(weak.url, strong.url)
            try:
                await self._ready(process)
                return await self._measured(psutil.Process(process.pid), weak)
            finally:
                if process.returncode is None:
                    process.terminate()
                await process.wait()

    async def _measured(self, process: psutil.Process, weak: FixtureUpstream) -> Result:
        serving = process.children() if self._workers > 1 else [process]
        begun_s, begun = time.monotonic(), await self._figures(serving)
        traffic = Traffic(*self._doors, self._callers)
        await self._load(traffic, weak, serving, self._seconds * WARM_UP)
        warm = await self._rest(serving, begun)
        warming = sum(traffic.met.values())
        loaded = await self._load(traffic, weak, serving, self._seconds * (1 - WARM_UP))
        rested = await self._rest(serving, warm)
        seconds = time.monotonic() - begun_s
        return Result(begun, warm, loaded, rested, seconds, warming, self._faults, self._workers, traffic.met)

    async def _load(
        self, traffic: Traffic, weak: FixtureUpstream, serving: list[psutil.Process], seconds: float
    ) -> Figures:
        """Returns how it is at its end."""
        running = asyncio.create_task(traffic.run())
        trouble = asyncio.create_task(self._trouble(weak, traffic.done))
        await asyncio.sleep(seconds)
        figures = await self._figures(serving)
        traffic.done.set()
        await asyncio.gather(running, trouble)
        weak.answer = chat
        return figures

    async def _rest(self, serving: list[psutil.Process], before: Figures) -> Figures:
        looks = 0
        while True:
            await asyncio.sleep(REST_S)
            figures, looks = await self._figures(serving), looks + 1
            gone = figures.descriptors <= before.descriptors and figures.tasks <= before.tasks
            if gone or looks == REST_LOOKS:
                return figures

    async def _figures(self, serving: list[psutil.Process]) -> Figures:
        async with httpx.AsyncClient() as client:
            text = (await client.get(f"{self._control}/metrics")).text
        memory = [each.memory_info() for each in serving]
        return Figures(
            resident_mb=round(sum(each.rss for each in memory) / len(memory) / 1e6, 2),
            private_mb=round(sum(each.rss - each.shared for each in memory) / len(memory) / 1e6, 2),
            descriptors=sum(each.num_fds() for each in serving),
            threads=sum(each.num_threads() for each in serving),
            tasks=_sum(text, "model_gateway_tasks"),
            in_flight=_sum(text, "model_gateway_in_flight"),
        )

    async def _gateway(self, weak: str, strong: str) -> asyncio.subprocess.Process:
        held = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
        ports = [each.getsockname()[1] for each in held]
        for each in held:
            each.close()
        self._doors = f"127.0.0.1:{ports[0]}", f"http://127.0.0.1:{ports[1]}"
        self._control = f"http://127.0.0.1:{ports[2]}"
        common = {"supportedModelTypes": ["local", "hybrid", "remote"], "maxConcurrentQueries": 200, "retryCount": 0}
        cheap = {"firstTokenTimeout": 1000, "timeout": 1000, "pricePerMillionInput": 1, "pricePerMillionOutput": 1}
        dear = {"pricePerMillionInput": 9, "pricePerMillionOutput": 9}
        self._written: dict[str, Any] = {
            "server": {
                "port": ports[0],
                "httpPort": ports[1],
                "controlPort": ports[2],
                "shutdownGrace": 5000,
                "workers": self._workers,
            },
            "providers": {
                "embedded": {"status": "offline"},
                "weak": {"baseUrl": weak, "defaultModel": "weak-model", **common, **cheap},
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
        """All of them: `/health` says 503 while a worker is missing."""
        async with asyncio.timeout(180), httpx.AsyncClient() as client:
            while True:
                if process.returncode is not None:
                    raise RuntimeError((self._folder / "out.log").read_text())
                try:
                    if (await client.get(f"{self._control}/health")).is_success:
                        return
                except httpx.HTTPError:
                    pass
                await asyncio.sleep(0.1)

    async def _trouble(self, weak: FixtureUpstream, done: asyncio.Event) -> None:
        """A third of the time all is well."""
        for name, fault in itertools.cycle(FAULTS.items()):
            for answer, part in ((chat, 1 / 3), (fault, 2 / 3)):
                weak.answer = answer
                try:
                    async with asyncio.timeout(self._fault_s * part):
                        await done.wait()
                        return
                except TimeoutError:
                    pass
            self._faults += 1
            self._written["routing"] = {"aliases": {f"after {name}".replace(" ", "-"): "strong-model"}}
            self._write()


def _sum(text: str, name: str) -> int:
    return int(sum(float(value) for value in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3 * 3600)
    parser.add_argument("--fault-seconds", type=float, default=60)
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        soak = Soak(Path(folder), options.seconds, options.fault_seconds, workers=options.workers)
        result = asyncio.run(soak.run())
    for name in ("begun", "warm", "loaded", "rested"):
        print(f"{name:>7}: {getattr(result, name)}")
    shown = {
        "seconds": round(result.seconds),
        "requests": result.requests,
        "per_second": round(result.requests / result.seconds, 1),
        "faults": result.faults,
        "failed": result.failed,
        "failed_percent": round(100 * sum(result.failed.values()) / max(result.requests, 1), 5),
        "resident_growth_mb_per_100k": round(result.growth(result.warm.resident_mb, result.rested.resident_mb), 2),
        "private_growth_mb_per_100k": round(result.growth(result.warm.private_mb, result.rested.private_mb), 2),
        "met": dict(result.met),
    }
    print(json.dumps(shown, indent=2))
    sys.exit(1 if result.failed else 0)


if __name__ == "__main__":
    main()
