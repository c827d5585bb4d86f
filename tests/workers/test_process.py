"""`serve --workers 2` as its operators meet it: SIGTERM, a supervisor that is killed, Ctrl-C, a file that changes."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import yaml

from fleets import MESSAGES, alive, document
from upstream import FixtureUpstream, chat, events, fixture, until


class Process:
    """A running `serve`."""

    def __init__(self, process: asyncio.subprocess.Process, file: Path, written: dict[str, Any]) -> None:
        server = written["server"]
        self.process = process
        self.file = file
        self.written = written
        self.url = f"http://127.0.0.1:{server['httpPort']}/v1/chat/completions"
        self.control = f"http://127.0.0.1:{server['controlPort']}"

    async def get(self, path: str) -> httpx.Response | None:
        async with httpx.AsyncClient() as client:
            try:
                return await client.get(f"{self.control}{path}")
            except httpx.HTTPError:
                return None

    async def status(self, path: str) -> int:
        reply = await self.get(path)
        return 0 if reply is None else reply.status_code

    async def until_ready(self) -> None:
        async with asyncio.timeout(30):
            while await self.status("/health/ready") != 200:  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    def workers(self) -> list[int]:
        found: list[int] = []
        for child in psutil.Process(self.process.pid).children():
            with suppress(psutil.NoSuchProcess):  # it has ended meanwhile
                if "model_gateway.workers.worker" in child.cmdline():
                    found.append(child.pid)
        return found

    async def ended(self) -> int:
        async with asyncio.timeout(20):
            return await self.process.wait()


@asynccontextmanager
async def process(folder: Path, url: str, **server: Any) -> AsyncGenerator[Process]:
    ports = free_ports(3)
    options = {"port": ports[0], "httpPort": ports[1], "controlPort": ports[2], "shutdownGrace": 10_000}
    written = document(url, server=options | server)
    file = folder / "gateway.yaml"
    file.write_text(yaml.safe_dump(written))
    with (folder / "out.log").open("wb") as out:
        arguments = ("-m", "model_gateway.cli", "serve", "--workers", "2")
        started = await asyncio.create_subprocess_exec(sys.executable, *arguments, cwd=folder, stdout=out, stderr=out)
    running = Process(started, file, written)
    try:
        await running.until_ready()
        yield running
    finally:
        with suppress(ProcessLookupError):
            started.kill()
        await started.wait()


def free_ports(count: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    return ports


async def streamed(url: str) -> str:
    async with httpx.AsyncClient(timeout=30) as client:
        return (await client.post(url, json={"model": "auto", "messages": MESSAGES, "stream": True})).text


async def test_sigterm_ends_it_when_the_last_request_has(tmp_path: Path) -> None:
    slow = events(fixture("stream.sse"), pace_s=0.25)
    async with FixtureUpstream(slow) as upstream, process(tmp_path, upstream.url) as gateway:
        streams = [asyncio.create_task(streamed(gateway.url)) for _ in range(20)]
        await until(lambda: upstream.busy == 20)
        workers = gateway.workers()
        gateway.process.send_signal(signal.SIGTERM)
        await asyncio.sleep(0.2)
        assert await gateway.status("/health/ready") == 503
        assert await gateway.status("/health/live") == 200, "nobody shall kill it while it drains"
        assert not any(stream.done() for stream in streams)
        texts = await asyncio.gather(*streams)
        assert all(text.rstrip().endswith("[DONE]") for text in texts)
        assert await gateway.ended() == 0
        assert len(workers) == 2 and not any(alive(pid) for pid in workers)


async def test_ctrl_c_in_a_terminal_reaches_all_and_is_the_supervisors_to_answer(tmp_path: Path) -> None:
    slow = events(fixture("stream.sse"), pace_s=0.1)
    async with FixtureUpstream(slow) as upstream, process(tmp_path, upstream.url) as gateway:
        stream = asyncio.create_task(streamed(gateway.url))
        await until(lambda: upstream.busy == 1)
        for pid in (gateway.process.pid, *gateway.workers()):
            os.kill(pid, signal.SIGINT)
        assert (await stream).rstrip().endswith("[DONE]")
        assert await gateway.ended() == 0
        assert "Traceback" not in (tmp_path / "out.log").read_text()


async def test_workers_do_not_outlive_their_supervisor_and_end_what_they_began(tmp_path: Path) -> None:
    slow = events(fixture("stream.sse"), pace_s=0.1)
    async with FixtureUpstream(slow) as upstream, process(tmp_path, upstream.url) as gateway:
        stream = asyncio.create_task(streamed(gateway.url))
        await until(lambda: upstream.busy == 1)
        workers = gateway.workers()
        gateway.process.kill()
        assert (await stream).rstrip().endswith("[DONE]")
        await until(lambda: not any(alive(pid) for pid in workers), 15)
        async with process(tmp_path, upstream.url) as again:  # the ledger is free, and what was left is in it
            assert await again.status("/health") == 200


async def test_a_worker_that_is_told_to_end_is_replaced(tmp_path: Path) -> None:
    async with FixtureUpstream(chat) as upstream, process(tmp_path, upstream.url) as gateway:
        first, second = gateway.workers()
        os.kill(first, signal.SIGTERM)
        await until(lambda: not alive(first), 15)
        await until(lambda: len(gateway.workers()) == 2, 15)
        assert second in gateway.workers()


async def test_a_changed_file_and_sighup(tmp_path: Path) -> None:
    async with FixtureUpstream(chat) as upstream, process(tmp_path, upstream.url) as gateway:
        workers = gateway.workers()
        gateway.written["routing"] = {"fallback": False}
        gateway.file.write_text(yaml.safe_dump(gateway.written))

        async def generation(wanted: int) -> None:
            async with asyncio.timeout(10):
                while True:
                    reply = await gateway.get("/health")
                    if reply is not None and reply.json()["configuration"]["generation"] == wanted:
                        return
                    await asyncio.sleep(0.05)

        await generation(2)
        assert gateway.workers() == workers, "a reload needs no new processes"
        gateway.process.send_signal(signal.SIGHUP)
        await until(lambda: not set(workers) & set(gateway.workers()) and len(gateway.workers()) == 2, 20)
        await gateway.until_ready()
